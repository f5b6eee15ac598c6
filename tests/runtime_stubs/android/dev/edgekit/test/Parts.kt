// The wrapper's parts that need no Android, tried one by one; prints the names of those that hold.

package dev.edgekit.test

import dev.edgekit.*
import java.io.ByteArrayInputStream
import java.nio.ByteBuffer
import java.util.concurrent.CancellationException
import java.util.concurrent.CountDownLatch
import java.util.concurrent.ExecutionException
import kotlin.reflect.KClass

fun tensor(type: Type, vararg shape: Int, by: Quantization? = null, order: IntArray? = null) =
    Tensor("t", shape, Type.FLOAT32, type, order ?: shape.indices.toList().toIntArray(), by)

fun whole(type: Type, source: Type = type) = Tensor("t", intArrayOf(3), source, type, intArrayOf(0))

fun equal(expected: Any?, got: Any?) = check(expected == got) { "expected $expected, got $got" }

fun fails(kind: KClass<out Throwable>, says: String = "", act: () -> Unit) {
    val error = try {
        act()
        null
    } catch (thrown: Throwable) {
        thrown
    }
    check(kind.isInstance(error)) { "expected $kind, got $error" }
    check(says in error?.message.orEmpty()) { "expected '$says' in '${error?.message}'" }
}

fun bytes(buffer: ByteBuffer) = List(buffer.limit()) { buffer[it].toInt() }

fun reals(from: ByteBuffer, count: Int) = List(count) { from.getFloat(4 * it) }

fun quantization() {
    val tensor = tensor(Type.INT8, 6, by = Quantization(0.5f, 10))
    // Ties go to the even number, and what is too large to its end.
    val buffer = tensor.encode(floatArrayOf(0f, 0.25f, 0.75f, -0.25f, 1e9f, -1e9f))
    equal(listOf(10, 10, 12, 10, 127, -128), bytes(buffer))
    equal(listOf(0f, 0f, 1f, 0f, 58.5f, -69f), (tensor.decode(buffer) as FloatArray).toList())
    val unsigned = tensor(Type.UINT8, 2, by = Quantization(1f, 0))
    val given = unsigned.decode(unsigned.encode(floatArrayOf(200f, 300f))) as FloatArray
    equal(listOf(200f, 255f), given.toList())
    fails(IllegalArgumentException::class, "NaN") { tensor.encode(FloatArray(6) { Float.NaN }) }
}

fun permutations() {
    // [1, 2, 2, 3] in NCHW; the artifact has NHWC.
    val tensor = tensor(Type.FLOAT32, 1, 2, 2, 3, order = intArrayOf(0, 2, 3, 1))
    val values = FloatArray(12) { it.toFloat() }
    val buffer = tensor.encode(values)
    equal(listOf(0f, 6f, 1f, 7f, 2f, 8f, 3f, 9f, 4f, 10f, 5f, 11f), reals(buffer, 12))
    equal(values.toList(), (tensor.decode(buffer) as FloatArray).toList())
    equal(listOf(1L, 2L, 3L, 2L), tensor.artifactShape.toList())
}

fun types() {
    fun same(tensor: Tensor, values: Any) = check(
        when (val got = tensor.decode(tensor.encode(values))) {
            is LongArray -> got.contentEquals(values as LongArray)
            is IntArray -> got.contentEquals(values as IntArray)
            is ByteArray -> got.contentEquals(values as ByteArray)
            is BooleanArray -> got.contentEquals(values as BooleanArray)
            else -> false
        }
    )
    same(whole(Type.INT64), longArrayOf(1, -2, Long.MAX_VALUE))
    same(whole(Type.INT32, Type.INT64), longArrayOf(1, -2, 3))
    same(whole(Type.INT32), intArrayOf(1, -2, Int.MIN_VALUE))
    same(whole(Type.INT8), byteArrayOf(1, -2, 127))
    same(whole(Type.UINT8), byteArrayOf(1, -2, 127))
    same(whole(Type.BOOL), booleanArrayOf(true, false, true))
    val narrow = whole(Type.INT32, Type.INT64)
    fails(IllegalArgumentException::class, "the artifact takes") {
        narrow.encode(longArrayOf(0, 0, 1L shl 40))
    }
    fails(IllegalArgumentException::class, "takes 3 = 3 values, got 2") { narrow.encode(LongArray(2)) }
    fails(IllegalArgumentException::class, "takes INT64, got int[]") { narrow.encode(IntArray(3)) }
    fails(IllegalStateException::class, "12 bytes") { narrow.decode(ByteBuffer.allocate(4)) }
}

/** Doubles its input, and counts how often. */
class Doubling : Session {
    var runs = 0
    var closed = false

    override fun run(inputs: List<ByteBuffer>): List<ByteBuffer> {
        runs++
        return inputs.map { buffer ->
            val tensor = tensor(Type.FLOAT32, 2)
            tensor.encode(FloatArray(2) { 2 * buffer.getFloat(4 * it) })
        }
    }

    override fun close() {
        closed = true
    }
}

fun models() {
    val session = Doubling()
    val sides = listOf(tensor(Type.FLOAT32, 2))
    val model = Model(sides, sides, session)
    equal(listOf(2f, 4f), (model.run(floatArrayOf(1f, 2f)).single() as FloatArray).toList())
    fails(IllegalArgumentException::class, "expected 1 inputs") { model.run() }
    model.close()
    model.close()
    check(session.closed)
    fails(IllegalStateException::class, "closed") { model.run(FloatArray(2)) }
}

fun cache() {
    val session = Doubling()
    val cached = CachedSession(session, 2)
    val sides = listOf(tensor(Type.FLOAT32, 2))
    val model = Model(sides, sides, cached)
    val input = floatArrayOf(1f, 0f)
    fun ask(first: Float) = (model.run(input.also { it[0] = first }).single() as FloatArray)
    // The app's own array changes, and so does what it got: neither is what is kept.
    ask(1f)[0] = 99f
    equal(2f, ask(1f)[0])
    equal(1, session.runs)
    equal(1L, cached.hits)
    ask(2f)
    ask(1f)
    ask(3f) // 2 was longest of no use
    equal(3, session.runs)
    ask(1f)
    equal(3, session.runs)
    ask(2f)
    equal(4, session.runs)
    fails(IllegalArgumentException::class) { CachedSession(session, 0) }
}

fun worker() {
    val go = CountDownLatch(1)
    val started = CountDownLatch(1)
    val groups = mutableListOf<List<Int>>()
    val worker = Worker<Int, Int>(capacity = 3, batch = 2) { inputs ->
        groups += inputs
        started.countDown()
        go.await()
        require(13 !in inputs) { "13" }
        inputs.map { 2 * it }
    }
    val first = worker.submit(1)
    started.await()
    val rest = listOf(2, 13, 4).map(worker::submit)
    fails(QueueFull::class, "3 calls wait") { worker.submit(5) }
    go.countDown()
    equal(2, first.get())
    equal(4, rest[0].get())
    fails(ExecutionException::class, "13") { rest[1].get() }
    equal(8, rest[2].get())
    // Two that wait are run together; after a failure, each by itself.
    equal(listOf(listOf(1), listOf(2, 13), listOf(2), listOf(13), listOf(4)), groups.toList())
    worker.close()
    fails(IllegalStateException::class, "closed") { worker.submit(1) }
    fails(IllegalArgumentException::class) { Worker<Int, Int>(1, 2) { it } }
}

fun closing() {
    val started = CountDownLatch(1)
    val worker = Worker<Int, Int>(2) {
        started.countDown()
        Thread.sleep(60_000) // until it is interrupted
        it
    }
    val running = worker.submit(1)
    started.await()
    val waiting = worker.submit(2)
    worker.close()
    fails(ExecutionException::class) { running.get() }
    fails(CancellationException::class) { waiting.get() }
}

fun errors() {
    Worker<Int, Int>(2) { throw OutOfMemoryError("no room") }.use {
        fails(ExecutionException::class, "no room") { it.submit(1).get() }
        fails(ExecutionException::class, "no room") { it.submit(1).get() }
    }
    Worker<Int, Int>(2) { emptyList() }.use {
        fails(ExecutionException::class, "0 answers to 1 inputs") { it.submit(1).get() }
    }
}

fun cascade() {
    val asked = mutableListOf<String>()
    fun model(name: String, sure: Float) = { _: Int -> asked += name; sure }
    fun predict(sure: Float) =
        Cascade(model("small", sure), model("large", 1f), { answer: Float -> answer }, 0.8f).predict(0)
    equal(0.8f, predict(0.8f))
    equal(1f, predict(0.79f))
    equal(1f, predict(Float.NaN))
    equal(listOf("small", "small", "large", "small", "large"), asked)
}

fun scores() {
    val labels = listOf("cat", "dog", "owl")
    val logits = floatArrayOf(1f, 3f, 2f)
    equal(listOf(Scored("dog", 3f), Scored("owl", 2f)), best(logits, labels, 2))
    val probabilities = softmax(logits)
    check(probabilities.sum() in 0.9999f..1.0001f && probabilities[1] in 0.6651f..0.6653f)
    equal(listOf(0.5f, 0.5f), softmax(floatArrayOf(1000f, 1000f)).toList())
    equal(0.25f, margin(floatArrayOf(0.25f, 0.5f, 0.25f)))
    fails(IllegalArgumentException::class, "3 scores for 2") { best(logits, labels.drop(1), 1) }
}

fun pictures() {
    val pixels = intArrayOf(0xFF0A141E.toInt(), 0x00010203)
    fun made(colours: Colours, last: Boolean, vararg scale: Float) =
        Picture(2, 1, colours, scale, floatArrayOf(1f), last).values(pixels).toList()
    equal(listOf(11f, 21f, 31f, 2f, 3f, 4f), made(Colours.RGB, true, 1f))
    equal(listOf(61f, 7f, 41f, 5f, 11f, 2f), made(Colours.BGR, false, 2f, 2f, 1f))
    equal(listOf(19f, 3f), made(Colours.GRAY, false, 1f))
    fails(IllegalArgumentException::class, "2 x 1 pixels, got 1") {
        Picture(2, 1, Colours.RGB, floatArrayOf(1f), floatArrayOf(0f), true).values(IntArray(1))
    }
}

fun digests() {
    val empty = sha256(ByteArrayInputStream(ByteArray(0)))
    equal("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", empty)
    val abc = sha256(ByteArrayInputStream("abc".toByteArray()))
    equal("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", abc)
}

val PARTS = mapOf(
    "quantization" to ::quantization,
    "permutations" to ::permutations,
    "types" to ::types,
    "models" to ::models,
    "cache" to ::cache,
    "worker" to ::worker,
    "closing" to ::closing,
    "errors" to ::errors,
    "cascade" to ::cascade,
    "scores" to ::scores,
    "pictures" to ::pictures,
    "digests" to ::digests,
)

fun main() {
    for ((name, part) in PARTS) {
        part()
        println(name)
    }
}
