package ai.onnxruntime;

import dev.edgekit.test.Engine;
import java.io.IOException;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Optional;
import java.util.Set;

/** The part of ONNX Runtime's class that the wrapper uses, over a real ONNX Runtime elsewhere. */
public class OrtSession implements AutoCloseable {
    private final Engine engine;

    OrtSession(Engine engine) {
        this.engine = engine;
    }

    public Result run(Map<String, ? extends OnnxTensorLike> inputs, Set<String> requestedOutputs)
            throws OrtException {
        Map<String, Engine.Value> values = new LinkedHashMap<>();
        inputs.forEach((name, tensor) -> values.put(name, ((OnnxTensor) tensor).value));
        try {
            Map<String, Engine.Value> given = engine.run(values);
            given.keySet().retainAll(requestedOutputs);
            return new Result(given);
        } catch (IOException error) {
            throw new OrtException("the run failed", error);
        }
    }

    @Override
    public void close() throws OrtException {
        try {
            engine.close();
        } catch (IOException error) {
            throw new OrtException("closing failed", error);
        }
    }

    public static class Result implements AutoCloseable {
        private final Map<String, OnnxTensor> values = new LinkedHashMap<>();

        Result(Map<String, Engine.Value> given) {
            given.forEach((name, value) -> values.put(name, new OnnxTensor(value)));
        }

        public Optional<OnnxValue> get(String key) {
            return Optional.ofNullable(values.get(key));
        }

        @Override
        public void close() {
            values.values().forEach(OnnxTensor::close);
        }
    }

    public static class SessionOptions implements AutoCloseable {
        int threads = 1;

        public void setIntraOpNumThreads(int numThreads) throws OrtException {
            threads = numThreads;
        }

        public void addNnapi() throws OrtException {}

        public void addQnn(Map<String, String> providerOptions) throws OrtException {}

        @Override
        public void close() {}
    }
}
