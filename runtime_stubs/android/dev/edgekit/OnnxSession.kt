// ONNX Runtime (com.microsoft.onnxruntime:onnxruntime-android) as a session.

package dev.edgekit

import ai.onnxruntime.OnnxJavaType
import ai.onnxruntime.OnnxTensor
import ai.onnxruntime.OrtEnvironment
import ai.onnxruntime.OrtSession
import java.nio.ByteBuffer
import java.nio.ByteOrder

/** @param provider has the options name an execution provider; the CPU needs none. */
class OnnxSession(
    artifact: Artifact,
    private val inputs: List<Tensor>,
    private val outputs: List<Tensor>,
    threads: Int,
    provider: (OrtSession.SessionOptions) -> Unit = {},
) : Session {
    private val environment = OrtEnvironment.getEnvironment()
    private val session = OrtSession.SessionOptions().use { options ->
        options.setIntraOpNumThreads(threads)
        provider(options)
        when (artifact) {
            is Artifact.Asset ->
                environment.createSession(artifact.open().use { it.readBytes() }, options)
            is Artifact.Stored -> environment.createSession(artifact.file.path, options)
        }
    }
    private val names = outputs.mapTo(LinkedHashSet(), Tensor::name)

    override fun run(inputs: List<ByteBuffer>): List<ByteBuffer> {
        val tensors = this.inputs.zip(inputs) { tensor, buffer -> tensor.name to made(tensor, buffer) }
        try {
            return session.run(tensors.toMap(), names).use { result -> outputs.map { given(it, result) } }
        } finally {
            tensors.forEach { (_, made) -> made.close() }
        }
    }

    override fun close() = session.close()

    private fun made(tensor: Tensor, buffer: ByteBuffer): OnnxTensor {
        val own = buffer.duplicate().order(ByteOrder.nativeOrder())
        return OnnxTensor.createTensor(environment, own, tensor.artifactShape, kind(tensor.type))
    }

    private fun given(tensor: Tensor, result: OrtSession.Result): ByteBuffer =
        // A copy of the runtime's memory, whose bytes are in the native order.
        (result.get(tensor.name).get() as OnnxTensor).byteBuffer.order(ByteOrder.nativeOrder())
}

private fun kind(type: Type): OnnxJavaType = when (type) {
    Type.FLOAT32 -> OnnxJavaType.FLOAT
    Type.BOOL -> OnnxJavaType.BOOL
    Type.INT8 -> OnnxJavaType.INT8
    Type.UINT8 -> OnnxJavaType.UINT8
    Type.INT32 -> OnnxJavaType.INT32
    Type.INT64 -> OnnxJavaType.INT64
}
