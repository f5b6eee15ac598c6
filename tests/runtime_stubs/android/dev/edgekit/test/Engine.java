package dev.edgekit.test;

import java.io.BufferedInputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.util.LinkedHashMap;
import java.util.Map;

/** A real runtime, in a Python process beside this one: what the stand-ins for its classes run. */
public final class Engine implements AutoCloseable {
    /** A tensor as it is: its type by NumPy's name, its bytes in the native order. */
    public record Value(String dtype, long[] shape, byte[] bytes) {}

    private final Process process;
    private final DataOutputStream to;
    private final DataInputStream from;

    public Engine(String model, String runtime, int threads) throws IOException {
        process = new ProcessBuilder(
                        System.getProperty("edgekit.python"),
                        System.getProperty("edgekit.engine"),
                        model,
                        runtime,
                        Integer.toString(threads))
                .redirectError(ProcessBuilder.Redirect.INHERIT)
                .start();
        to = new DataOutputStream(process.getOutputStream());
        from = new DataInputStream(new BufferedInputStream(process.getInputStream()));
    }

    public Map<String, Value> run(Map<String, Value> inputs) throws IOException {
        to.writeInt(inputs.size());
        for (Map.Entry<String, Value> input : inputs.entrySet()) {
            to.writeUTF(input.getKey());
            to.writeUTF(input.getValue().dtype());
            to.writeInt(input.getValue().shape().length);
            for (long length : input.getValue().shape()) {
                to.writeLong(length);
            }
            to.writeInt(input.getValue().bytes().length);
            to.write(input.getValue().bytes());
        }
        to.flush();
        Map<String, Value> outputs = new LinkedHashMap<>();
        for (int count = from.readInt(); count > 0; count--) {
            String name = from.readUTF();
            String dtype = from.readUTF();
            byte[] bytes = new byte[from.readInt()];
            from.readFully(bytes);
            outputs.put(name, new Value(dtype, new long[0], bytes));
        }
        return outputs;
    }

    @Override
    public void close() throws IOException {
        to.close();
    }
}
