"""Which operators of a ``.tflite`` are which nodes of the graph that it was converted from.

Converters name operators as they like, but keep weights: transposed at most.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray
from onnx import numpy_helper

from edgekit.errors import ToolError

Floats = NDArray[np.float32]
_WEIGHT = 1


def operators_of(nodes: Collection[str], graph: Path, converted: Path) -> tuple[str, ...]:
    """The operators that have the weights of those nodes, by the names of what they give.

    Args:
        nodes: with constant weights.
        graph: theirs, in ONNX.
        converted: the float ``.tflite`` of the graph.

    Raises:
        ToolError: a node's weights are in no operator; the converter has changed them.
    """
    told = dict(_weights(converted.read_bytes()))
    found: list[str] = []
    for node, weight in _wanted(onnx.load(graph).graph, nodes):
        same = [name for name, its in told.items() if np.array_equal(its, weight)]
        if not same:
            raise ToolError(f"the .tflite has no operator with the weights of {node}")
        found += same
    return tuple(dict.fromkeys(found))


def nodes_of(converted: Path, graph: Path) -> dict[str, str]:
    """The nodes that operators come from, as far as weights or names tell; by ``operators_of``'s.

    Args:
        converted: the float ``.tflite`` of the graph.
        graph: in ONNX.
    """
    made = onnx.load(graph).graph
    found = {name: node.name for node in made.node for name in node.output}
    weights = dict(_weights(converted.read_bytes()))
    for node, weight in _wanted(made, {node.name for node in made.node}):
        same = (name for name, its in weights.items() if np.array_equal(its, weight))
        found |= dict.fromkeys(same, node)
    return found


def _wanted(graph: onnx.GraphProto, nodes: Collection[str]) -> Iterator[tuple[str, Floats]]:
    """Nodes and their weights, sorted."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        constant = len(node.input) > _WEIGHT and node.input[_WEIGHT] in constants
        if node.name in nodes and constant:
            yield node.name, np.sort(numpy_helper.to_array(constants[node.input[_WEIGHT]]), None)


def _weights(model: bytes) -> Iterator[tuple[str, Floats]]:
    """Operators and the constants that are their second inputs, sorted."""
    made = schema.ModelT.InitFromPackedBuf(model, 0)
    graph = made.subgraphs[0]
    for operator in graph.operators:
        tensor = _second(graph, operator)
        data = made.buffers[tensor.buffer].data if tensor else None
        if tensor and data is not None and tensor.type == schema.TensorType.FLOAT32:
            outputs = (graph.tensors[i].name.decode() for i in operator.outputs if i >= 0)
            yield ";".join(outputs), np.sort(np.asarray(data).view(np.float32), None)


def _second(graph: Any, operator: Any) -> Any | None:
    """The tensor that an operator takes second; ``None``: it takes none."""
    taken = operator.inputs
    given = taken is not None and len(taken) > _WEIGHT and taken[_WEIGHT] >= 0
    return graph.tensors[taken[_WEIGHT]] if given else None
