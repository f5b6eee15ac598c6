"""ONNX to a Core ML model by onnxsim's exporter; called in a process of its own.

The graph is first brought to operators that the exporter has. What cannot be is reported by
operator, node and reason, all of it at once.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from edgekit.errors import ConversionFailed, EdgekitError
from edgekit.formats.coreml_package import border_names
from edgekit.formats.coreml_rewrites import REWRITES
from edgekit.formats.coreml_rewriting import Refusal, Scene, rewritten
from edgekit.toolchain import frameworks

with frameworks.hidden("sympy"):
    from onnxsim.coreml_export import SUPPORTED_ONNX_OPS, convert_to_coreml

_MAX_RANK = 5
_MAX_TRIED = 64
_TOLD = 12
_HINT = (
    "export the model without these layers, run them outside of it, or choose a device that "
    "takes another format"
)
_HELD: dict[int, int] = {
    TensorProto.FLOAT: TensorProto.FLOAT,
    TensorProto.FLOAT16: TensorProto.FLOAT16,
    TensorProto.DOUBLE: TensorProto.DOUBLE,
    TensorProto.INT32: TensorProto.INT32,
    TensorProto.INT64: TensorProto.INT64,
    TensorProto.BOOL: TensorProto.INT32,
}
"""Types at the border of a model: Core ML takes and gives numbers, and bools as int32."""


def prepared(model: ModelProto) -> ModelProto:
    """The same function in operators that the exporter has.

    Raises:
        ConversionFailed: nodes that Core ML cannot hold, all of them.
    """
    made = ModelProto()
    made.CopyFrom(model)
    _check_border(made)
    try:
        made = rewritten(made, frozenset(SUPPORTED_ONNX_OPS), REWRITES)
    except Refusal as refusal:
        raise _failed(refusal.nodes) from refusal
    _check_ranks(made)
    return made


def converted(model: ModelProto, *, release: int, float16: bool) -> Any:
    """A Core ML model (coremltools' ``MLModel``) of a prepared graph.

    Args:
        model: as ``prepared`` gave it; QDQ pairs become ``quantize`` and ``dequantize``.
        release: the iOS release whose operators it may use.
        float16: compute in float16; inputs and outputs keep their types.

    Raises:
        ConversionFailed: nodes that the exporter refuses, all of them.
    """
    with frameworks.hidden():
        import coremltools as ct

    logging.getLogger("coremltools").setLevel(logging.ERROR)
    precision = ct.precision.FLOAT16 if float16 else ct.precision.FLOAT32
    bordered = _bordered(model)
    try:
        return convert_to_coreml(
            bordered, minimum_deployment_target=f"iOS{release}", compute_precision=precision
        )
    except EdgekitError:
        raise
    except Exception as error:
        raise _failed(_each_refused(bordered, release) or _whole(error)) from error


def _check_border(model: ModelProto) -> None:
    """Types and ranks of what goes in and out.

    Raises:
        ConversionFailed: Core ML has no such input or output.
    """
    wrong = {}
    for what, values in (("input", model.graph.input), ("output", model.graph.output)):
        for value in values:
            tensor = value.type.tensor_type
            rank = len(tensor.shape.dim)
            if tensor.elem_type not in _HELD:
                kind = TensorProto.DataType.Name(tensor.elem_type).lower()
                wrong[value.name] = (what, f"Core ML takes and gives no {kind}")
            elif not 1 <= rank <= _MAX_RANK:
                wrong[value.name] = (what, f"it has {rank} axes; Core ML takes one to {_MAX_RANK}")
            elif any(d.HasField("dim_value") and d.dim_value == 0 for d in tensor.shape.dim):
                wrong[value.name] = (what, "it is empty")
    if wrong:
        raise _failed(wrong)


def _check_ranks(model: ModelProto) -> None:
    """Core ML stores tensors of up to five axes.

    Raises:
        ConversionFailed: a tensor has more.
    """
    scene = Scene(model)
    wrong = {
        node.name: (node.op_type, f"it gives {len(scene.shapes[name])} axes; Core ML has five")
        for node in model.graph.node
        for name in node.output
        if len(scene.shapes.get(name, ())) > _MAX_RANK
    }
    if wrong:
        raise _failed(wrong)


def _bordered(model: ModelProto) -> ModelProto:
    """A copy whose inputs and outputs have names and types that Core ML knows."""
    made = ModelProto()
    made.CopyFrom(model)
    graph = made.graph
    values = [*graph.input, *graph.output]
    names = border_names(value.name for value in values)
    inside = {value.name: f"{value.name}/inside" for value in values}
    for node in graph.node:
        node.input[:] = [inside.get(name, name) for name in node.input]
        node.output[:] = [inside.get(name, name) for name in node.output]
    for tensor in graph.initializer:
        tensor.name = inside.get(tensor.name, tensor.name)
    entering = [
        _crossing(names[v.name], inside[v.name], v.type.tensor_type.elem_type, enters=True)
        for v in graph.input
    ]
    leaving = [
        _crossing(inside[v.name], names[v.name], v.type.tensor_type.elem_type, enters=False)
        for v in graph.output
    ]
    nodes = [*entering, *graph.node, *leaving]
    del graph.node[:]
    graph.node.extend(nodes)
    del graph.value_info[:]
    for value in values:
        value.name = names[value.name]
        value.type.tensor_type.elem_type = _HELD[value.type.tensor_type.elem_type]
    return made


def _crossing(source: str, target: str, held: int, *, enters: bool) -> NodeProto:
    """What carries a tensor of the model's type over the border."""
    name = f"{source}/border"
    if _HELD[held] == held:
        return helper.make_node("Identity", [source], [target], name)
    return helper.make_node("Cast", [source], [target], name, to=held if enters else _HELD[held])


def _failed(nodes: dict[str, tuple[str, str]]) -> ConversionFailed:
    told = [f"{op} {name!r}: {why}" for name, (op, why) in nodes.items()]
    more = [f"and {len(told) - _TOLD} more"] if len(told) > _TOLD else []
    return ConversionFailed(
        "Core ML cannot hold this model:\n  " + "\n  ".join(told[:_TOLD] + more), _HINT
    )


def _whole(error: Exception) -> dict[str, tuple[str, str]]:
    return {"": ("the model", _told(error))}


def _told(error: Exception) -> str:
    """What the exporter says, without its list of all it can do."""
    said = (str(error).splitlines() or [type(error).__name__])[0]
    return said.partition(") to Core ML: ")[2].partition(". Supported ops")[0] or said[:300]


def _each_refused(model: ModelProto, release: int) -> dict[str, tuple[str, str]]:
    """Every node that the exporter refuses on its own, by name."""
    scene = Scene(model)
    refused: dict[str, tuple[str, str]] = {}
    tried: set[str] = set()
    for node in model.graph.node:
        kind = _kind(node, scene)
        if kind in tried or len(tried) > _MAX_TRIED:
            continue
        tried.add(kind)
        try:
            alone = _alone(model, node, scene)
            convert_to_coreml(alone, minimum_deployment_target=f"iOS{release}")
        except KeyError:
            continue  # the type or shape of an operand is not known: nothing can be tried
        except Exception as error:
            refused[node.name] = (node.op_type, _told(error))
    return refused


def _kind(node: NodeProto, scene: Scene) -> str:
    """What two nodes share that the exporter treats alike."""
    tensors = [(scene.shapes.get(n), str(scene.types.get(n))) for n in node.input]
    attributes = sorted(str(attribute) for attribute in node.attribute)
    return str((node.op_type, tensors, attributes))


def _alone(model: ModelProto, node: NodeProto, scene: Scene) -> ModelProto:
    """A model of one node."""

    def value(name: str) -> onnx.ValueInfoProto:
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(scene.types[name]))
        return helper.make_tensor_value_info(name, kind, scene.shapes[name])

    fixed = [n for n in node.input if n in scene.constants]
    runtime = list(dict.fromkeys(n for n in node.input if n and n not in scene.constants))
    graph = helper.make_graph(
        [node],
        "alone",
        [value(name) for name in runtime],
        [value(name) for name in node.output if name],
        [numpy_helper.from_array(scene.constants[n], n) for n in dict.fromkeys(fixed)],
    )
    return helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
