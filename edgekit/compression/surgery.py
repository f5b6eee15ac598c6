"""Taking channels and taps out of a graph: its weights, and the numbers in it that count them."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from edgekit.compression.groups import FIRST_TAPS, Counted, Coupling, Slot, Use
from edgekit.errors import ModelError

_SHAPE = 1


def without(
    model: onnx.ModelProto, coupling: Coupling, removed: Collection[int]
) -> onnx.ModelProto:
    """The graph without some of its channels; names, inputs and outputs stay.

    Args:
        model: it is not changed.
        coupling: of ``model``.
        removed: numbers of free channels, some of every dimension left over.

    Raises:
        ModelError: what is left is no valid graph.
    """
    made = onnx.ModelProto()
    made.CopyFrom(model)
    gone = np.array(sorted(removed), np.int64)
    tensors = {tensor.name: tensor for tensor in made.graph.initializer}
    nodes = {node.name: node for node in made.graph.node}
    done = set()
    for slot in coupling.slots:
        keep = kept(slot.channels, gone)
        if keep.all():
            continue
        if (slot.tensor, slot.axis) not in done:
            _cut(tensors[slot.tensor], slot, keep)
        if slot.use is Use.TAP:
            _shrink(nodes[slot.node], slot.axis - FIRST_TAPS, keep)
        done.add((slot.tensor, slot.axis))
    for counted in coupling.groups:
        _count_groups(nodes[counted.node], int(kept(counted.channels, gone).sum()))
    for counted in coupling.shapes:
        _count_shape(made, nodes[counted.node], counted, gone)
    del made.graph.value_info[:]
    try:
        inferred = onnx.shape_inference.infer_shapes(made, check_type=True, strict_mode=True)
    except onnx.shape_inference.InferenceError as error:
        raise ModelError(f"without its channels the graph is not valid: {error}") from error
    return inferred


def kept(channels: Collection[int], removed: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which of an axis' indices stay."""
    return ~np.isin(np.array(channels), removed)


def _cut(tensor: onnx.TensorProto, slot: Slot, keep: NDArray[np.bool_]) -> None:
    array = numpy_helper.to_array(tensor)
    smaller = np.ascontiguousarray(np.compress(keep, array, axis=slot.axis))
    tensor.CopyFrom(numpy_helper.from_array(smaller, tensor.name))


def _shrink(node: onnx.NodeProto, axis: int, keep: NDArray[np.bool_]) -> None:
    """What a convolution says of its kernel; each tap that went took its padding along."""
    had = {a.name: a.ints for a in node.attribute if a.ints}
    pads, step = had["pads"], had["dilations"][axis] if "dilations" in had else 1
    first, last = np.flatnonzero(keep)[[0, -1]].tolist()
    pads[axis] -= first * step
    pads[len(pads) // 2 + axis] -= (len(keep) - 1 - last) * step
    if "kernel_shape" in had:
        had["kernel_shape"][axis] = int(keep.sum())


def _count_groups(node: onnx.NodeProto, count: int) -> None:
    (group,) = [a for a in node.attribute if a.name == "group"]
    group.i = count


def _count_shape(
    model: onnx.ModelProto, node: onnx.NodeProto, counted: Counted, gone: NDArray[np.int64]
) -> None:
    """A shape of its own for a Reshape: others may share the one it has."""
    (shape,) = [t for t in model.graph.initializer if t.name == node.input[_SHAPE]]
    sizes = numpy_helper.to_array(shape).copy()
    count = int(kept(counted.channels, gone).sum())
    # 0 copies what comes in, and -1 is what is left over: both follow by themselves.
    if sizes[counted.axis] <= 0 or sizes[counted.axis] == count:
        return
    sizes[counted.axis] = count
    name = f"{node.name}/shape_without_channels"
    model.graph.initializer.append(numpy_helper.from_array(sizes, name))
    node.input[_SHAPE] = name
