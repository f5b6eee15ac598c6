"""Rewriting a float .tflite into operators that LiteRT's kernels, and its quantizer, do better.

Converters write a product by constant weights as BATCH_MATMUL, whose int8 kernel has one
scale for all weights and no bias; FULLY_CONNECTED has one per channel. A reciprocal root
in two steps loses in int8 what the one operator keeps. Called in a process of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

Floats = NDArray[np.float32]

_MAGIC = b"TFL3"
_BUILTIN = schema.BuiltinOperator
_FLAT = 2
_NONE = schema.ActivationFunctionType.NONE
_ACTIVATIONS = {
    _BUILTIN.RELU: schema.ActivationFunctionType.RELU,
    _BUILTIN.RELU6: schema.ActivationFunctionType.RELU6,
}
_KEEPS_AXES = 5
"""The version of FULLY_CONNECTED that first gives as many axes as it takes."""


def rewritten(source: Path, destination: Path) -> int:
    """Write a copy of a float ``.tflite`` in which every rewrite was done that applies.

    Returns:
        How many there were; with none, nothing is written.
    """
    model = schema.ModelT.InitFromPackedBuf(source.read_bytes(), 0)
    if any(buffer.offset > 1 for buffer in model.buffers):
        return 0  # Weights behind the flatbuffer: the schema's classes would not carry them.
    count = sum(rewrite(_Graph(model, each)) for each in model.subgraphs for rewrite in REWRITES)
    if count:
        _drop_unused(model)
        builder = flatbuffers.Builder(source.stat().st_size)
        builder.Finish(model.Pack(builder), _MAGIC)
        destination.write_bytes(builder.Output())
    return count


class _Graph:
    """One subgraph, and what is asked of it."""

    def __init__(self, model: Any, subgraph: Any) -> None:
        self.model = model
        self.tensors = subgraph.tensors
        self.operators = subgraph.operators
        self._ends = {int(index) for index in subgraph.outputs}

    def kind(self, operator: Any) -> int:
        """Its ``BuiltinOperator``; older files have it in a field that holds up to 127."""
        code = self.model.operatorCodes[operator.opcodeIndex]
        return int(max(code.builtinCode, code.deprecatedBuiltinCode))

    def become(self, operator: Any, kind: int, version: int, options: Any = None) -> None:
        """Make another operator of it; its inputs and outputs stay."""
        operator.opcodeIndex = self._code(kind, version)
        operator.builtinOptions = options
        name = type(options).__name__.removesuffix("T") if options else "NONE"
        operator.builtinOptionsType = getattr(schema.BuiltinOptions, name)

    def _code(self, kind: int, version: int) -> int:
        for index, code in enumerate(self.model.operatorCodes):
            if max(code.builtinCode, code.deprecatedBuiltinCode) == kind:
                code.version = max(code.version, version)
                return index
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = kind
        code.version = version
        self.model.operatorCodes.append(code)
        return len(self.model.operatorCodes) - 1

    def activates(self, operator: Any) -> bool:
        """Whether an activation is part of an operator."""
        options = operator.builtinOptions
        return options is not None and bool(options.fusedActivationFunction != _NONE)

    def name(self, index: int) -> str:
        """A tensor's; it may have none."""
        return (self.tensors[index].name or b"").decode()

    def constant(self, index: int) -> Floats | None:
        """A float tensor's values; ``None``: it has none, or is no float."""
        tensor = self.tensors[index] if index >= 0 else None
        if tensor is None or tensor.type != schema.TensorType.FLOAT32:
            return None
        data = self.model.buffers[tensor.buffer].data
        if data is None or not len(data):
            return None
        shape = () if tensor.shape is None else tensor.shape
        return np.asarray(data).view(np.float32).reshape(shape)

    def add(self, name: str, array: Floats) -> int:
        """The index of a new constant."""
        buffer, tensor = schema.BufferT(), schema.TensorT()
        buffer.data = np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8)
        self.model.buffers.append(buffer)
        tensor.buffer = len(self.model.buffers) - 1
        tensor.name, tensor.shape = name, list(array.shape)
        tensor.type = schema.TensorType.FLOAT32
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def producer(self, index: int) -> Any | None:
        """The operator that gives a tensor."""
        return next((each for each in self.operators if index in each.outputs), None)

    def only_reader(self, index: int) -> Any | None:
        """The one operator that takes a tensor; ``None``: another one does, or it is an output."""
        readers = [each for each in self.operators if index in each.inputs]
        return readers[0] if len(readers) == 1 and index not in self._ends else None


def _dense(graph: _Graph) -> int:
    """``x @ constant`` as FULLY_CONNECTED, whose weights are the other way round."""
    turned: dict[tuple[int, bool], int] = {}
    found = [(each, factor) for each in graph.operators if (factor := _factor(graph, each))]
    for operator, (weights, matrix) in found:
        taken, _ = operator.inputs
        lies = operator.builtinOptions is not None and bool(operator.builtinOptions.adjY)
        if (weights, lies) not in turned:
            name = f"{graph.name(weights)}/turned"
            turned[weights, lies] = graph.add(name, matrix if lies else matrix.T)
        options = schema.FullyConnectedOptionsT()
        options.keepNumDims = len(graph.tensors[taken].shape) > _FLAT
        graph.become(operator, _BUILTIN.FULLY_CONNECTED, _KEEPS_AXES, options)
        operator.inputs = [taken, turned[weights, lies], -1]
    return len(found)


def _factor(graph: _Graph, operator: Any) -> tuple[int, Floats] | None:
    """The constant matrix that a BATCH_MATMUL multiplies by, and its tensor's index."""
    options = operator.builtinOptions
    if graph.kind(operator) != _BUILTIN.BATCH_MATMUL or (options is not None and options.adjX):
        return None
    taken, weights = (int(index) for index in operator.inputs)
    values, rank = graph.constant(weights), len(graph.tensors[taken].shape)
    if values is None or not _FLAT <= values.ndim <= rank or graph.constant(taken) is not None:
        return None
    matrix = values.shape[-_FLAT:]
    return (weights, values.reshape(matrix)) if values.size == np.prod(matrix) else None


def _biased(graph: _Graph) -> int:
    """A vector that is added to what FULLY_CONNECTED gives, as its bias."""
    return sum(_absorbed(graph, operator, _bias) for operator in list(graph.operators))


def _activated(graph: _Graph) -> int:
    """An activation after FULLY_CONNECTED, inside it."""
    return sum(_absorbed(graph, operator, _activation) for operator in list(graph.operators))


def _absorbed(graph: _Graph, operator: Any, absorb: Callable[[_Graph, Any, Any], bool]) -> bool:
    """Whether FULLY_CONNECTED now does what the one operator behind it did."""
    if graph.kind(operator) != _BUILTIN.FULLY_CONNECTED or graph.activates(operator):
        return False
    operator.builtinOptions = operator.builtinOptions or schema.FullyConnectedOptionsT()
    operator.builtinOptionsType = schema.BuiltinOptions.FullyConnectedOptions
    following = graph.only_reader(int(operator.outputs[0]))
    if following is None or not absorb(graph, operator, following):
        return False
    operator.outputs = following.outputs
    graph.operators.remove(following)
    return True


def _bias(graph: _Graph, operator: Any, following: Any) -> bool:
    taken, weights, *bias = operator.inputs
    if graph.kind(following) != _BUILTIN.ADD or any(index >= 0 for index in bias):
        return False
    given = int(operator.outputs[0])
    width = graph.tensors[given].shape[-1]
    other = next((int(index) for index in following.inputs if index != given), -1)
    vector = graph.constant(other)
    if vector is None or vector.shape[-1:] != (width,) or vector.size != width:
        return False
    if vector.ndim > len(graph.tensors[given].shape):
        return False
    if vector.ndim > 1:
        other = graph.add(f"{graph.name(other)}/flat", vector.reshape(-1))
    operator.inputs = [taken, weights, other]
    added = following.builtinOptions
    function = _NONE if added is None else added.fusedActivationFunction
    operator.builtinOptions.fusedActivationFunction = function
    return True


def _activation(graph: _Graph, operator: Any, following: Any) -> bool:
    function = _ACTIVATIONS.get(graph.kind(following), _NONE)
    operator.builtinOptions.fusedActivationFunction = function
    return bool(function != _NONE)


def _reciprocal_root(graph: _Graph) -> int:
    """``1 / sqrt(x)`` as RSQRT."""
    found = [(each, root) for each in graph.operators if (root := _root(graph, each))]
    for operator, root in found:
        graph.become(operator, _BUILTIN.RSQRT, 1)
        operator.inputs = root.inputs
        graph.operators.remove(root)
    return len(found)


def _root(graph: _Graph, operator: Any) -> Any | None:
    """The SQRT that a DIV divides one by, and that nobody else reads."""
    if graph.kind(operator) != _BUILTIN.DIV or graph.activates(operator):
        return None
    one, under = (int(index) for index in operator.inputs)
    value, root = graph.constant(one), graph.producer(under)
    if value is None or value.size != 1 or value.flat[0] != 1 or root is None:
        return None
    if value.ndim > len(graph.tensors[under].shape):
        return None
    alone = graph.only_reader(under) is operator
    return root if graph.kind(root) == _BUILTIN.SQRT and alone else None


def _drop_unused(model: Any) -> None:
    """Remove the tensors that nothing names any more: interpreters give them no memory."""
    for number, graph in enumerate(model.subgraphs):
        lists = [
            (holder, field)
            for holder, fields in (
                (graph, ("inputs", "outputs")),
                *((each, ("inputs", "outputs", "intermediates")) for each in graph.operators),
            )
            for field in fields
            if getattr(holder, field) is not None
        ]
        used = {int(index) for holder, field in lists for index in getattr(holder, field)}
        kept = sorted(index for index in used if index >= 0)
        place = {old: new for new, old in enumerate(kept)} | {-1: -1}
        for holder, field in lists:
            setattr(holder, field, [place[int(index)] for index in getattr(holder, field)])
        named = [s for s in model.signatureDefs or [] if s.subgraphIndex == number]
        for tensor_map in (each for s in named for each in (*s.inputs, *s.outputs)):
            tensor_map.tensorIndex = place[tensor_map.tensorIndex]
        graph.tensors = [graph.tensors[index] for index in kept]
    used = {tensor.buffer for graph in model.subgraphs for tensor in graph.tensors}
    used |= {each.buffer for each in model.metadata or []}
    for index, buffer in enumerate(model.buffers):
        if index not in used:
            buffer.data = None


REWRITES: tuple[Callable[[_Graph], int], ...] = (_dense, _biased, _activated, _reciprocal_root)
