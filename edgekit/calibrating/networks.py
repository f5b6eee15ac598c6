"""The networks that a calibration measures: a few operators each, over the sizes that occur.

What runtimes treat differently alone stands among those that it follows in real networks.
Whole networks are measured too, but never fitted to (``CHECKS``): they tell how good the fit
is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

INPUT, OUTPUT = "x", "y"
_OPSET, _IR = 17, 8
_SAME = {1: 0, 3: 1, 5: 2, 7: 3}
"""Window -> padding that keeps the size of the image."""

_CLASSES = 10
_DISTINCT = 1021
"""Different values in a weight; a prime, so that no two channels are the same."""

Shape = tuple[int, ...]

_CONVOLUTIONS: dict[Shape, Shape] = {
    # Channels along the chain: sizes of the image.
    (8,) * 4: (16, 48),
    (12,) * 4: (24,),
    (16,) * 4: (16, 32),
    (24,) * 4: (12, 28),
    (32,) * 4: (8, 16, 32),
    (40,) * 4: (14, 28),
    (48,) * 4: (14,),
    (64,) * 4: (4, 8, 28),
    (80,) * 4: (14,),
    (96,) * 4: (14,),
    (112,) * 4: (14,),
    (128,) * 4: (7, 14),
    (160,) * 3: (7,),
    (256,) * 3: (4, 7),
}
_SINGLE_CONVOLUTIONS = (
    # Channels in and out, size, window, stride: first layers, and those that halve the image.
    *((3, 8, 96, 3, 2), (3, 16, 32, 3, 1), (3, 32, 64, 3, 2), (1, 8, 28, 3, 1), (1, 64, 24, 3, 1)),
    *((16, 32, 32, 3, 2), (32, 64, 16, 3, 2), (64, 128, 14, 3, 2), (24, 40, 20, 3, 1)),
    *((3, 16, 64, 7, 2), (16, 16, 16, 5, 1), (1, 16, 28, 5, 1), (32, 32, 24, 7, 1)),
)
_POINTWISE: dict[Shape, Shape] = {
    (8,) * 4: (24, 48),
    (8, 16, 8, 16): (48,),
    (16,) * 4: (12, 24, 48),
    (24,) * 4: (16,),
    (32,) * 4: (12, 24),
    (16, 32, 16, 32): (32,),
    (48,) * 4: (12,),
    (64,) * 4: (6, 12, 28),
    (96, 24, 96, 24): (14, 28),
    (144, 32, 144, 32): (14,),
    (128,) * 4: (6, 14),
    (64, 128, 64, 128): (10,),
    (256,) * 4: (3, 7),
    (64, 384, 64): (7,),
    (128, 256, 128): (5,),
    (512,) * 3: (4,),
    (320, 1280): (4,),
}
_DEPTHWISE: dict[int, Shape] = {
    8: (16, 48),
    16: (24, 48),
    24: (20,),
    32: (12, 24, 48),
    64: (6, 12, 28),
    96: (14,),
    128: (6, 14),
    256: (3, 7),
    512: (4,),
}
_SINGLE_DEPTHWISE = (
    *((16, 48, 3, 2), (32, 24, 3, 2), (64, 12, 3, 2), (128, 6, 3, 2), (64, 48, 3, 2)),
    *((32, 14, 5, 1), (96, 10, 5, 1), (64, 192, 3, 1)),
)
_DENSE: tuple[Shape, ...] = (
    *((32,) * 5, (64,) * 5, (128,) * 5, (256,) * 4, (512,) * 3, (768, 768), (1024,) * 4),
    *((640, 128), (128, 8, 128), (2048, 1000), (64, 10), (784, 128), (42, 20, 10, 3)),
    *((1280, 100), (4096, 512)),
)
_MATMUL = (
    # Rows, and widths along the chain: the layers of transformers.
    *((16, (64, 64, 64)), (16, (256, 256, 256)), (49, (128, 128, 128)), (64, (256, 1024, 256))),
    *((128, (256, 256)), (128, (768, 768)), (197, (192, 192, 192)), (32, (40, 160, 40))),
)
_UNBIASED = ((16, (96, 96, 96)), (64, (128, 128, 128)))
"""Products alone: what adds a constant has a price of its own."""

_RECURRENT = ((8, 16, 16), (28, 28, 20), (49, 40, 64), (64, 32, 32), (16, 128, 128))
_ELEMENTWISE = ((16, 24), (64, 12), (64, 32))
_RESIDUAL = ((16, 8), (16, 32), (32, 16), (64, 8), (64, 28), (64, 56))
_GLOBAL_POOL = ((16, 8), (64, 8), (64, 24), (256, 7))
_SOFTMAX = (10, 100, 1000)
_MOBILE = {
    # Size of the image: channels and stride of each block.
    64: ((16, 1), (32, 2), (32, 1), (64, 2), (64, 1)),
    96: ((16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2), *((128, 1),) * 2, (256, 2)),
    160: ((32, 1), (64, 2), (128, 2), (256, 2), (512, 2)),
}
_RESNETS = ((32, 16, 1), (32, 8, 2), (48, 24, 1), (32, 16, 3))

CHECKS = ("mobile", "resnet")
"""What the names of the networks begin with that are measured but not fitted to."""

LARGE = "dense_4096-512"
WIDE = "depthwise3_64_192_1"
SMALL = "softmax_10"
"""The networks that show what weights, activations and the runtime take of the memory."""


def designed() -> Iterator[tuple[str, onnx.ModelProto]]:
    """Every network with its name, which tells operator, channels and size."""
    for channels, sizes in _CONVOLUTIONS.items():
        yield from (_convolutions("conv", channels, size, 3) for size in sizes)
    for first, last, size, window, stride in _SINGLE_CONVOLUTIONS:
        yield _convolutions("conv", (first, last), size, window, stride)
    for channels, sizes in _POINTWISE.items():
        yield from (_convolutions("pointwise", channels, size, 1) for size in sizes)
    for width, sizes in _DEPTHWISE.items():
        yield from (_between("separable", _separable, width, size) for size in sizes)
    for width, size, window, stride in _SINGLE_DEPTHWISE:
        yield _depthwise(width, size, window, stride)
    yield from map(_dense, _DENSE)
    yield from (_matmul(*row) for row in _MATMUL)
    yield from (_matmul(*row, biased=False) for row in _UNBIASED)
    yield from (_recurrent(*row) for row in _RECURRENT)
    for name, operator in _OPERATORS.items():
        yield from (_repeated(name, operator, *size) for size in _ELEMENTWISE)
    for name, operator in _POOLS.items():
        yield from (_between(name, operator, *size) for size in _ELEMENTWISE)
    yield from (_between("residual", _residual, *size) for size in _RESIDUAL)
    yield from (_between("concat", _joined, *size) for size in _ELEMENTWISE)
    yield from (_between("slice", _sliced, *size) for size in _ELEMENTWISE)
    yield from (_pooled(width, size) for width, size in _GLOBAL_POOL)
    yield from map(_softmax, _SOFTMAX)
    yield from (_mobile(size, blocks) for size, blocks in _MOBILE.items())
    yield from (_resnet(*row) for row in _RESNETS)


class _Graph:
    """A graph that grows by one operator after another; weights are random, seeded by its name."""

    def __init__(self, name: str, shape: Shape) -> None:
        self.name, self.shape = name, shape
        self._random = np.random.default_rng(list(name.encode()))
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        made = f"t{len(self._nodes)}"
        node = helper.make_node(operator, inputs, [made], f"{operator}_{made}", **attributes)
        self._nodes.append(node)
        return made

    def constant(self, array: NDArray[Any]) -> str:
        name = f"c{len(self._constants)}"
        kept = array.astype(np.float32) if array.dtype.kind == "f" else array
        self._constants.append(numpy_helper.from_array(kept, name))
        return name

    def weight(self, *shape: int, fan_in: int) -> str:
        """Scaled as He et al. (2015) do, so that values neither vanish nor overflow.

        They repeat: a kernel does not care, and the archive that is sent stays small.
        """
        drawn = self._random.standard_normal(_DISTINCT) * np.sqrt(2 / fan_in)
        return self.constant(np.resize(drawn, shape))

    def conv(
        self, given: str, channels: Shape, window: int, stride: int = 1, *, relu: bool = True
    ) -> str:
        """A convolution; ``channels``: in, out and, for a depthwise one, groups."""
        first, last, group = (*channels, 1)[:3]
        fan_in = first // group * window * window
        weight = self.weight(last, first // group, window, window, fan_in=fan_in)
        made = self.add(
            "Conv", given, weight, self.constant(self._random.standard_normal(last) / 10),
            kernel_shape=[window] * 2, strides=[stride] * 2, pads=[_SAME[window]] * 4, group=group,
        )  # fmt: skip
        return self.add("Relu", made) if relu else made

    def dense(self, given: str, first: int, last: int) -> str:
        weight = self.weight(first, last, fan_in=first)
        return self.add("Gemm", given, weight, self.constant(np.zeros(last)))

    def done(self) -> tuple[str, onnx.ModelProto]:
        """The network, its last operator being its output."""
        self._nodes[-1].output[0] = OUTPUT
        given = helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, self.shape)
        unknown = helper.make_empty_tensor_value_info(OUTPUT)
        graph = helper.make_graph(self._nodes, self.name, [given], [unknown], self._constants)
        opsets = [helper.make_opsetid("", _OPSET)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=_IR)
        return self.name, onnx.shape_inference.infer_shapes(model, strict_mode=True)


Named = tuple[str, onnx.ModelProto]


def _convolutions(kind: str, channels: Shape, size: int, window: int, stride: int = 1) -> Named:
    along = "-".join(map(str, channels))
    made = _Graph(f"{kind}{window}_{along}_{size}_{stride}", (1, channels[0], size, size))
    last = INPUT
    for one in pairwise(channels):
        last = made.conv(last, one, window, stride)
    return made.done()


def _depthwise(width: int, size: int, window: int, stride: int) -> Named:
    made = _Graph(f"depthwise{window}_{width}_{size}_{stride}", (1, width, size, size))
    made.conv(INPUT, (width, width, width), window, stride)
    return made.done()


def _dense(widths: Shape) -> Named:
    made = _Graph("dense_" + "-".join(map(str, widths)), (1, widths[0]))
    last = INPUT
    for first, second in pairwise(widths):
        last = made.dense(last, first, second)
    return made.done()


def _matmul(rows: int, widths: Shape, *, biased: bool = True) -> Named:
    kind = "matmul" if biased else "product"
    made = _Graph(f"{kind}_{rows}_" + "-".join(map(str, widths)), (1, rows, widths[0]))
    last = INPUT
    for first, second in pairwise(widths):
        last = made.add("MatMul", last, made.weight(first, second, fan_in=first))
        if biased:
            last = made.add("Add", last, made.constant(np.ones(second) / 10))
        last = made.add("Relu", last)
    return made.done()


def _recurrent(steps: int, width: int, hidden: int) -> Named:
    """A recurrent layer and a product: in int8 the borders between them take their time, too."""
    made = _Graph(f"lstm_{steps}_{width}_{hidden}", (1, steps, width))
    weights = [made.weight(1, 4 * hidden, size, fan_in=size) for size in (width, hidden)]
    # A transposition would be priced with it, and networks have none there.
    steps_first = made.add("Reshape", INPUT, made.constant(np.array([steps, 1, width])))
    last = made.add("LSTM", steps_first, *weights, hidden_size=hidden)
    flat = made.add("Reshape", last, made.constant(np.array([1, steps * hidden])))
    made.dense(flat, steps * hidden, _CLASSES)
    return made.done()


Operator = Callable[[_Graph, str, int], str]
"""Adds an operator for so many channels to a graph."""


def _repeated(name: str, operator: Operator, width: int, size: int) -> Named:
    made = _Graph(f"{name}_{width}_{size}", (1, width, size, size))
    last = INPUT
    for _ in range(3):
        last = operator(made, last, width)
    return made.done()


def _between(name: str, operator: Operator, width: int, size: int) -> Named:
    """Operators among convolutions, as real networks have them.

    Runtimes keep what a convolution gives in a layout of its own, and quantize only what
    follows one: alone these operators would be others, with changes of the layout around each.
    """
    made = _Graph(f"{name}_{width}_{size}", (1, width, size, size))
    last = made.conv(INPUT, (width, width), 1)
    for _ in range(3):
        last = operator(made, last, width)
    made.conv(last, (width, width), 1)
    return made.done()


def _residual(made: _Graph, given: str, width: int) -> str:
    """An addition of what was convolved: of anything else it would be folded away."""
    convolved = made.conv(given, (width, width), 1, relu=False)
    return made.add("Relu", made.add("Add", convolved, given))


def _separable(made: _Graph, given: str, width: int) -> str:
    """A depthwise convolution and the pointwise one that follows it in real networks."""
    return made.conv(made.conv(given, (width, width, width), 3), (width, width), 1)


def _joined(made: _Graph, given: str, width: int) -> str:
    """Two halves beside each other, as blocks with several branches make them."""
    halves = [made.conv(given, (width, width // 2), 1) for _ in range(2)]
    return made.add("Concat", *halves, axis=1)


def _sliced(made: _Graph, given: str, _width: int) -> str:
    """Every other pixel, padded to the size that it had."""
    size, half = made.shape[-1], (made.shape[-1] + 1) // 2
    given_as = ([0, 0], [size, size], [2, 3], [2, 2])
    sliced = made.add("Slice", given, *(made.constant(np.array(one)) for one in given_as))
    behind = [0] * 6 + [size - half] * 2
    return made.add("Pad", sliced, made.constant(np.array(behind)))


def _hard_swish(made: _Graph, given: str, _width: int) -> str:
    return made.add("HardSwish", given)


def _turned(made: _Graph, given: str, width: int) -> str:
    """Another shape of the same elements, between operators that do not care."""
    rows = made.add("Reshape", given, made.constant(np.array([1, width, -1])))
    whole = made.constant(np.array(made.shape))
    return made.add("Reshape", made.add("Sigmoid", rows), whole)


def _pool(operator: str) -> Operator:
    window = {"kernel_shape": [3, 3], "strides": [1, 1], "pads": [1] * 4}

    def pool(made: _Graph, given: str, _width: int) -> str:
        return made.add(operator, given, **window)

    return pool


_OPERATORS: dict[str, Operator] = {
    "sigmoid": lambda made, given, _: made.add("Sigmoid", given),
    "tanh": lambda made, given, _: made.add("Tanh", given),
    "hardswish": _hard_swish,
    "view": _turned,
}
_POOLS = {"maxpool": _pool("MaxPool"), "avgpool": _pool("AveragePool")}


def _pooled(width: int, size: int) -> Named:
    made = _Graph(f"globalpool_{width}_{size}", (1, width, size, size))
    last = made.conv(INPUT, (width, width), 1)
    made.add("Flatten", made.add("GlobalAveragePool", last))
    return made.done()


def _softmax(width: int) -> Named:
    made = _Graph(f"softmax_{width}", (1, width))
    made.add("Softmax", INPUT)
    return made.done()


def _classified(made: _Graph, last: str, width: int) -> Named:
    pooled = made.add("Flatten", made.add("GlobalAveragePool", last))
    made.add("Softmax", made.dense(pooled, width, _CLASSES))
    return made.done()


def _mobile(size: int, blocks: Sequence[tuple[int, int]]) -> Named:
    """Depthwise separable blocks (Howard et al., "MobileNets", 2017)."""
    made = _Graph(f"mobile_{size}", (1, 3, size, size))
    width = blocks[0][0] // 2
    last = made.conv(INPUT, (3, width), 3, 2)
    for channels, stride in blocks:
        last = made.conv(last, (width, width, width), 3, stride)
        last = made.conv(last, (width, channels), 1)
        width = channels
    return _classified(made, last, width)


def _resnet(size: int, width: int, blocks: int) -> Named:
    """Residual blocks in three stages (He et al., "Deep residual learning", 2016)."""
    made = _Graph(f"resnet_{size}_{width}_{blocks}", (1, 3, size, size))
    last, channels = made.conv(INPUT, (3, width), 3), width
    for stage in range(3):
        for block in range(blocks):
            wider, stride = width * 2**stage, 2 if stage and not block else 1
            convolved = made.conv(last, (channels, wider), 3, stride)
            convolved = made.conv(convolved, (wider, wider), 3, relu=False)
            if channels != wider:
                last = made.conv(last, (channels, wider), 1, stride, relu=False)
            last, channels = made.add("Relu", made.add("Add", convolved, last)), wider
    return _classified(made, last, channels)


def shape_of(value: onnx.ValueInfoProto) -> Shape:
    """The shape of a designed network's input or output."""
    return tuple(d.dim_value for d in value.type.tensor_type.shape.dim)


def sample(shape: Shape, count: int) -> NDArray[np.float32]:
    """Random inputs, ``[count, *shape without its batch]``."""
    drawn = np.random.default_rng(prod(shape)).standard_normal((count, *shape[1:]))
    return drawn.astype(np.float32)
