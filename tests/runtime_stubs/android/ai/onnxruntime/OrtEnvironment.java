package ai.onnxruntime;

import dev.edgekit.test.Engine;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;

public final class OrtEnvironment implements AutoCloseable {
    private static final OrtEnvironment INSTANCE = new OrtEnvironment();

    public static OrtEnvironment getEnvironment() {
        return INSTANCE;
    }

    public OrtSession createSession(String modelPath, OrtSession.SessionOptions options)
            throws OrtException {
        try {
            return new OrtSession(new Engine(modelPath, "onnxruntime", options.threads));
        } catch (IOException error) {
            throw new OrtException(modelPath, error);
        }
    }

    public OrtSession createSession(byte[] modelArray, OrtSession.SessionOptions options)
            throws OrtException {
        try {
            Path copy = Files.createTempFile("model", ".onnx");
            copy.toFile().deleteOnExit();
            Files.write(copy, modelArray);
            return createSession(copy.toString(), options);
        } catch (IOException error) {
            throw new OrtException("a model in memory", error);
        }
    }

    @Override
    public void close() {}
}
