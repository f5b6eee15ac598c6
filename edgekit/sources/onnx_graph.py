"""The work of ``onnx_file.load``, done in the process that it starts for it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx import helper, inliner, version_converter

from edgekit.domain import TensorSpec
from edgekit.errors import ModelError
from edgekit.sources import cleanup, external_data, onnx_limits, reference, unreliable
from edgekit.sources.cleanup import ONNX_ERRORS
from edgekit.sources.feeds import random_feeds
from edgekit.sources.layout import channels_first
from edgekit.sources.model import MIN_OPSET, Shapes, SourceModel
from edgekit.sources.reference import NUMBERS
from edgekit.sources.shapes import fixed

_IR_VERSION = 8
"""New enough for opset 13, old enough for the runtimes devices still carry."""


def normalise(path: Path, folder: Path, shapes: Shapes) -> SourceModel:
    """Read, check and normalise; see ``onnx_file.read``."""
    content = _content(path)
    model = _parsed(content, path.name)
    external = external_data.load(model, path.parent)
    onnx_limits.check(model)
    opset = _opset(model)
    model = _inlined(model)
    _plain_inputs(model)
    notes = _fix_shapes(model, shapes)
    raised = _raise_opset(model)
    if opset < MIN_OPSET:
        notes.append(f"raised from opset {opset} to {MIN_OPSET}")
    _name_nodes(raised)
    unreliable.check_nodes(raised)
    inputs = _specs(raised.graph.input)
    feeds = random_feeds(inputs)
    expected = reference.run(raised, feeds)
    unreliable.check_shapes(raised, inputs, expected)
    notes += _nan(expected)
    clean, passes = cleanup.cleaned(raised, feeds, expected)
    for graph in (raised, clean):
        _fix_outputs(graph, expected)
        _name_nodes(graph)
    probe = folder / "probe.npz"
    np.savez(probe, *(expected[value.name] for value in clean.graph.output))
    return SourceModel(
        origin=path,
        name=path.stem,
        sha256=_digest(content, external),
        written=_save(raised, folder / "written.onnx"),
        graph=_save(clean, folder / "source.onnx"),
        probe=probe,
        opset=opset,
        inputs=_specs(clean.graph.input),
        outputs=_specs(clean.graph.output),
        channels_first=channels_first(clean),
        notes=tuple(notes),
        passes=passes,
    )


def _save(model: onnx.ModelProto, path: Path) -> Path:
    path.write_bytes(model.SerializeToString(deterministic=True))
    return path


def _digest(content: bytes, external: dict[str, bytes]) -> str:
    """Over the file and, by name, the external data it keeps its weights in."""
    total = hashlib.sha256(content)
    for location, extra in sorted(external.items()):
        total.update(location.encode() + b"\0")
        total.update(hashlib.sha256(extra).digest())
    return total.hexdigest()


def _content(path: Path) -> bytes:
    """The file, read once: what was checked is what is used and what the digest is of."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}") from error


def _parsed(content: bytes, name: str) -> onnx.ModelProto:
    try:
        model: onnx.ModelProto = onnx.ModelProto.FromString(content)
    except DecodeError as error:
        raise ModelError(
            f"{name} is not an ONNX model, or it is truncated", "export or copy it again"
        ) from error
    if not model.graph.node or not model.opset_import:
        raise ModelError(f"{name} is not an ONNX model: it holds no graph")
    if _opset(model) > onnx.defs.onnx_opset_version():
        raise ModelError(
            f"{name} is written in opset {_opset(model)}; this onnx knows up to "
            f"{onnx.defs.onnx_opset_version()}",
            "export it with a lower opset",
        )
    return model


def _opset(model: onnx.ModelProto) -> int:
    versions = [o.version for o in model.opset_import if o.domain in ("", "ai.onnx")]
    return max(versions, default=0)


def _inlined(model: onnx.ModelProto) -> onnx.ModelProto:
    """Calls of the model's own functions replaced by their bodies: no later stage knows them."""
    if not model.functions:
        return model
    try:
        return inliner.inline_local_functions(model)
    except ONNX_ERRORS as error:
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
    return known and helper.tensor_dtype_to_np_dtype(elem_type).kind in NUMBERS


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
    except ONNX_ERRORS as error:
        raise ModelError(
            f"the model is written in opset {_opset(model)} and onnx cannot raise it to "
            f"{MIN_OPSET}: {error}",
            f"export it again with opset {MIN_OPSET} or later",
        ) from error


def _fix_outputs(model: onnx.ModelProto, expected: dict[str, NDArray[np.generic]]) -> None:
    """Output shapes as they were seen: inference leaves names where the batch was."""
    for value in model.graph.output:
        tensor = value.type.tensor_type
        array = expected[value.name]
        del tensor.shape.dim[:]
        for size in array.shape:
            tensor.shape.dim.add().dim_value = size
        tensor.elem_type = helper.np_dtype_to_tensor_dtype(array.dtype)


def _nan(expected: reference.Outputs) -> list[str]:
    """What no conversion is compared by."""
    counted = {n: int(np.isnan(a).sum()) for n, a in expected.items() if a.dtype.kind == "f"}
    return [
        f"output {name} is NaN in {count} of {expected[name].size} places for made-up inputs: "
        "there it is not compared"
        for name, count in counted.items()
        if count
    ]


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
