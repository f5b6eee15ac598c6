"""Who takes what in a graph."""

from __future__ import annotations

import onnx
from onnx import NodeProto


def consumers(model: onnx.ModelProto) -> dict[str, list[NodeProto]]:
    """The nodes that take each tensor, in order; one that takes it twice is there twice."""
    found: dict[str, list[NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            found.setdefault(name, []).append(node)
    return found
