// LiteRT (com.google.ai.edge.litert, version 2) as a session.

package dev.edgekit

import com.google.ai.edge.litert.Accelerator
import com.google.ai.edge.litert.CompiledModel
import com.google.ai.edge.litert.TensorBuffer
import java.nio.ByteBuffer

class LiteRtSession(
    artifact: Artifact,
    private val inputs: List<Tensor>,
    private val outputs: List<Tensor>,
    accelerator: Accelerator,
    threads: Int,
) : Session {
    private val model = load(artifact, options(accelerator, threads))
    private val taken = inputs.associate { it.name to model.createInputBuffer(it.name) }
    private val given = outputs.associate { it.name to model.createOutputBuffer(it.name) }

    override fun run(inputs: List<ByteBuffer>): List<ByteBuffer> {
        this.inputs.zip(inputs) { tensor, buffer ->
            write(tensor, buffer.duplicate().order(buffer.order()), taken.getValue(tensor.name))
        }
        model.run(taken, given)
        return outputs.map { read(it, given.getValue(it.name)) }
    }

    override fun close() {
        (taken.values + given.values).forEach(TensorBuffer::close)
        model.close()
    }
}

private fun options(accelerator: Accelerator, threads: Int) =
    CompiledModel.Options(accelerator).apply {
        if (accelerator == Accelerator.CPU) cpuOptions = CompiledModel.CpuOptions(numThreads = threads)
    }

private fun load(artifact: Artifact, options: CompiledModel.Options): CompiledModel =
    when (artifact) {
        is Artifact.Asset -> CompiledModel.create(artifact.assets, artifact.name, options)
        is Artifact.Stored -> CompiledModel.create(artifact.file.path, options)
    }

private fun write(tensor: Tensor, from: ByteBuffer, to: TensorBuffer) = when (tensor.type) {
    Type.FLOAT32 -> to.writeFloat(FloatArray(tensor.count).also { from.asFloatBuffer().get(it) })
    Type.INT32 -> to.writeInt(IntArray(tensor.count).also { from.asIntBuffer().get(it) })
    Type.INT64 -> to.writeLong(LongArray(tensor.count).also { from.asLongBuffer().get(it) })
    Type.BOOL -> to.writeBoolean(BooleanArray(tensor.count) { from.get(it) != 0.toByte() })
    // A byte is a byte: LiteRT copies it whatever its sign means.
    Type.INT8, Type.UINT8 -> to.writeInt8(ByteArray(tensor.count).also { from.get(it) })
}

private fun read(tensor: Tensor, from: TensorBuffer): ByteBuffer {
    val to = allocate(tensor.count * tensor.type.bytes)
    when (tensor.type) {
        Type.FLOAT32 -> to.asFloatBuffer().put(from.readFloat())
        Type.INT32 -> to.asIntBuffer().put(from.readInt())
        Type.INT64 -> to.asLongBuffer().put(from.readLong())
        Type.BOOL -> from.readBoolean().forEachIndexed { i, one -> to.put(i, if (one) 1 else 0) }
        Type.INT8, Type.UINT8 -> to.duplicate().put(from.readInt8())
    }
    return to
}
