// One input or output: how the source model's values become the artifact's tensor, and back.

package dev.edgekit

import java.nio.ByteBuffer
import java.nio.ByteOrder

/** The types of numbers in an artifact. */
enum class Type(val bytes: Int, val range: LongRange) {
    FLOAT32(4, 0L..0L),
    BOOL(1, 0L..1L),
    INT8(1, -128L..127L),
    UINT8(1, 0L..255L),
    INT32(4, Int.MIN_VALUE.toLong()..Int.MAX_VALUE.toLong()),
    INT64(8, Long.MIN_VALUE..Long.MAX_VALUE),
}

/** `real = scale * (stored - zeroPoint)`. */
class Quantization(val scale: Float, val zeroPoint: Int) {
    /** The nearest stored value, ties to the even one, as the quantizer rounds. */
    fun stored(real: Float, range: LongRange): Long {
        require(!real.isNaN()) { "a quantized input cannot hold NaN" }
        val nearest = Math.rint((real / scale).toDouble()) + zeroPoint
        return nearest.coerceIn(range.first.toDouble(), range.last.toDouble()).toLong()
    }

    fun real(stored: Long): Float = (stored - zeroPoint) * scale
}

/**
 * An input or an output.
 *
 * @property name the artifact's name for it.
 * @property shape of the source model: what the app gives or gets, the last axis fastest.
 * @property source what the app gives or gets: FLOAT32 is a FloatArray, BOOL a BooleanArray, INT8
 *     and UINT8 are a ByteArray, INT32 is an IntArray and INT64 a LongArray.
 * @property type what the artifact takes or gives.
 * @property permutation the artifact's axis i is the source's axis permutation[i].
 */
class Tensor(
    val name: String,
    val shape: IntArray,
    val source: Type,
    val type: Type,
    permutation: IntArray,
    private val quantization: Quantization? = null,
) {
    val count: Int = shape.fold(1, Int::times)
    val artifactShape: LongArray = LongArray(shape.size) { shape[permutation[it]].toLong() }

    /** Where the artifact's elements, in their order, lie in the source's; null: in the same one. */
    private val places: IntArray? =
        if (permutation.withIndex().all { it.index == it.value }) null else places(permutation)

    /** The app's values as the artifact takes them: a new direct buffer, in the native byte order. */
    fun encode(values: Any): ByteBuffer {
        require(size(values) == count) {
            "$name takes ${shape.joinToString(" x ")} = $count values, got ${size(values)}"
        }
        val buffer = allocate(count * type.bytes)
        for (index in 0 until count) {
            val place = places?.get(index) ?: index
            when (values) {
                is FloatArray -> put(buffer, values[place])
                is IntArray -> put(buffer, values[place].toLong())
                is LongArray -> put(buffer, values[place])
                is ByteArray -> put(buffer, whole(values[place], source))
                is BooleanArray -> put(buffer, if (values[place]) 1L else 0L)
            }
        }
        buffer.rewind()
        return buffer
    }

    /** What the artifact gave as the app gets it: an array of `source`'s kind. */
    fun decode(buffer: ByteBuffer): Any {
        check(buffer.limit() == count * type.bytes) {
            "$name should be ${count * type.bytes} bytes, the runtime gave ${buffer.limit()}"
        }
        return when (source) {
            Type.FLOAT32 -> FloatArray(count).also { each { from, to -> it[to] = real(buffer, from) } }
            Type.BOOL ->
                BooleanArray(count).also { each { from, to -> it[to] = whole(buffer, from) != 0L } }
            Type.INT8, Type.UINT8 ->
                ByteArray(count).also { each { from, to -> it[to] = whole(buffer, from).toByte() } }
            Type.INT32 ->
                IntArray(count).also { each { from, to -> it[to] = whole(buffer, from).toInt() } }
            Type.INT64 -> LongArray(count).also { each { from, to -> it[to] = whole(buffer, from) } }
        }
    }

    private inline fun each(move: (from: Int, to: Int) -> Unit) {
        for (index in 0 until count) move(index, places?.get(index) ?: index)
    }

    private fun size(values: Any): Int = when {
        values is FloatArray && source == Type.FLOAT32 -> values.size
        values is BooleanArray && source == Type.BOOL -> values.size
        values is ByteArray && (source == Type.INT8 || source == Type.UINT8) -> values.size
        values is IntArray && source == Type.INT32 -> values.size
        values is LongArray && source == Type.INT64 -> values.size
        else -> throw IllegalArgumentException("$name takes $source, got ${values.javaClass.simpleName}")
    }

    private fun put(buffer: ByteBuffer, real: Float) {
        if (quantization != null) {
            put(buffer, quantization.stored(real, type.range))
        } else {
            check(type == Type.FLOAT32) { "$name takes real numbers, and the artifact $type" }
            buffer.putFloat(real)
        }
    }

    private fun put(buffer: ByteBuffer, whole: Long) {
        if (type == Type.FLOAT32) {
            buffer.putFloat(whole.toFloat())
            return
        }
        require(whole in type.range) { "$name holds $whole, the artifact takes ${type.range}" }
        when (type.bytes) {
            1 -> buffer.put(whole.toByte())
            4 -> buffer.putInt(whole.toInt())
            else -> buffer.putLong(whole)
        }
    }

    private fun real(buffer: ByteBuffer, index: Int): Float = when {
        type == Type.FLOAT32 -> buffer.getFloat(index * type.bytes)
        quantization != null -> quantization.real(whole(buffer, index))
        else -> whole(buffer, index).toFloat()
    }

    private fun whole(buffer: ByteBuffer, index: Int): Long = when (type) {
        Type.FLOAT32 -> buffer.getFloat(index * type.bytes).toLong()
        Type.INT32 -> buffer.getInt(index * type.bytes).toLong()
        Type.INT64 -> buffer.getLong(index * type.bytes)
        else -> whole(buffer.get(index), type)
    }

    private fun places(permutation: IntArray): IntArray {
        val strides = IntArray(shape.size)
        var stride = 1
        for (axis in shape.indices.reversed()) {
            strides[axis] = stride
            stride *= shape[axis]
        }
        var places = intArrayOf(0)
        for (axis in permutation) {
            places = places.flatMap { place -> List(shape[axis]) { place + it * strides[axis] } }
                .toIntArray()
        }
        return places
    }
}

private fun whole(byte: Byte, type: Type): Long =
    if (type == Type.UINT8) byte.toLong() and 0xFF else byte.toLong()

/** A direct buffer in the native byte order, which is what runtimes take. */
internal fun allocate(bytes: Int): ByteBuffer =
    ByteBuffer.allocateDirect(bytes).order(ByteOrder.nativeOrder())
