"""What a hostile ONNX file may not do to what reads it: counts, depths and sizes, checked first.

Nothing here allocates by what a file claims; it is compared with what the file holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from math import prod

import onnx
from onnx import AttributeProto, FunctionProto, GraphProto, NodeProto, TensorProto, helper

from edgekit.errors import ModelError
from edgekit.sources.external_data import tensors

MOST_NODES = 100_000
"""With every function called written out; the largest networks have about 10,000."""

DEEPEST = 16
"""Branches and loops inside one another, and functions that call functions."""

_PACKED: dict[int, int] = {
    TensorProto.UINT4: 4,
    TensorProto.INT4: 4,
    TensorProto.FLOAT4E2M1: 4,
    TensorProto.FLOAT6E2M3: 6,
    TensorProto.FLOAT6E3M2: 6,
    TensorProto.UINT2: 2,
    TensorProto.INT2: 2,
}
"""The bits of an element where several share a byte."""

Name = tuple[str, str]
Functions = Mapping[Name, FunctionProto]


def check(model: onnx.ModelProto) -> None:
    """Refuse a model that would take its readers' time or memory without end.

    Raises:
        ModelError: too many nodes or levels, a function that calls itself, or a tensor
            that claims more than it holds.
    """
    functions = {(one.domain, one.name): one for one in model.functions}
    count = _nodes(model.graph.node, functions, {}, 0)
    if count > MOST_NODES:
        raise _too_many(count)
    for tensor in tensors(model):
        _check_tensor(tensor)


def _nodes(
    nodes: Iterable[NodeProto], functions: Functions, counted: dict[Name, int], depth: int
) -> int:
    """How many nodes there are with branches, loops and called functions written out."""
    if depth > DEEPEST:
        raise ModelError(
            f"the model's branches, loops or functions are more than {DEEPEST} levels deep"
        )
    total = 0
    for node in nodes:
        called = functions.get((node.domain, node.op_type))
        total += 1 if called is None else _body(called, functions, counted, depth)
        for graph in _graphs(node):
            total += _nodes(graph.node, functions, counted, depth + 1)
        if total > MOST_NODES:
            raise _too_many(total)
    return total


def _body(called: FunctionProto, functions: Functions, counted: dict[Name, int], depth: int) -> int:
    """The size of a function's body, counted once however often it is called."""
    name = (called.domain, called.name)
    if name not in counted:
        counted[name] = _nodes(called.node, functions, counted, depth + 1)
    return counted[name]


def _graphs(node: NodeProto) -> Iterator[GraphProto]:
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield attribute.g
        yield from attribute.graphs


def _too_many(count: int) -> ModelError:
    return ModelError(f"the model has {count} nodes or more; edgekit takes up to {MOST_NODES}")


def _check_tensor(tensor: TensorProto) -> None:
    """A tensor that claims what it does not hold leads its readers out of their memory."""
    known = tensor.data_type in helper.get_all_tensor_dtypes()
    if not known or any(size < 0 for size in tensor.dims):
        raise ModelError(
            f"the tensor {tensor.name!r} is of type {tensor.data_type} and shape "
            f"{list(tensor.dims)}, which is none"
        )
    claimed, held = prod(tensor.dims), _held(tensor)
    if claimed > held:
        raise ModelError(
            f"the tensor {tensor.name!r} claims {claimed} elements and holds {held}",
            "the file is damaged: export or copy it again",
        )


def _held(tensor: TensorProto) -> int:
    """The elements that a tensor has data for."""
    bits = _PACKED.get(tensor.data_type)
    if tensor.HasField("raw_data"):
        whole = helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize * 8
        return len(tensor.raw_data) * 8 // (bits or whole)
    field = getattr(tensor, helper.tensor_dtype_to_field(tensor.data_type))
    return len(field) * (8 // bits if bits else 1)
