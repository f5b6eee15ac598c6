// A small model first; a large one only where the small one is not sure.

package dev.edgekit

/**
 * @param confidence of an answer of the small model, for example
 *     `{ margin(softmax(it.logits)) }`.
 * @param threshold from which confidence on the small model's answer stands.
 */
class Cascade<A, B>(
    private val small: (A) -> B,
    private val large: (A) -> B,
    private val confidence: (B) -> Float,
    private val threshold: Float,
) {
    fun predict(input: A): B {
        val first = small(input)
        // A confidence that is NaN is none.
        return if (confidence(first) >= threshold) first else large(input)
    }
}
