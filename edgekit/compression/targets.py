"""What a layer is fitted to: a tensor of the original network, as far as it counts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from msgspec import Struct
from onnx import NodeProto

from edgekit.compression.layers import Array, Layer, constant
from edgekit.sources.consumers import consumers


class Goal(Struct, frozen=True):
    """What a layer is fitted to.

    Attributes:
        target: the tensor of the original network that is to be met.
        other: what is added to the layer's output to give it; empty: nothing.
        low, high: outside of these the activation that follows gives the same.
    """

    target: str
    other: str = ""
    low: float = -np.inf
    high: float = np.inf

    def wanted(self, told: Array, given: Array) -> Array:
        """What is to be met; where the activation cuts that off, what is given may be cut off, too.

        Args:
            told: what the original has there.
            given: what is there now, in the same shape.
        """
        found = np.where(told <= self.low, np.minimum(given, self.low), told)
        return np.where(told >= self.high, np.maximum(given, self.high), found)


def goals(original: onnx.ModelProto, layers: Sequence[Layer]) -> dict[str, Goal]:
    """What each layer is fitted to, by its name.

    A layer whose output is only added to what is final by then is fitted to the sum.
    """
    readers = consumers(original)
    ends = {value.name for value in original.graph.output}
    order = {name: i for i, node in enumerate(original.graph.node) for name in node.output}
    fitted_at = _last_fitted(original, {layer.given for layer in layers})
    found = {}
    for layer in layers:
        following = readers.get(layer.given, [])
        target, other = layer.given, ""
        if len(following) == 1 and following[0].op_type == "Add" and target not in ends:
            (other,) = [n for n in following[0].input if n != layer.given] or [""]
            # Its last layer must have been fitted before this one is.
            if other in order and fitted_at[other] < order[layer.given]:
                target = following[0].output[0]
                following = readers.get(target, [])
            else:
                other = ""
        low, high = passing(original, following) if target not in ends else (-np.inf, np.inf)
        found[layer.name] = Goal(target, other, low, high)
    return found


def _last_fitted(original: onnx.ModelProto, given: set[str]) -> dict[str, int]:
    """For each tensor, the last node that is a layer and that it depends on."""
    last: dict[str, int] = {}
    for index, node in enumerate(original.graph.node):
        at = max((last.get(name, -1) for name in node.input), default=-1)
        for name in node.output:
            last[name] = index if name in given else at
    return last


def passing(original: onnx.ModelProto, following: Sequence[NodeProto]) -> tuple[float, float]:
    """Between which values the one node that follows tells its inputs apart."""
    if len(following) != 1:
        return -np.inf, np.inf
    (node,) = following
    if node.op_type == "Relu":
        return 0.0, np.inf
    constants = {t.name for t in original.graph.initializer}
    if node.op_type != "Clip" or any(n and n not in constants for n in node.input[1:]):
        return -np.inf, np.inf
    bounds = [float(constant(original, n)) if n else None for n in node.input[1:]]
    low, high = (*bounds, None, None)[:2]
    return (-np.inf if low is None else low), (np.inf if high is None else high)
