"""Tiny ONNX models, made in memory: each is small enough to count its cost by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

Shape = Sequence[int | str | None]
node = helper.make_node


def tensor(name: str, shape: Shape, dtype: int = TensorProto.FLOAT) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, shape)


def weights(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def integers(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def model(
    nodes: Sequence[NodeProto],
    inputs: Sequence[ValueInfoProto],
    outputs: Sequence[ValueInfoProto],
    constants: Mapping[str, np.ndarray] | None = None,
    *,
    opset: int = 17,
    ir: int = 8,
    custom: Sequence[str] = (),
) -> ModelProto:
    """A model file in memory; ``custom`` names operator domains of its own."""
    made = [numpy_helper.from_array(array, name) for name, array in (constants or {}).items()]
    graph = helper.make_graph(list(nodes), "tiny", list(inputs), list(outputs), made)
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in custom)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=ir)


def save(made: ModelProto, path: Path) -> Path:
    path.write_bytes(made.SerializeToString(deterministic=True))
    return path


def conv_net(batch: int | str = 1) -> ModelProto:
    """NCHW: convolution, Relu, pooling over the image, five classes."""
    return model(
        [
            node("Conv", ["x", "w", "b"], ["c"], "conv", pads=[1, 1, 1, 1]),
            node("Relu", ["c"], ["r"], "relu"),
            node("GlobalAveragePool", ["r"], ["p"], "pool"),
            node("Flatten", ["p"], ["f"], "flatten"),
            node("Gemm", ["f", "v", "a"], ["y"], "dense"),
        ],
        [tensor("x", [batch, 3, 8, 8])],
        [tensor("y", [batch, 5])],
        {"w": weights(4, 3, 3, 3), "b": weights(4), "v": weights(4, 5), "a": weights(5)},
    )


def nhwc_net() -> ModelProto:
    """NHWC: a Transpose first, as TensorFlow's exporters write it."""
    return model(
        [
            node("Transpose", ["x"], ["t"], "transpose", perm=[0, 3, 1, 2]),
            node("Conv", ["t", "w"], ["y"], "conv", strides=[2, 2]),
        ],
        [tensor("x", [1, 9, 9, 3])],
        [tensor("y", [1, 4, 4, 4])],
        {"w": weights(4, 3, 3, 3)},
    )


def dense_net(batch: int | str = 1, bias: tuple[int, ...] = (7,)) -> ModelProto:
    return model(
        [
            node("Gemm", ["x", "w", "b"], ["h"], "first"),
            node("Relu", ["h"], ["r"], "relu"),
            node("Gemm", ["r", "v"], ["y"], "second", transB=1),
        ],
        [tensor("x", [batch, 6])],
        [tensor("y", [batch, 3])],
        {"w": weights(6, 7), "b": weights(*bias), "v": weights(3, 7)},
    )


def sequence_net() -> ModelProto:
    """A dynamic second axis beside the dynamic batch."""
    return model(
        [node("MatMul", ["x", "w"], ["y"], "matmul")],
        [tensor("x", ["N", "T", 4])],
        [tensor("y", ["N", "T", 2])],
        {"w": weights(4, 2)},
    )


def lstm_net() -> ModelProto:
    """Five steps of three features, four hidden units."""
    return model(
        [node("LSTM", ["x", "w", "r"], ["s", "h"], "lstm", hidden_size=4)],
        [tensor("x", [5, 1, 3])],
        [tensor("s", [5, 1, 1, 4]), tensor("h", [1, 1, 4])],
        {"w": weights(1, 16, 3), "r": weights(1, 16, 4)},
    )


def depthwise_net() -> ModelProto:
    return model(
        [node("Conv", ["x", "w"], ["y"], "depthwise", group=6, pads=[1, 1, 1, 1])],
        [tensor("x", [1, 6, 5, 5])],
        [tensor("y", [1, 6, 5, 5])],
        {"w": weights(6, 1, 3, 3)},
    )


def two_by_two() -> ModelProto:
    """Two inputs of different shapes, two outputs of different shapes."""
    return model(
        [
            node("MatMul", ["left", "w"], ["scores"], "matmul"),
            node("Mul", ["right", "k"], ["scaled"], "mul"),
        ],
        [tensor("left", [1, 4]), tensor("right", [1, 2, 2])],
        [tensor("scores", [1, 3]), tensor("scaled", [1, 2, 2])],
        {"w": weights(4, 3), "k": np.array([2.0], np.float32)},
    )


def old_net() -> ModelProto:
    """Opset 8 and IR 3: initializers are inputs, too, and Flatten, BatchNormalization are old."""
    constants = {"w": weights(4, 3, 3, 3), "s": weights(4), "m": weights(4, seed=1)}
    constants |= {"v": np.abs(weights(4, seed=2)) + 1}
    return model(
        [
            node("Conv", ["x", "w"], ["c"], "conv"),
            node("BatchNormalization", ["c", "s", "m", "m", "v"], ["n"], "norm"),
            node("Flatten", ["n"], ["y"], "flatten"),
        ],
        [tensor("x", [1, 3, 4, 4]), *(tensor(n, a.shape) for n, a in constants.items())],
        [tensor("y", [1, 16])],
        constants,
        opset=8,
        ir=3,
    )


def qdq_net() -> ModelProto:
    """A dense layer with quantized weights and activations."""
    return model(
        [
            node("QuantizeLinear", ["x", "xs", "xz"], ["xq"], "quantize"),
            node("DequantizeLinear", ["xq", "xs", "xz"], ["xd"], "dequantize"),
            node("DequantizeLinear", ["wq", "ws", "xz"], ["wd"], "weights"),
            node("MatMul", ["xd", "wd"], ["y"], "matmul"),
        ],
        [tensor("x", [1, 6])],
        [tensor("y", [1, 4])],
        {
            "xs": np.array(0.05, np.float32),
            "xz": np.array(0, np.int8),
            "ws": np.array(0.01, np.float32),
            "wq": np.arange(-12, 12, dtype=np.int8).reshape(6, 4),
        },
    )


def save_external(made: ModelProto, path: Path, location: str = "weights.bin") -> Path:
    """Save with every weight in one file beside the model; ``location`` is what the model says."""
    onnx.save_model(
        made,
        path,
        save_as_external_data=True,
        all_tensors_to_one_file=True,
        location="weights.bin",
        size_threshold=0,
    )
    if location != "weights.bin":
        stored = onnx.load(path, load_external_data=False)
        for constant in stored.graph.initializer:
            for entry in constant.external_data:
                entry.value = location if entry.key == "location" else entry.value
        save(stored, path)
    return path


def run(path: Path, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What ONNX Runtime gives for the file as it is, nothing fused."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(feeds)), strict=True))
