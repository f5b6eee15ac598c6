"""How channels travel through a graph: one rule for each kind of operator.

An operator that only moves data is followed by moving the channels' numbers themselves; one
without a rule fixes every channel that reaches it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, helper, numpy_helper

from edgekit.compression.groups import FIRST_TAPS, NO_CHANNEL, Channels, Ledger, Use

_CHANNEL_AXIS = 1
_MATRIX = 2
Shape = tuple[int, ...]


class Walk:
    """A graph on the way through it: its weights, shapes, and the channels known so far."""

    def __init__(self, model: onnx.ModelProto) -> None:
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
        self.ledger = Ledger()
        self.weights = {t.name: t for t in model.graph.initializer}
        self.shapes: dict[str, Shape] = {
            value.name: tuple(d.dim_value for d in value.type.tensor_type.shape.dim)
            for value in (*inferred.input, *inferred.value_info, *inferred.output)
        } | {name: tuple(t.dims) for name, t in self.weights.items()}
        self.channels: dict[str, Channels] = {}

    def of(self, node: NodeProto, index: int = 0) -> Channels | None:
        """The channels of a node's input."""
        return self.channels.get(node.input[index]) if index < len(node.input) else None

    def value(self, node: NodeProto, index: int) -> NDArray[np.generic] | None:
        """A node's constant input; ``None``: it is computed, or not there."""
        name = node.input[index] if index < len(node.input) else ""
        return numpy_helper.to_array(self.weights[name]) if name in self.weights else None

    def give(self, node: NodeProto, channels: Channels | None) -> None:
        """The channels of a node's output; an output of an unknown shape holds none."""
        if channels is None:
            return
        shape = self.shapes.get(node.output[0], ())
        if len(shape) > channels.axis and shape[channels.axis] == len(channels.numbers):
            self.channels[node.output[0]] = channels
        else:
            self.ledger.fix(channels.numbers, _told(node, "changes the number of channels"))

    def fix(self, node: NodeProto, reason: str) -> None:
        """All channels that reach the node have to stay."""
        for name in node.input:
            if name in self.channels:
                self.ledger.fix(self.channels[name].numbers, _told(node, reason))


Rule = Callable[[Walk, NodeProto], None]


def followed(model: onnx.ModelProto) -> Ledger:
    """Every node's rule in order; then what the outputs and shared weights fix."""
    walk = Walk(model)
    for node in model.graph.node:
        _RULES.get(node.op_type, _not_understood)(walk, node)
    for value in model.graph.output:
        if value.name in walk.channels:
            walk.ledger.fix(walk.channels[value.name].numbers, "an output of the model")
    walk.ledger.fix_shared(_uses(model))
    return walk.ledger


def _uses(model: onnx.ModelProto) -> dict[str, int]:
    counts: dict[str, int] = {}
    for node in model.graph.node:
        for name in node.input:
            counts[name] = counts.get(name, 0) + 1
    return counts


def _told(node: NodeProto, reason: str) -> str:
    return f"{node.op_type} {node.name!r} {reason}"


def _not_understood(walk: Walk, node: NodeProto) -> None:
    walk.fix(node, "is not understood")


def _passed(walk: Walk, node: NodeProto) -> None:
    """Works on each element, or within each channel: the channels stay where they are."""
    walk.give(node, walk.of(node))


def _pooled(walk: Walk, node: NodeProto) -> None:
    found = walk.of(node)
    if found and found.axis != _CHANNEL_AXIS:
        walk.fix(node, "pools over the channels")
    else:
        walk.give(node, found)


def _normalised(walk: Walk, node: NodeProto) -> None:
    """Batch normalization has four values for each channel."""
    found = walk.of(node)
    if found is None:
        return
    if found.axis != _CHANNEL_AXIS or any(n not in walk.weights for n in node.input[1:]):
        walk.fix(node, "does not normalise along the channels with constants")
        return
    for name in node.input[1:]:
        walk.ledger.slot(node.name, name, 0, Use.EACH, found.numbers)
    walk.give(node, found)


def _convolved(walk: Walk, node: NodeProto) -> None:
    found, name = walk.of(node), node.input[1]
    if name not in walk.weights or any(n and n not in walk.weights for n in node.input[2:]):
        walk.fix(node, "has a weight that is computed")
        return
    if found and found.axis != _CHANNEL_AXIS:
        walk.fix(node, "convolves along the channels")
        found = None
    made, read = (1, 0) if node.op_type == "ConvTranspose" else (0, 1)
    group = _attribute(node, "group", 1)
    taken = walk.shapes[node.input[0]][_CHANNEL_AXIS]
    if group == 1:
        _dense(walk, node, found, (made, read))
    elif group == taken and walk.shapes[name][1] == 1:
        _depthwise(walk, node, found)
    elif node.op_type == "Conv":
        _grouped(walk, node, found, group)
    else:
        walk.fix(node, "is a transposed convolution in groups")


def _dense(walk: Walk, node: NodeProto, found: Channels | None, axes: tuple[int, int]) -> None:
    """New channels; every channel that comes in is read by all of them."""
    made, read = axes
    weight = node.input[1]
    numbers = walk.ledger.new(walk.shapes[weight][made])
    if found:
        walk.ledger.slot(node.name, weight, read, Use.READ, found.numbers)
    walk.ledger.slot(node.name, weight, made, Use.MADE, numbers)
    _biased(walk, node, numbers)
    if node.op_type == "Conv":
        _tapped(walk, node)
    walk.give(node, Channels(_CHANNEL_AXIS, numbers))


def _tapped(walk: Walk, node: NodeProto) -> None:
    """A kernel's taps stay, but those at an end that a smaller padding there makes up for."""
    kernel = walk.shapes[node.input[1]][FIRST_TAPS:]
    pads = _numbers(node, "pads") or [0] * 2 * len(kernel)
    dilations = _numbers(node, "dilations") or [1] * len(kernel)
    for axis, (size, step) in enumerate(zip(kernel, dilations, strict=True)):
        first, last = (pads[end + axis] // step for end in (0, len(kernel)))
        first = min(first, (size - 1) // 2)
        last = min(last, size - 1 - first)
        taps = walk.ledger.new(size)
        walk.ledger.slot(node.name, node.input[1], FIRST_TAPS + axis, Use.TAP, taps)
        walk.ledger.fix(taps[first : size - last], _told(node, "has no padding to make up for it"))


def _biased(walk: Walk, node: NodeProto, numbers: np.ndarray) -> None:
    """A bias has its channels on its last axis."""
    name = node.input[2] if len(node.input) > _MATRIX else ""
    shape = walk.shapes.get(name, ())
    if shape and shape[-1] == len(numbers):
        walk.ledger.slot(node.name, name, len(shape) - 1, Use.EACH, numbers)


def _depthwise(walk: Walk, node: NodeProto, found: Channels | None) -> None:
    """Each channel makes as many of its own, which go with it."""
    weight = node.input[1]
    made = walk.shapes[weight][0]
    if found is None:
        return
    numbers = np.repeat(found.numbers, made // len(found.numbers))
    walk.ledger.slot(node.name, weight, 0, Use.EACH, numbers)
    _biased(walk, node, numbers)
    walk.ledger.group(node.name, found.numbers)
    walk.give(node, Channels(_CHANNEL_AXIS, numbers))


def _grouped(walk: Walk, node: NodeProto, found: Channels | None, group: int) -> None:
    """Each group loses the same ones, of what it reads and of what it makes."""
    weight, reason = node.input[1], _told(node, "has groups that must stay alike")
    numbers = walk.ledger.new(walk.shapes[weight][0])
    rows = numbers.reshape(group, -1)
    for row in rows[1:]:
        walk.ledger.join(rows[0], row, reason)
    if found:
        parts = found.numbers.reshape(group, -1)
        for part in parts[1:]:
            walk.ledger.join(parts[0], part, reason)
        walk.ledger.slot(node.name, weight, 1, Use.READ, parts[0])
    walk.ledger.slot(node.name, weight, 0, Use.MADE, numbers)
    _biased(walk, node, numbers)
    walk.give(node, Channels(_CHANNEL_AXIS, numbers))


def _multiplied(walk: Walk, node: NodeProto) -> None:
    """A dense layer: Gemm, or MatMul with a constant matrix on the right."""
    found, name = walk.of(node), node.input[1]
    turned = _attribute(node, "transB", 0)
    last = len(walk.shapes.get(node.input[0], ())) - 1
    plain = name in walk.weights and len(walk.shapes[name]) == _MATRIX
    if not plain or _attribute(node, "transA", 0) or (found and found.axis != last):
        walk.fix(node, "multiplies something else than channels by a constant")
        return
    made, read = (0, 1) if turned else (1, 0)
    numbers = walk.ledger.new(walk.shapes[name][made])
    if found:
        walk.ledger.slot(node.name, name, read, Use.READ, found.numbers)
    walk.ledger.slot(node.name, name, made, Use.MADE, numbers)
    bias = node.input[2] if len(node.input) > _MATRIX else ""
    if bias and bias not in walk.weights:
        walk.ledger.fix(numbers, _told(node, "has a bias that is computed"))
    _biased(walk, node, numbers)
    walk.give(node, Channels(last, numbers))


def _combined(walk: Walk, node: NodeProto) -> None:
    """Elementwise on several tensors: channels at the same place become one."""
    shape = walk.shapes.get(node.output[0], ())
    if any(name not in walk.shapes for name in (*node.input, *node.output)):
        walk.fix(node, "has an unknown shape")
        return
    found = [(len(shape) - len(walk.shapes[n]), walk.channels[n])
             for n in node.input if n in walk.channels]  # fmt: skip
    if not found:
        return
    axis = found[0][0] + found[0][1].axis
    numbers = found[0][1].numbers
    reason = _told(node, "joins channels with what is none")
    if any(offset + c.axis != axis or len(c.numbers) != shape[axis] for offset, c in found):
        walk.fix(node, "joins channels of different axes")
        return
    for _, other in found[1:]:
        walk.ledger.join(numbers, other.numbers, reason)
    for name in filter(None, node.input):
        own = axis - (len(shape) - len(walk.shapes[name]))
        if name in walk.channels or own < 0 or walk.shapes[name][own] == 1:
            continue
        if name in walk.weights:
            walk.ledger.slot(node.name, name, own, Use.EACH, numbers)
        else:
            walk.ledger.fix(numbers, reason)
    walk.give(node, Channels(axis, numbers))


def _joined(walk: Walk, node: NodeProto) -> None:
    """Concat: one behind the other along the channels, or beside one another."""
    axis = _attribute(node, "axis", 0) % len(walk.shapes.get(node.output[0], (0,)))
    found = [walk.of(node, index) for index in range(len(node.input))]
    known = [c for c in found if c]
    if not known:
        return
    if any(c.axis != known[0].axis for c in known):
        walk.fix(node, "joins channels of different axes")
    elif axis == known[0].axis:
        nothing = [np.full(walk.shapes[n][axis], NO_CHANNEL) for n in node.input]
        rows = [c.numbers if c else fill for c, fill in zip(found, nothing, strict=True)]
        if any(n in walk.weights for n in node.input):
            walk.fix(node, "joins channels with a constant")
            return
        walk.give(node, Channels(axis, np.concatenate(rows)))
    elif len(known) < len(found):
        walk.fix(node, "joins channels with what is none")
    else:
        for other in known[1:]:
            walk.ledger.join(known[0].numbers, other.numbers, _told(node, "joins them"))
        walk.give(node, known[0])


def _padded(walk: Walk, node: NodeProto) -> None:
    """Channels that are added are no channels of a layer; the others keep their places."""
    found, pads = walk.of(node), walk.value(node, 1)
    if found is None:
        return
    if pads is None:
        walk.fix(node, "pads by what is computed")
        return
    rank = len(walk.shapes[node.input[0]])
    axes = walk.value(node, 3)
    named = list(range(rank)) if axes is None else [int(a) % rank for a in axes.tolist()]
    amounts = dict(zip(named, pads.reshape(2, -1).T.tolist(), strict=True))
    before, after = amounts.get(found.axis, (0, 0))
    if before < 0 or after < 0:
        walk.fix(node, "cuts channels off")
        return
    numbers = np.pad(found.numbers, (before, after), constant_values=NO_CHANNEL)
    walk.give(node, Channels(found.axis, numbers))


def _sliced(walk: Walk, node: NodeProto) -> None:
    """Anywhere but along the channels."""
    found = walk.of(node)
    if found is None:
        return
    source, result = walk.shapes[node.input[0]], walk.shapes.get(node.output[0], ())
    axes = walk.value(node, 3)
    named = range(len(source)) if axes is None else [int(a) % len(source) for a in axes.tolist()]
    if found.axis in named and (result[found.axis] != source[found.axis] or axes is None):
        walk.fix(node, "takes some of the channels")
    elif found.axis in named:
        walk.fix(node, "counts the channels")
    else:
        walk.give(node, found)


def _moved(walk: Walk, node: NodeProto) -> None:
    """The same elements in another shape: the numbers are moved as the elements are."""
    found = walk.of(node)
    if found is None:
        return
    source, result = walk.shapes[node.input[0]], walk.shapes.get(node.output[0], ())
    laid = found.numbers.reshape([-1 if a == found.axis else 1 for a in range(len(source))])
    laid = np.broadcast_to(laid, source)
    if node.op_type == "Transpose":
        laid = laid.transpose(_numbers(node, "perm"))
    else:
        laid = laid.reshape(result)
    axis = _along(laid)
    if axis is None:
        walk.fix(node, "spreads the channels over several axes")
        return
    numbers = laid[tuple(slice(None) if a == axis else 0 for a in range(laid.ndim))]
    if node.op_type == "Reshape":
        if node.input[1] not in walk.weights:
            walk.fix(node, "has a shape that is computed")
            return
        walk.ledger.shape(node.name, axis, numbers)
    walk.give(node, Channels(axis, numbers))


def _along(laid: NDArray[np.int64]) -> int | None:
    """The one axis along which numbers differ."""
    varying = [a for a in range(laid.ndim) if (np.diff(laid, axis=a) != 0).any()]
    if not varying:  # one channel
        return max(range(laid.ndim), key=lambda a: laid.shape[a])
    return varying[0] if len(varying) == 1 else None


def _reduced(walk: Walk, node: NodeProto) -> None:
    """Over other axes than the channels'."""
    found = walk.of(node)
    if found is None:
        return
    rank = len(walk.shapes[node.input[0]])
    given = walk.value(node, 1)
    axes = given.tolist() if given is not None else _numbers(node, "axes")
    gone = {int(a) % rank for a in axes} if axes else set(range(rank))
    if found.axis in gone:
        walk.fix(node, "reduces over the channels")
        return
    below = 0 if _attribute(node, "keepdims", 1) else sum(a < found.axis for a in gone)
    walk.give(node, Channels(found.axis - below, found.numbers))


def _numbers(node: NodeProto, name: str) -> list[int] | None:
    return next((list(a.ints) for a in node.attribute if a.name == name), None)


def _attribute(node: NodeProto, name: str, default: int) -> int:
    found = [a for a in node.attribute if a.name == name]
    return int(helper.get_attribute_value(found[0])) if found else default


_ELEMENTWISE = (
    *("Relu", "LeakyRelu", "Clip", "Sigmoid", "Tanh", "HardSwish", "HardSigmoid", "Elu", "Selu"),
    *("Gelu", "Softplus", "Softsign", "Mish", "Celu", "ThresholdedRelu", "Erf", "Abs", "Neg"),
    *("Exp", "Log", "Sqrt", "Reciprocal", "Floor", "Ceil", "Round", "Sign", "Sin", "Cos"),
    *("Cast", "Identity", "Dropout"),
)
_BROADCAST = ("Add", "Sub", "Mul", "Div", "Max", "Min", "Sum", "Mean", "Pow", "PRelu")
_POOLS = (
    *("MaxPool", "AveragePool", "LpPool", "GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"),
)
_REDUCTIONS = ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2")
_MOVES = ("Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze")

_RULES: dict[str, Rule] = {
    **dict.fromkeys(_ELEMENTWISE, _passed),
    **dict.fromkeys(_BROADCAST, _combined),
    **dict.fromkeys(_POOLS, _pooled),
    **dict.fromkeys(_REDUCTIONS, _reduced),
    **dict.fromkeys(_MOVES, _moved),
    "BatchNormalization": _normalised,
    "Conv": _convolved,
    "ConvTranspose": _convolved,
    "Gemm": _multiplied,
    "MatMul": _multiplied,
    "Concat": _joined,
    "Pad": _padded,
    "Slice": _sliced,
}
