// A loaded artifact, whatever runs it; and one that remembers what it was asked.

package dev.edgekit

import java.nio.ByteBuffer
import java.nio.ByteOrder

/** The artifact's tensors in, the artifact's tensors out. For one thread at a time. */
interface Session : AutoCloseable {
    /**
     * Runs the artifact once.
     *
     * @param inputs in the artifact's order, from position 0; they are left as they are.
     * @return new buffers in the native byte order, which nothing else holds.
     */
    fun run(inputs: List<ByteBuffer>): List<ByteBuffer>
}

/**
 * A session that answers what it was asked before, to the last bit, without running the artifact.
 *
 * @param capacity how many answers are kept; the one that was longest of no use goes first.
 */
class CachedSession(private val session: Session, private val capacity: Int) : Session {
    var hits = 0L
        private set

    private val kept =
        object : LinkedHashMap<List<ByteBuffer>, List<ByteBuffer>>(16, 0.75f, true) {
            override fun removeEldestEntry(
                eldest: MutableMap.MutableEntry<List<ByteBuffer>, List<ByteBuffer>>
            ): Boolean = size > capacity
        }

    init {
        require(capacity > 0) { "a cache of $capacity answers keeps none" }
    }

    override fun run(inputs: List<ByteBuffer>): List<ByteBuffer> {
        val known = kept[inputs]
        if (known != null) hits++
        val answer = known ?: session.run(inputs).also { kept[inputs] = it }
        return answer.map { it.duplicate().order(ByteOrder.nativeOrder()) }
    }

    override fun close() {
        kept.clear()
        session.close()
    }
}
