"""The work of ``onnx_file.load``, done in the process that it starts for it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np
import onnx
import onnxruntime
from google.protobuf.message import DecodeError, Message
from numpy.typing import NDArray
from onnx import (
    TensorProto,
    external_data_helper,
    helper,
    inliner,
    numpy_helper,
    version_converter,
)

from edgekit.domain import TensorSpec
from edgekit.errors import ModelError
from edgekit.sources.feeds import Feeds, random_feeds
from edgekit.sources.layout import channels_first
from edgekit.sources.model import MIN_OPSET, Shapes, SourceModel
from edgekit.sources.shapes import fixed
from edgekit.toolchain import frameworks

with frameworks.hidden():
    import onnxsim

_IR_VERSION = 8
"""New enough for opset 13, old enough for the runtimes devices still carry."""

_AGREES = 1e-4
_BIAS, _ROW = 2, 2

_CONSTANTS = {
    "value_float": "float32",
    "value_floats": "float32",
    "value_int": "int64",
    "value_ints": "int64",
}

_NUMBERS = "fiub"
"""NumPy's kinds of what edgekit feeds and compares: no text, no objects."""

_ONNX_ERRORS = (
    RuntimeError,
    ValueError,
    onnx.checker.ValidationError,
    onnx.shape_inference.InferenceError,
    version_converter.ConvertError,
)
"""What onnx raises about a graph; its own classes have no base in common."""


def normalise(path: Path, folder: Path, shapes: Shapes) -> SourceModel:
    """Read, check and normalise; see ``onnx_file.load``."""
    model = _read(path)
    external = _load_external_data(model, path.parent)
    opset = _opset(model)
    model = _inlined(model)
    _plain_inputs(model)
    notes = _fix_shapes(model, shapes)
    raised = _raise_opset(model)
    if opset < MIN_OPSET:
        notes.append(f"raised from opset {opset} to {MIN_OPSET}")
    _name_nodes(raised)
    feeds = random_feeds(_specs(raised.graph.input))
    expected = _run(raised, feeds)
    simplified = _simplified(raised, feeds, expected)
    if simplified is None:
        notes.append("constants were not folded: the folded graph gave other outputs")
        simplified = raised
    _lift_constants(simplified)
    _flatten_biases(simplified)
    _fix_outputs(simplified, expected)
    _name_nodes(simplified)
    graph = folder / "source.onnx"
    graph.write_bytes(simplified.SerializeToString(deterministic=True))
    probe = folder / "probe.npz"
    np.savez(probe, *(expected[value.name] for value in simplified.graph.output))
    return SourceModel(
        origin=path,
        name=path.stem,
        sha256=_digest(path, external),
        graph=graph,
        probe=probe,
        opset=opset,
        inputs=_specs(simplified.graph.input),
        outputs=_specs(simplified.graph.output),
        channels_first=channels_first(simplified),
        notes=tuple(notes),
    )


def _read(path: Path) -> onnx.ModelProto:
    try:
        model = onnx.load(path, load_external_data=False)
    except DecodeError as error:
        raise ModelError(
            f"{path.name} is not an ONNX model, or it is truncated", "export or copy it again"
        ) from error
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}") from error
    if not model.graph.node or not model.opset_import:
        raise ModelError(f"{path.name} is not an ONNX model: it holds no graph")
    if _opset(model) > onnx.defs.onnx_opset_version():
        raise ModelError(
            f"{path.name} is written in opset {_opset(model)}; this onnx knows up to "
            f"{onnx.defs.onnx_opset_version()}",
            "export it with a lower opset",
        )
    return model


def _opset(model: onnx.ModelProto) -> int:
    versions = [o.version for o in model.opset_import if o.domain in ("", "ai.onnx")]
    return max(versions, default=0)


def _tensors(message: Message) -> Iterator[TensorProto]:
    """Every tensor of a model, wherever it is: sparse, in an attribute, a branch or a function."""
    if isinstance(message, TensorProto):
        yield message
        return
    for field, value in message.ListFields():
        if field.type == field.TYPE_MESSAGE:
            for part in (value,) if isinstance(value, Message) else value:
                yield from _tensors(part)


def _load_external_data(model: onnx.ModelProto, folder: Path) -> list[Path]:
    """Load weights kept beside the model; only plain files inside its own folder."""
    found: set[Path] = set()
    for tensor in _tensors(model):
        if tensor.data_location != TensorProto.EXTERNAL:
            continue
        location = {entry.key: entry.value for entry in tensor.external_data}.get("location", "")
        try:
            found.add(_contained(folder, location))
            external_data_helper.load_external_data_for_tensor(tensor, str(folder))
        except (OSError, ValueError, onnx.checker.ValidationError) as error:
            raise ModelError(f"external data {location!r} cannot be read: {error}") from error
        tensor.data_location = TensorProto.DEFAULT
        del tensor.external_data[:]
    return sorted(found)


def _contained(folder: Path, location: str) -> Path:
    pure = PurePosixPath(location)
    path = folder / pure
    outside = pure.is_absolute() or ".." in pure.parts or not location
    linked = any(
        p.is_symlink() for p in (path, *path.parents) if p.is_relative_to(folder) and p != folder
    )
    if outside or linked:
        raise ModelError(
            f"the model keeps weights in {location!r}, outside its own folder or behind a link",
            "external data must be plain files beside the model",
        )
    if not path.is_file():
        raise ModelError(
            f"the model keeps weights in {location!r}, which is not beside it",
            "copy the external data file into the model's folder",
        )
    if path.stat().st_nlink > 1:
        raise ModelError(f"external data {location!r} is a hard link", "copy the file instead")
    return path


def _inlined(model: onnx.ModelProto) -> onnx.ModelProto:
    """Calls of the model's own functions replaced by their bodies: no later stage knows them."""
    if not model.functions:
        return model
    try:
        return inliner.inline_local_functions(model)
    except _ONNX_ERRORS as error:
        raise ModelError(f"the model's own functions cannot be inlined: {error}") from error


def _plain_inputs(model: onnx.ModelProto) -> None:
    """Up to IR 3 every initializer is an input, too; a newer IR is needed to tell them apart."""
    constants = {tensor.name for tensor in model.graph.initializer}
    kept = [value for value in model.graph.input if value.name not in constants]
    if not kept:
        raise ModelError("the model has no inputs")
    del model.graph.input[:]
    model.graph.input.extend(kept)
    model.ir_version = _IR_VERSION


def _fix_shapes(model: onnx.ModelProto, shapes: Shapes) -> list[str]:
    names = [value.name for value in model.graph.input]
    if unknown := sorted(set(shapes) - set(names)):
        raise ModelError(f"--shape names {unknown[0]!r}; the model's inputs: {', '.join(names)}")
    notes = []
    for value in model.graph.input:
        tensor = value.type.tensor_type
        if not _numeric(tensor.elem_type):
            raise ModelError(
                f"input {value.name!r} is no tensor of numbers (text, a sequence, a map, ...)"
            )
        given = shapes.get(value.name)
        if not tensor.HasField("shape"):
            wanted = _ranked(value.name, given)
        else:
            # A size of -1 or 0 is how some exporters write a dynamic axis.
            declared = [d.dim_value if d.dim_value > 0 else None for d in tensor.shape.dim]
            wanted = fixed(value.name, declared, given)
        if [d.dim_value for d in tensor.shape.dim] != list(wanted):
            notes.append(f"input {value.name} fixed to {list(wanted)}")
        del tensor.shape.dim[:]
        for size in wanted:
            tensor.shape.dim.add().dim_value = size
    return notes


def _numeric(elem_type: int) -> bool:
    known = elem_type in helper.get_all_tensor_dtypes()
    return known and helper.tensor_dtype_to_np_dtype(elem_type).kind in _NUMBERS


def _ranked(name: str, given: tuple[int, ...] | None) -> tuple[int, ...]:
    """The shape of an input that declares none at all."""
    if given is None:
        raise ModelError(
            f"input {name!r} declares no shape", f"give its shape with --shape {name}=1,N,..."
        )
    return fixed(name, [None] * len(given), given)


def _raise_opset(model: onnx.ModelProto) -> onnx.ModelProto:
    if _opset(model) >= MIN_OPSET:
        return model
    try:
        return version_converter.convert_version(model, MIN_OPSET)
    except _ONNX_ERRORS as error:
        raise ModelError(
            f"the model is written in opset {_opset(model)} and onnx cannot raise it to "
            f"{MIN_OPSET}: {error}",
            f"export it again with opset {MIN_OPSET} or later",
        ) from error


def _run(model: onnx.ModelProto, feeds: Feeds) -> dict[str, NDArray[np.generic]]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # The reference is the graph as written: nothing is fused before it is compared.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        names = [value.name for value in session.get_outputs()]
        outputs = dict(zip(names, session.run(names, feeds), strict=True))
    except Exception as error:
        raise ModelError(
            f"ONNX Runtime cannot run the model: {str(error).splitlines()[0][:400]}",
            "the file may be damaged, need custom operators, or need --shape",
        ) from error
    for name, array in outputs.items():
        if not isinstance(array, np.ndarray) or array.dtype.kind not in _NUMBERS:
            raise ModelError(
                f"output {name!r} is no tensor of numbers (text, a sequence, a map, ...)",
                "export the model without it",
            )
    return outputs


def _simplified(
    model: onnx.ModelProto, feeds: Feeds, expected: dict[str, NDArray[np.generic]]
) -> onnx.ModelProto | None:
    """The graph with constants folded; ``None`` when folding fails or changes the outputs."""
    try:
        simplified, _ = onnxsim.simplify(model)
        del simplified.metadata_props[:]
        simplified.metadata_props.extend(model.metadata_props)
        got = _run(simplified, feeds)
    except (*_ONNX_ERRORS, ModelError):
        return None
    return simplified if all(_agree(got[name], expected[name]) for name in expected) else None


def _agree(got: NDArray[np.generic], expected: NDArray[np.generic]) -> bool:
    if got.shape != expected.shape or got.dtype != expected.dtype:
        return False
    if expected.dtype.kind != "f":
        return bool(np.array_equal(got, expected))
    finite = expected[np.isfinite(expected)]
    scale = float(np.max(np.abs(finite), initial=0.0)) or 1.0
    return bool(np.allclose(got, expected, rtol=0.0, atol=_AGREES * scale, equal_nan=True))


def _lift_constants(model: onnx.ModelProto) -> None:
    """Constant nodes as initializers: later stages look for weights nowhere else."""
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


def _flatten_biases(model: onnx.ModelProto) -> None:
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


def _fix_outputs(model: onnx.ModelProto, expected: dict[str, NDArray[np.generic]]) -> None:
    """Output shapes as they were seen: inference leaves names where the batch was."""
    for value in model.graph.output:
        tensor = value.type.tensor_type
        array = expected[value.name]
        del tensor.shape.dim[:]
        for size in array.shape:
            tensor.shape.dim.add().dim_value = size
        tensor.elem_type = helper.np_dtype_to_tensor_dtype(array.dtype)


def _name_nodes(model: onnx.ModelProto) -> None:
    """Each its own name: ONNX Runtime refuses a graph in which two nodes share one."""
    taken, seen = {node.name for node in model.graph.node}, {""}
    for index, node in enumerate(model.graph.node):
        if node.name in seen:
            node.name = f"{node.op_type}_{index}"
            while node.name in taken:
                node.name += "_"
        taken.add(node.name)
        seen.add(node.name)


def _specs(values: object) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(
            value.name,
            tuple(d.dim_value for d in value.type.tensor_type.shape.dim),
            helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type).name,
        )
        for value in values  # type: ignore[attr-defined]
    )


def _digest(path: Path, external: list[Path]) -> str:
    """Over the file and, by name, the external data it keeps its weights in."""
    total = hashlib.sha256(path.read_bytes())
    for extra in external:
        total.update(extra.name.encode() + b"\0")
        total.update(hashlib.sha256(extra.read_bytes()).digest())
    return total.hexdigest()
