// The classes of com.google.ai.edge.litert 2.3 that the wrapper uses, over a real LiteRT elsewhere.

package com.google.ai.edge.litert

import android.content.res.AssetManager
import dev.edgekit.test.Engine
import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder

enum class Accelerator(val value: Int) { NONE(0), CPU(1), GPU(2), NPU(3) }

class TensorBuffer internal constructor() : AutoCloseable {
    internal var value = Engine.Value("", LongArray(0), ByteArray(0))
    internal var closed = false

    fun writeFloat(data: FloatArray) = write("float32", data.size * 4) { asFloatBuffer().put(data) }

    fun writeInt(data: IntArray) = write("int32", data.size * 4) { asIntBuffer().put(data) }

    fun writeLong(data: LongArray) = write("int64", data.size * 8) { asLongBuffer().put(data) }

    fun writeInt8(data: ByteArray) = write("int8", data.size) { put(data) }

    fun writeBoolean(data: BooleanArray) =
        write("bool", data.size) { data.forEach { put(if (it) 1 else 0) } }

    fun readFloat() = read("float32", 4).asFloatBuffer().let { b -> FloatArray(b.limit()) { b[it] } }

    fun readInt() = read("int32", 4).asIntBuffer().let { b -> IntArray(b.limit()) { b[it] } }

    fun readLong() = read("int64", 8).asLongBuffer().let { b -> LongArray(b.limit()) { b[it] } }

    fun readInt8() = read("int8", 1).array()

    fun readBoolean() = read("bool", 1).array().map { it != 0.toByte() }.toBooleanArray()

    override fun close() {
        closed = true
    }

    private fun write(dtype: String, bytes: Int, fill: ByteBuffer.() -> Unit) {
        check(!closed)
        val buffer = ByteBuffer.allocate(bytes).order(ByteOrder.nativeOrder())
        buffer.fill()
        value = Engine.Value(dtype, longArrayOf((bytes / size(dtype)).toLong()), buffer.array())
    }

    private fun read(dtype: String, size: Int): ByteBuffer {
        check(!closed)
        check(size(value.dtype) == size) { "asked for $dtype, it is ${value.dtype}" }
        check((dtype == "float32") == (value.dtype == "float32")) { "it is ${value.dtype}" }
        return ByteBuffer.wrap(value.bytes.clone()).order(ByteOrder.nativeOrder())
    }

    private fun size(dtype: String) = when (dtype) {
        "float32", "int32" -> 4
        "int64" -> 8
        else -> 1
    }
}

class CompiledModel private constructor(path: String, options: Options) : AutoCloseable {
    data class CpuOptions(
        val numThreads: Int? = null,
        val xnnPackFlags: Int? = null,
        val xnnPackWeightCachePath: String? = null,
    )

    class Options(internal val accelerators: Set<Accelerator>) {
        constructor(vararg accelerators: Accelerator) : this(setOf(*accelerators))

        var cpuOptions: CpuOptions? = null
    }

    private val engine = Engine(path, "litert", options.cpuOptions?.numThreads ?: 1)

    fun createInputBuffer(inputName: String, signature: String = "") = made(inputName, signature)

    fun createOutputBuffer(outputName: String, signature: String = "") = made(outputName, signature)

    fun run(
        inputs: Map<String, TensorBuffer>,
        outputs: Map<String, TensorBuffer>,
        signature: String = "",
    ) {
        check(signature.isEmpty())
        val given = engine.run(inputs.mapValues { it.value.value })
        outputs.forEach { (name, buffer) -> buffer.value = given.getValue(name) }
    }

    override fun close() = engine.close()

    private fun made(name: String, signature: String): TensorBuffer {
        check(signature.isEmpty() && name.isNotEmpty())
        return TensorBuffer()
    }

    companion object {
        @JvmOverloads
        @JvmStatic
        fun create(
            assetManager: AssetManager,
            assetName: String,
            options: Options = Options(Accelerator.CPU),
        ) = CompiledModel(File(assetManager.folder, assetName).path, options)

        @JvmOverloads
        @JvmStatic
        fun create(filePath: String, options: Options = Options(Accelerator.CPU)) =
            CompiledModel(filePath, options)
    }
}
