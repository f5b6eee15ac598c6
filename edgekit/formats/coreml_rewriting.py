"""Rewriting an ONNX graph until every operator is one that the Core ML exporter has.

A rewrite is a function from one node to nodes that compute the same; the tables that name
them are ``coreml_rewrites`` and its siblings. What ONNX itself defines by other operators
is replaced by that definition.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import (
    FunctionProto,
    ModelProto,
    NodeProto,
    TensorProto,
    TypeProto,
    helper,
    numpy_helper,
    version_converter,
)
from onnx.inliner import inline_local_functions, inline_selected_functions

from edgekit.toolchain import frameworks

with frameworks.hidden("sympy"):
    import onnxsim

_MAX_PASSES = 12
_REDUCE_AXES_INPUT = 18
"""From this opset on, every reduction takes its axes as an input; before, only ReduceSum."""

_DEFINED_FROM = 18
"""Most definitions are written for this opset and later ones."""

_OWN = "edgekit"
"""The domain of definitions on their way into the graph."""

_NOTHING = "Core ML has no such operator, nor others to make it of"

Array = NDArray[Any]
Shape = tuple[int, ...]


class Refused(Exception):
    """Core ML cannot hold this node; the text says why."""


class Scene:
    """A graph as a rewrite sees it: shapes, types and constants by name, the opset."""

    def __init__(self, model: ModelProto) -> None:
        versions = [o.version for o in model.opset_import if o.domain in ("", "ai.onnx")]
        self.opset = max(versions, default=1)
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
        self.constants = {t.name: numpy_helper.to_array(t) for t in inferred.initializer}
        self.shapes: dict[str, Shape] = {n: c.shape for n, c in self.constants.items()}
        self.types = {n: c.dtype for n, c in self.constants.items()}
        for value in (*inferred.input, *inferred.value_info, *inferred.output):
            tensor = value.type.tensor_type
            if tensor.elem_type:
                self.types[value.name] = helper.tensor_dtype_to_np_dtype(tensor.elem_type)
            sizes = [d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim]
            if tensor.HasField("shape") and None not in sizes:
                self.shapes[value.name] = tuple(size for size in sizes if size is not None)


class Builder:
    """The nodes that replace one node; every method appends and gives the new tensor's name."""

    def __init__(self, scene: Scene, node: NodeProto, prefix: str) -> None:
        self.scene = scene
        self.node = node
        self.nodes: list[NodeProto] = []
        self.made: list[TensorProto] = []
        self._prefix = prefix

    def __call__(self, op: str, *inputs: str, **attributes: Any) -> str:
        return self.several(op, inputs, 1, **attributes)[0]

    def several(
        self, op: str, inputs: Iterable[str], count: int, **attributes: Any
    ) -> tuple[str, ...]:
        """An operator with ``count`` outputs."""
        name = f"{self._prefix}/{op}_{len(self.nodes)}"
        outputs = tuple(f"{name}:{i}" for i in range(count))
        self.nodes.append(helper.make_node(op, list(inputs), list(outputs), name, **attributes))
        return outputs

    def constant(self, array: Array) -> str:
        name = f"{self._prefix}/constant_{len(self.made)}"
        self.made.append(numpy_helper.from_array(np.array(array, order="C"), name))
        return name

    def scalar(self, value: float, like: str) -> str:
        """A constant of the type of the tensor ``like``."""
        return self.constant(np.array(value, self.type(like)))

    def integers(self, *values: int) -> str:
        return self.constant(np.array(values, np.int64))

    def reduce(self, op: str, x: str, axes: Iterable[int], *, keep: bool = True) -> str:
        """A reduction, its axes where the opset wants them."""
        listed = [int(axis) for axis in axes]
        if op == "ReduceSum" or self.scene.opset >= _REDUCE_AXES_INPUT:
            return self(op, x, self.integers(*listed), keepdims=int(keep))
        return self(op, x, axes=listed, keepdims=int(keep))

    def cast(self, x: str, dtype: Any) -> str:
        return self("Cast", x, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def shape(self, name: str) -> Shape:
        if name not in self.scene.shapes:
            raise Refused(f"the shape of {name!r} is not known before the model runs")
        return self.scene.shapes[name]

    def type(self, name: str) -> np.dtype[Any]:
        return np.dtype(self.scene.types[name])

    def fixed(self, index: int, what: str) -> Array:
        """An input that Core ML must know when the model is built."""
        name = self.input(index)
        if name is None or name not in self.scene.constants:
            raise Refused(f"{what} is computed while the model runs; Core ML needs it fixed")
        return self.scene.constants[name]

    def input(self, index: int) -> str | None:
        """The name of an input, ``None`` where it is left out."""
        names = self.node.input
        return names[index] if index < len(names) and names[index] else None

    def attribute(self, name: str, default: Any = None) -> Any:
        for attribute in self.node.attribute:
            if attribute.name == name:
                value = helper.get_attribute_value(attribute)
                return value.decode() if isinstance(value, bytes) else value
        return default

    def attributes(self) -> dict[str, Any]:
        return {a.name: helper.get_attribute_value(a) for a in self.node.attribute}


Made = str | tuple[str, ...] | None
Rewrite = Callable[[Builder], Made]
"""The names that stand for the node's outputs; ``None``: the node is good as it is.

Raises ``Refused`` where it never can be.
"""


class Refusal(Exception):
    """Every node that Core ML cannot hold: its operator, its name and why."""

    def __init__(self, nodes: Mapping[str, tuple[str, str]]) -> None:
        self.nodes = dict(nodes)
        super().__init__("; ".join(f"{op} {name!r}: {why}" for name, (op, why) in nodes.items()))


def rewritten(
    model: ModelProto, supported: frozenset[str], table: Mapping[str, Rewrite]
) -> ModelProto:
    """The same function in operators of ``supported`` alone.

    Args:
        model: fixed shapes, checked.
        supported: what the exporter takes.
        table: operator -> rewrite; a rewrite of a supported operator mends what the
            exporter would get wrong.

    Raises:
        Refusal: nodes that cannot be brought to these operators, all of them.
    """
    if _defined_by_others(model, supported, table):
        model = _raised(model)
    undefined: dict[str, str] = {}
    for number in range(_MAX_PASSES):
        changed, refused = _pass(model, supported, table, number)
        defined = [op for op in _defined_by_others(model, supported, table) if op not in undefined]
        model, failed = _inlined(model, defined)
        undefined |= failed
        # What looks computed may be a constant yet to be folded.
        if not (changed or defined or (refused and not number)):
            break
        model = _folded(model)
    left = {n.name: n.op_type for n in model.graph.node if n.op_type not in supported}
    told = {op for op, _ in refused.values()}
    for name, op in left.items():
        if op not in told:
            refused[name] = (op, undefined.get(op, _NOTHING))
    if refused:
        raise Refusal(refused)
    return model


def _pass(
    model: ModelProto, supported: frozenset[str], table: Mapping[str, Rewrite], number: int
) -> tuple[bool, dict[str, tuple[str, str]]]:
    """Every node once; whether anything changed, and what was refused."""
    _lift_constants(model)
    scene = Scene(model)
    kept: list[NodeProto] = []
    refused: dict[str, tuple[str, str]] = {}
    changed = False
    for index, node in enumerate(model.graph.node):
        name = node.name or f"{node.op_type}_{index}"
        builder = Builder(scene, node, f"{name}/{number}.{index}")
        try:
            made = _made(builder, supported, table)
        except Refused as reason:
            refused[name] = (node.op_type, str(reason))
            made = None
        if made is None:
            kept.append(node)
            continue
        changed = True
        kept.extend(_connected(builder, (made,) if isinstance(made, str) else made))
        model.graph.initializer.extend(builder.made)
    del model.graph.node[:]
    model.graph.node.extend(kept)
    if changed:
        del model.graph.value_info[:]
    return changed, refused


def _lift_constants(model: ModelProto) -> None:
    """Constant nodes as initializers, where a rewrite looks for what is fixed."""
    outputs = {value.name for value in model.graph.output}
    kept = []
    for node in model.graph.node:
        if node.op_type != "Constant" or node.output[0] in outputs:
            kept.append(node)
        else:
            tensor = numpy_helper.from_array(_constant(node), node.output[0])
            model.graph.initializer.append(tensor)
    del model.graph.node[:]
    model.graph.node.extend(kept)


def _constant(node: NodeProto) -> Array:
    value = helper.get_attribute_value(node.attribute[0])
    if isinstance(value, TensorProto):
        return numpy_helper.to_array(value)
    whole = node.attribute[0].name.startswith("value_int")
    return np.array(value, np.int64 if whole else np.float32)


def _made(builder: Builder, supported: frozenset[str], table: Mapping[str, Rewrite]) -> Made:
    op = builder.node.op_type
    if builder.node.domain not in ("", "ai.onnx"):
        raise Refused(f"an operator of {builder.node.domain!r}, which only that runtime knows")
    if op in _NEVER:
        raise Refused(_NEVER[op])
    if op in table:
        return table[op](builder)
    if op not in supported and not _has_definition(op, builder.scene.opset):
        raise Refused(_NOTHING)
    return None


def _connected(builder: Builder, made: tuple[str, ...]) -> list[NodeProto]:
    """The new nodes, the last of them giving what the old node gave."""
    for new, old in zip(made, builder.node.output, strict=False):
        if old:
            builder.nodes.append(
                helper.make_node("Identity", [new], [old], f"{builder.node.name}/{old}")
            )
    return builder.nodes


def _has_definition(op: str, opset: int) -> bool:
    try:
        schema: Any = onnx.defs.get_schema(op, opset)
    except onnx.defs.SchemaError:
        return False
    return bool(schema.has_function or schema.has_context_dependent_function)


def _raised(model: ModelProto) -> ModelProto:
    """In an opset whose operators ONNX defines by others; as it was where onnx cannot."""
    if Scene(model).opset >= _DEFINED_FROM:
        return model
    try:
        return version_converter.convert_version(model, _DEFINED_FROM)
    except (RuntimeError, version_converter.ConvertError):
        return model


def _defined_by_others(
    model: ModelProto, supported: frozenset[str], table: Mapping[str, Rewrite]
) -> list[str]:
    """What is neither supported nor in the table, but ONNX defines by other operators."""
    opset = Scene(model).opset
    ops = {node.op_type for node in model.graph.node if node.domain in ("", "ai.onnx")}
    rest = sorted(ops - supported - table.keys())
    return [op for op in rest if _has_definition(op, opset)]


def _inlined(model: ModelProto, ops: list[str]) -> tuple[ModelProto, dict[str, str]]:
    """Operators replaced by their definitions, and why some could not be."""
    failed: dict[str, str] = {}
    for op in ops:
        typed = _typed(model)
        _complete(typed, op)
        try:
            model = inline_selected_functions(typed, [("", op)], inline_schema_functions=True)
        except RuntimeError:
            try:
                model = _expanded(typed, op)
            except RuntimeError as error:
                said = str(error).rpartition(":")[2].strip()
                failed[op] = f"onnx cannot write it in other operators: {said}"
    return model, failed


def _complete(model: ModelProto, op: str) -> None:
    """Attributes left out as their defaults, in place: the inliner forgets them."""
    schema: Any = onnx.defs.get_schema(op, Scene(model).opset)
    for node in model.graph.node:
        given = {attribute.name for attribute in node.attribute}
        for name, attribute in schema.attributes.items() if node.op_type == op else ():
            if name not in given and attribute.default_value.name:
                node.attribute.append(attribute.default_value)


def _expanded(model: ModelProto, op: str) -> ModelProto:
    """An operator replaced, node by node, by what ONNX defines it as there.

    For definitions that depend on a node's operands: onnx's own inliner fails where an
    optional one is left out.
    """
    schema: Any = onnx.defs.get_schema(op, Scene(model).opset)
    made = ModelProto()
    made.CopyFrom(model)
    graph = made.graph
    types = {v.name: v.type for v in (*graph.input, *graph.value_info, *graph.output)}
    for index, node in enumerate(graph.node):
        if node.op_type == op:
            operands = [types.get(name, TypeProto()).SerializeToString() for name in node.input]
            body = FunctionProto()
            body.ParseFromString(
                schema.get_context_dependent_function(node.SerializeToString(), operands)
            )
            body.domain, body.name = _OWN, f"{op}_{index}"
            node.domain, node.op_type = body.domain, body.name
            made.functions.append(body)
    made.opset_import.append(helper.make_opsetid(_OWN, 1))
    inlined = inline_local_functions(made)
    if any(node.domain == _OWN for node in inlined.graph.node):
        raise RuntimeError(f"{op}: its definition is of another opset")
    del inlined.opset_import[:]
    inlined.opset_import.extend(model.opset_import)
    return inlined


def _typed(model: ModelProto) -> ModelProto:
    """A copy that says the type of every tensor, constants included: the inliner asks for it."""
    typed = onnx.shape_inference.infer_shapes(model, data_prop=True)
    graph = typed.graph
    said = {value.name for value in (*graph.input, *graph.value_info, *graph.output)}
    graph.value_info.extend(
        helper.make_tensor_value_info(t.name, t.data_type, t.dims)
        for t in graph.initializer
        if t.name not in said
    )
    return typed


def _folded(model: ModelProto) -> ModelProto:
    """Constants folded and what is not used dropped; the graph as it was where that fails."""
    try:
        # Not optimized: that fuses again what was just taken apart.
        simplified, _ = onnxsim.simplify(model, perform_optimization=False)
    except (RuntimeError, ValueError, onnx.checker.ValidationError):
        return model
    return simplified if simplified.graph.node else model


_DYNAMIC = "the size of its output depends on the data, and Core ML fixes every shape"
_NEVER = {
    "NonZero": _DYNAMIC,
    "Compress": _DYNAMIC,
    "Unique": _DYNAMIC,
    "NonMaxSuppression": _DYNAMIC,
    "If": "control flow: only one branch with a fixed condition can be converted",
    "Loop": "control flow: unroll it before the export",
    "Scan": "control flow: unroll it before the export",
}
