"""Which inputs of a graph are channels-first: those that meet an operator that says so."""

from __future__ import annotations

from collections.abc import Mapping

import onnx

from edgekit.sources.consumers import consumers

_CHANNELS_FIRST = frozenset(
    {"Conv", "ConvTranspose", "MaxPool", "AveragePool", "BatchNormalization"}
    | {"InstanceNormalization", "LRN", "DepthToSpace", "SpaceToDepth"}
)
"""Not the global pools: a mean over the features of a sequence is written as one, too."""
_ELEMENTWISE = frozenset({"Add", "Sub", "Mul", "Div", "Cast", "Clip", "Relu", "Pad", "Identity"})
_FEWEST_AXES = 3


def channels_first(model: onnx.ModelProto) -> tuple[str, ...]:
    """The names of the inputs whose second axis counts channels (NCW, NCHW, NCDHW)."""
    taken = consumers(model)
    return tuple(
        value.name
        for value in model.graph.input
        if len(value.type.tensor_type.shape.dim) >= _FEWEST_AXES
        and _meets_channels_first(value.name, taken)
    )


def _meets_channels_first(name: str, taken: Mapping[str, list[onnx.NodeProto]]) -> bool:
    """Whether what flows from a tensor, elementwise work aside, is taken as channels-first."""
    seen, waiting = set(), [name]
    while waiting:
        for node in taken.get(waiting.pop(), ()):
            if node.op_type in _CHANNELS_FIRST:
                return True
            if node.op_type in _ELEMENTWISE and node.output[0] not in seen:
                seen.add(node.output[0])
                waiting.append(node.output[0])
    return False
