package ai.onnxruntime;

import dev.edgekit.test.Engine;
import java.nio.ByteBuffer;
import java.util.Locale;

public class OnnxTensor extends OnnxTensorLike {
    final Engine.Value value;
    private boolean closed;

    OnnxTensor(Engine.Value value) {
        this.value = value;
    }

    public static OnnxTensor createTensor(
            OrtEnvironment env, ByteBuffer data, long[] shape, OnnxJavaType type)
            throws OrtException {
        String dtype = type == OnnxJavaType.FLOAT ? "float32" : type.name().toLowerCase(Locale.ROOT);
        byte[] bytes = new byte[data.remaining()];
        data.duplicate().get(bytes);
        return new OnnxTensor(new Engine.Value(dtype, shape, bytes));
    }

    /** A copy; its order is Java's own, whatever the bytes' is. */
    public ByteBuffer getByteBuffer() {
        if (closed) {
            throw new IllegalStateException("closed");
        }
        return ByteBuffer.wrap(value.bytes().clone());
    }

    @Override
    public void close() {
        closed = true;
    }
}
