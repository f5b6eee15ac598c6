"""Graphs made for these tests; weights are small integers, so that arithmetic is exact."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


class Net:
    """A graph put together node by node."""

    def __init__(self, *shape: int, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.shape = shape
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, array: np.ndarray) -> str:
        name = f"w{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def integers(self, *shape: int) -> str:
        return self.constant(self.rng.integers(-3, 4, shape).astype(np.float32))

    def node(self, op: str, *inputs: str, **attributes: object) -> str:
        name = f"{op}{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [f"{name}_out"], name, **attributes))
        return f"{name}_out"

    def conv(self, given: str, taken: int, made: int, size: int = 3, group: int = 1) -> str:
        weight = self.integers(made, taken // group, size, size)
        pads = [size // 2] * 4
        bias = self.integers(made)
        return self.node("Conv", given, weight, bias, group=group, pads=pads)

    def dense(self, given: str, taken: int, made: int) -> str:
        weight, bias = self.integers(taken, made), self.integers(made)
        return self.node("Gemm", given, weight, bias)

    def model(self, last: str) -> onnx.ModelProto:
        value = helper.make_tensor_value_info
        graph = helper.make_graph(
            self.nodes,
            "net",
            [value("x", TensorProto.FLOAT, self.shape)],
            [value(last, TensorProto.FLOAT, None)],
            self.constants,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        return onnx.shape_inference.infer_shapes(model, strict_mode=True)


def plain(net: Net) -> str:
    out = net.node("Relu", net.conv("x", 3, 8))
    out = net.node("MaxPool", out, kernel_shape=[2, 2], strides=[2, 2])
    out = net.node("Relu", net.conv(out, 8, 4))
    return net.dense(net.node("Flatten", out), 4 * 16, 5)


def residual(net: Net) -> str:
    stem = net.node("Relu", net.conv("x", 3, 6))
    inner = net.conv(net.node("Relu", net.conv(stem, 6, 4)), 4, 6)
    out = net.node("Relu", net.node("Add", inner, stem))
    return net.dense(net.node("Flatten", net.node("GlobalMaxPool", out)), 6, 5)


def concatenated(net: Net) -> str:
    stem = net.node("Relu", net.conv("x", 3, 4))
    both = net.node("Concat", net.conv(stem, 4, 3), stem, net.conv(stem, 4, 2), axis=1)
    return net.dense(net.node("Flatten", net.conv(both, 9, 2)), 2 * 64, 5)


def depthwise(net: Net) -> str:
    out = net.node("Clip", net.conv("x", 3, 6))
    out = net.node("Relu", net.conv(out, 6, 6, group=6))
    out = net.conv(out, 6, 4, size=1)
    wide = net.node("Mul", out, net.integers(1, 4, 1, 1))
    return net.dense(net.node("Flatten", wide), 4 * 64, 5)


def grouped(net: Net) -> str:
    out = net.node("Relu", net.conv("x", 3, 8))
    out = net.node("Relu", net.conv(out, 8, 12, group=4))
    return net.dense(net.node("Flatten", net.node("GlobalMaxPool", out)), 12, 5)


def flattened(net: Net) -> str:
    """Channels last before a Reshape, and a MatMul."""
    out = net.node("Transpose", net.conv("x", 3, 6), perm=[0, 2, 3, 1])
    rows = net.node("Reshape", out, net.constant(np.array([1, 384])))
    out = net.node("Relu", net.node("MatMul", rows, net.integers(384, 7)))
    return net.dense(out, 7, 5)


def normalised(net: Net) -> str:
    values = [net.integers(6), net.integers(6), net.integers(6)]
    variance = net.constant(np.full(6, 0.25, np.float32))
    out = net.node("BatchNormalization", net.conv("x", 3, 6), *values, variance, epsilon=0.0)
    return net.conv(net.node("Relu", out), 6, 4)


def padded(net: Net) -> str:
    """As ResNet's option A: a shortcut with channels of nothing."""
    stem = net.node("Relu", net.conv("x", 3, 4))
    pads = net.constant(np.array([0, 2, 0, 0, 0, 2, 0, 0]))
    wide = net.node("Add", net.node("Pad", stem, pads), net.conv(stem, 4, 8))
    return net.conv(net.node("Relu", wide), 8, 3)


ALL = (plain, residual, concatenated, depthwise, grouped, flattened, normalised, padded)
