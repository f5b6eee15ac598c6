"""Cross-layer equalization: channels that one scale has to serve are brought to one reach.

A channel may be divided by any positive number where it is made, and multiplied by it where
it is read, as long as what lies between keeps proportions: the network stays what it was,
and static quantization, which has one range for a whole tensor, loses less. The factor
balances how far a channel reaches on calibration data with the weights that read it.
(Nagel, van Baalen, Blankevoort, Welling: "Data-Free Quantization Through Weight Equalization
and Bias Correction", ICCV 2019; for activations: Xiao et al.: "SmoothQuant", ICML 2023.)
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from math import prod

import numpy as np
import onnx
from msgspec import Struct
from numpy.typing import NDArray
from onnx import NodeProto

from edgekit.compression.activations import Sample, values
from edgekit.compression.layers import Floats, assign, constant, is_plain, is_turned
from edgekit.domain import Granularity
from edgekit.sources.consumers import consumers

Rows = tuple[tuple[str, int], ...]
"""Initializers with something for each channel, and the axis along which they have it."""

_ROUNDS = 3
"""A layer in the middle belongs to the pair before it, and to the one behind."""

_MOST = 1e3
"""No factor beyond it, or below one over it: a channel that is silent would ask for any."""

_PROPORTIONAL = ("Relu", "LeakyRelu")
_POOLS = ("MaxPool", "AveragePool", "GlobalAveragePool")
_RANK = {"MatMul": 2, "LayerNormalization": 1}
"""Of the weight; those of other layers always have theirs."""

_FLATTENS = ("Flatten", "Reshape", "Squeeze")


class Pair(Struct, frozen=True):
    """The nodes that make and that read the channels of one tensor.

    Attributes:
        shown: the tensor, as its readers take it.
        axis: of its channels.
        made: what is divided.
        read: what is multiplied.
        alone: by weights of its own each channel is read, and by no others (depthwise).
    """

    shown: str
    axis: int
    made: Rows
    read: Rows
    alone: bool


def equalized(
    model: onnx.ModelProto, samples: Sequence[Sample], granularity: Granularity
) -> onnx.ModelProto:
    """The same network with its channels equalized; just as it was, where nothing can be.

    Args:
        model: a normalised graph; it is not changed.
        samples: without labels.
        granularity: of the weights: a channel that has a scale of its own may have any size.
    """
    free = granularity is Granularity.PER_CHANNEL
    made = deepcopy(model)
    found = pairs(made)
    reach = _reach(made, found, samples)
    for _ in range(_ROUNDS):
        for pair in found:
            factors = _factors(made, pair, reach[pair.shown], alone=free and pair.alone)
            reach[pair.shown] /= factors
            _scale(made, pair.made, 1 / factors)
            _scale(made, pair.read, factors)
    return made


def pairs(model: onnx.ModelProto) -> tuple[Pair, ...]:
    """Every tensor of a graph whose channels can be scaled, in order."""
    graph = _Graph(model)
    found = (_pair(graph, node) for node in model.graph.node)
    return tuple(pair for pair in found if pair)


class _Graph:
    """What is asked of a graph on the way along a tensor."""

    def __init__(self, model: onnx.ModelProto) -> None:
        inferred = onnx.shape_inference.infer_shapes(model).graph
        self.weights = {t.name: tuple(t.dims) for t in model.graph.initializer}
        self.ends = {value.name for value in model.graph.output}
        self.shapes = {
            value.name: tuple(d.dim_value for d in value.type.tensor_type.shape.dim)
            for value in (*inferred.input, *inferred.value_info, *inferred.output)
        }
        self.readers = consumers(model)

    def takers(self, name: str) -> list[NodeProto]:
        """The nodes that take a tensor; none, where its shape is unknown or it is an output."""
        hidden = name in self.ends or not self.shapes.get(name)
        return [] if hidden else self.readers.get(name, [])

    def own(self, name: str) -> bool:
        """Whether it is an initializer that one node alone takes."""
        return name in self.weights and len(self.readers[name]) == 1


def _pair(graph: _Graph, maker: NodeProto) -> Pair | None:
    made = _made(graph, maker)
    if made is None:
        return None
    shown = maker.output[0]
    axis = 1 if maker.op_type == "Conv" else len(graph.shapes.get(shown, ())) - 1
    while len(readers := graph.takers(shown)) == 1:
        (node,) = readers
        if node.op_type == "Add" and (bias := _vector(graph, node, shown, axis)):
            made = (*made, bias)
        elif _flattened(graph, node, axis):
            axis = 1
        elif node.op_type not in _PROPORTIONAL and (node.op_type not in _POOLS or axis != 1):
            break
        shown = node.output[0]
    read = [_read(graph, node, shown, axis) for node in readers]
    rows = tuple(row for row in read if row)
    if not rows or None in read:
        return None
    takers = zip(readers, rows, strict=True)
    alone = all(node.op_type == "Conv" and row[1] == 0 for node, row in takers)
    return Pair(shown, axis, made, rows, alone)


def _made(graph: _Graph, node: NodeProto) -> Rows | None:
    """What gives a node's channels their size; ``None``: it has no channels of its own."""
    axis = {"Conv": 0, "Gemm": 1 if is_turned(node) else 0, "MatMul": 1, "LayerNormalization": 0}
    if node.op_type not in axis or not is_plain(node):
        return None
    names = [name for name in node.input[1:] if name]
    if not names or not all(map(graph.own, names)):
        return None
    weight, *bias = names
    width = graph.weights[weight][axis[node.op_type]] if graph.weights[weight] else 0
    if any(graph.weights[name] not in ((width,), (1, width)) for name in bias):
        return None
    rank = len(graph.weights[weight])
    if _RANK.get(node.op_type, rank) != rank:
        return None
    return (weight, axis[node.op_type]), *((name, len(graph.weights[name]) - 1) for name in bias)


def _vector(graph: _Graph, node: NodeProto, shown: str, axis: int) -> tuple[str, int] | None:
    """The constant that is added to each channel, if one is."""
    (other,) = [name for name in node.input if name != shown] or [""]
    shape, given = graph.weights.get(other, ()), graph.shapes[shown]
    own, width = axis - (len(given) - len(shape)), given[axis]
    fits = graph.own(other) and own >= 0 and shape[own] == prod(shape) == width
    return (other, own) if fits else None


def _flattened(graph: _Graph, node: NodeProto, axis: int) -> bool:
    """Whether a node only drops axes of length 1 behind the channels."""
    taken, given = graph.shapes.get(node.input[0], ()), graph.shapes.get(node.output[0], ())
    return node.op_type in _FLATTENS and axis == 1 and given == taken[:2] and prod(taken[2:]) == 1


def _read(graph: _Graph, node: NodeProto, shown: str, axis: int) -> tuple[str, int] | None:
    """The weight by which a node reads the channels; ``None``: it takes them otherwise."""
    weight = node.input[1] if len(node.input) > 1 else ""
    if node.input[0] != shown or not graph.own(weight) or not is_plain(node):
        return None
    rank, shape = len(graph.shapes[shown]), graph.weights[weight]
    if node.op_type == "Conv" and axis == 1:
        group = next((a.i for a in node.attribute if a.name == "group"), 1)
        depthwise = group == shape[0] == graph.shapes[shown][1] and shape[1] == 1
        return (weight, 0) if depthwise else (weight, 1) if group == 1 else None
    if node.op_type in ("Gemm", "MatMul") and axis == rank - 1 and len(shape) == _RANK["MatMul"]:
        return (weight, 0 if is_turned(node) else 1)
    return None


def _reach(
    model: onnx.ModelProto, found: Sequence[Pair], samples: Sequence[Sample]
) -> dict[str, Floats]:
    """The largest absolute value of each channel of the tensors that are shown."""
    reach: dict[str, Floats] = {}
    names = [pair.shown for pair in found]
    for arrays in values(model, names, samples):
        for pair, array in zip(found, arrays, strict=True):
            largest = _largest(array, pair.axis)
            reach[pair.shown] = np.maximum(reach.get(pair.shown, largest), largest)
    return reach


def _factors(model: onnx.ModelProto, pair: Pair, reach: Floats, *, alone: bool) -> Floats:
    """By what each channel is divided; their geometric mean is 1."""
    weights = np.max([_largest(constant(model, name), axis) for name, axis in pair.read], axis=0)
    speaks = (reach > 0) & (weights > 0)
    if not speaks.any():
        return np.ones_like(reach)
    over = np.ones_like(reach) if alone else np.where(speaks, weights, 1)
    factors = np.where(speaks, reach, 1) / over
    factors = factors if alone else np.sqrt(factors)
    factors /= np.exp(np.log(factors[speaks]).mean())
    return np.clip(np.where(speaks, factors, 1), 1 / _MOST, _MOST)


def _largest(array: NDArray[np.float32], axis: int) -> Floats:
    others = tuple(a for a in range(array.ndim) if a != axis)
    return np.abs(array).max(others).astype(np.float64)


def _scale(model: onnx.ModelProto, rows: Rows, factors: Floats) -> None:
    for name, axis in rows:
        array = constant(model, name)
        shape = [-1 if a == axis else 1 for a in range(array.ndim)]
        assign(model, name, array * factors.reshape(shape))
