"""Cleaning up a graph: a table of passes, each kept only when it changes nothing but rounding.

Operators are fused to standard ones only that every format takes; whatever a runtime
fuses into operators of its own (an activation into a convolution, attention) is left to it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from edgekit.domain import CleanUp
from edgekit.errors import ModelError
from edgekit.sources import reference
from edgekit.sources.feeds import Feeds
from edgekit.toolchain import frameworks

with frameworks.hidden("sympy"):
    import onnxsim

ONNX_ERRORS = (
    RuntimeError,
    ValueError,
    onnx.checker.ValidationError,
    onnx.shape_inference.InferenceError,
    onnx.version_converter.ConvertError,
)
"""What onnx raises about a graph; its own classes have no base in common."""

_FOR_ONE_RUNTIME = ["fuse_attention", "fuse_gqa", "fuse_rms_norm", "fuse_rope"]
"""onnxsim's passes that make operators of ONNX Runtime's own (com.microsoft), or of opset
23, that LiteRT's converter does not take."""

_BIAS, _ROW = 2, 2

_CONSTANTS = {
    "value_float": "float32",
    "value_floats": "float32",
    "value_int": "int64",
    "value_ints": "int64",
}

Outputs = reference.Outputs


class Pass(msgspec.Struct, frozen=True):
    """One pass: what it does, and a function from a graph to a new one.

    The function may change the graph that it is given, and raise any of ``ONNX_ERRORS``
    or ``ModelError`` when it cannot do its work.
    """

    name: str
    does: str
    apply: Callable[[onnx.ModelProto], onnx.ModelProto]


def cleaned(
    model: onnx.ModelProto, feeds: Feeds, expected: Outputs
) -> tuple[onnx.ModelProto, tuple[CleanUp, ...]]:
    """The graph after every pass that keeps its outputs, and what each pass did.

    Args:
        model: it is not changed.
        feeds: what both graphs are run with.
        expected: the outputs to be kept.
    """
    done = []
    for one in PASSES:
        changed, reason = _tried(one, model, feeds, expected)
        done.append(
            CleanUp(name=one.name, does=one.does, changed=changed is not None, reason=reason)
        )
        model = changed or model
    return model, tuple(done)


def _tried(
    one: Pass, model: onnx.ModelProto, feeds: Feeds, expected: Outputs
) -> tuple[onnx.ModelProto | None, str]:
    """The changed graph, or ``None`` and why the graph was left as it is (empty: no change)."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    try:
        changed = one.apply(copy)
        if changed == model:
            return None, ""
        if foreign := _domains(changed) - _domains(model):
            return None, f"the graph would have needed operators of {', '.join(sorted(foreign))}"
        got = reference.run(changed, feeds)
    except ModelError as error:
        return None, error.message
    except ONNX_ERRORS as error:
        return None, f"{type(error).__name__}: {str(error).strip().splitlines()[0][:200]}"
    if not reference.agree(got, expected):
        return None, "the outputs would have changed"
    return changed, ""


def _domains(model: onnx.ModelProto) -> set[str]:
    return {node.domain for node in model.graph.node}


def _folded(model: onnx.ModelProto) -> onnx.ModelProto:
    return _simplified(model, perform_optimization=False)


def _fused(model: onnx.ModelProto) -> onnx.ModelProto:
    return _simplified(model, skipped_optimizers=_FOR_ONE_RUNTIME)


def _simplified(model: onnx.ModelProto, **how: object) -> onnx.ModelProto:
    simplified, _ = onnxsim.simplify(model, **how)
    return _with_metadata(simplified, model)


def _with_metadata(changed: onnx.ModelProto, model: onnx.ModelProto) -> onnx.ModelProto:
    """The user's metadata, and none that a tool left behind."""
    del changed.metadata_props[:]
    changed.metadata_props.extend(model.metadata_props)
    return changed


def _fewer_transposes(model: onnx.ModelProto) -> onnx.ModelProto:
    """What ONNX Runtime's transpose optimizer leaves, where that is less.

    Its basic level makes standard operators only, but more of them around quantized ones;
    a graph without transposes to save is not touched.
    """
    if transposes(model) == 0:
        return model
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        path = Path(folder) / "optimized.onnx"
        options.optimized_model_filepath = str(path)
        try:
            onnxruntime.InferenceSession(
                model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime's own, which share no base
            raise ModelError(str(error).splitlines()[0][:200]) from error
        changed = onnx.load(path)
    if transposes(changed) >= transposes(model):
        return model
    del changed.opset_import[:]
    changed.opset_import.extend(model.opset_import)
    changed.ir_version = model.ir_version
    return _with_metadata(changed, model)


def transposes(model: onnx.ModelProto) -> int:
    """How many nodes move data from one layout to another."""
    return sum(node.op_type == "Transpose" for node in model.graph.node)


def _constants_lifted(model: onnx.ModelProto) -> onnx.ModelProto:
    graph = model.graph
    outputs = {value.name for value in graph.output}
    kept = []
    for node in graph.node:
        constant = _constant(node) if node.op_type == "Constant" else None
        if constant is None or constant.name in outputs:
            kept.append(node)
        else:
            graph.initializer.append(constant)
    del graph.node[:]
    graph.node.extend(kept)
    return model


def _constant(node: onnx.NodeProto) -> TensorProto | None:
    """What a Constant node gives; ``None`` for text and sparse tensors."""
    (attribute,) = node.attribute
    if attribute.name == "value":
        tensor = TensorProto()
        tensor.CopyFrom(attribute.t)
        tensor.name = node.output[0]
        return tensor
    if attribute.name not in _CONSTANTS:
        return None
    array = np.array(helper.get_attribute_value(attribute), _CONSTANTS[attribute.name])
    return numpy_helper.from_array(array, node.output[0])


def _biases_flattened(model: onnx.ModelProto) -> onnx.ModelProto:
    """A Gemm's bias of ``[1, N]`` as ``[N]``: the same by broadcasting, and quantizable.

    ONNX Runtime's quantizer fails on the former (microsoft/onnxruntime#24815).
    """
    biases, others = set(), {value.name for value in model.graph.output}
    for node in model.graph.node:
        end = _BIAS if node.op_type == "Gemm" else len(node.input)
        others.update(node.input[:end])
        biases.update(node.input[end:])
    for tensor in model.graph.initializer:
        if tensor.name in biases - others and len(tensor.dims) == _ROW and tensor.dims[0] == 1:
            del tensor.dims[0]
    return model


PASSES = (
    Pass("fold", "constants folded, dead nodes removed, shapes inferred", _folded),
    Pass(
        "fuse",
        "batch norm, bias, scale and padding fused into convolutions; GELU and layer norm "
        "into one node where the opset has one; what undoes itself removed",
        _fused,
    ),
    Pass("transpose", "transposes moved together and cancelled", _fewer_transposes),
    Pass("constants", "constant nodes made weights", _constants_lifted),
    Pass("bias", "biases of one row flattened", _biases_flattened),
)
