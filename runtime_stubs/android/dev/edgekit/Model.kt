// A model as the app sees it: the source model's values in, the source model's values out.

package dev.edgekit

/**
 * @param inputs in the order in which the session takes them.
 * @param outputs in the order in which the session gives them.
 */
class Model(
    private val inputs: List<Tensor>,
    private val outputs: List<Tensor>,
    private val session: Session,
) : AutoCloseable {
    private var isOpen = true

    /** Runs the model; calls from several threads wait for one another. */
    fun run(vararg values: Any): List<Any> {
        require(values.size == inputs.size) { "expected ${inputs.size} inputs, got ${values.size}" }
        val encoded = inputs.zip(values) { tensor, value -> tensor.encode(value) }
        val given = synchronized(this) {
            check(isOpen) { "the model is closed" }
            session.run(encoded)
        }
        return outputs.zip(given) { tensor, buffer -> tensor.decode(buffer) }
    }

    override fun close() = synchronized(this) {
        if (isOpen) session.close()
        isOpen = false
    }
}
