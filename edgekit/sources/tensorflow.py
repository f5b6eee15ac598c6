"""TensorFlow's files, brought to ONNX in TensorFlow's own environment and proven against it.

Nothing here imports TensorFlow: a private copy of the file is checked in one process,
converted and run in a second, within limits, and the graph that comes out is normalised
and compared with what TensorFlow gave in a third.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import msgspec
import numpy as np

from edgekit.errors import ModelError, ToolError, ToolMissing
from edgekit.sources import tensorflow_graph
from edgekit.sources.difference import Array, largest_difference, largest_finite
from edgekit.sources.model import Original, Shapes, SourceModel
from edgekit.sources.tensorflow_graph import Converted
from edgekit.toolchain import environments, isolation
from edgekit.toolchain.environments import TENSORFLOW
from edgekit.toolchain.process import GIB, Limits

_LIMITS = Limits(seconds=900, memory_bytes=16 * GIB)
_LARGEST_BYTES = 4 * GIB


def read(kind: str, path: Path, folder: Path, shapes: Shapes, trust: bool) -> SourceModel:
    """Read one of TensorFlow's files; see ``readers.load``."""
    original = Original(kind=kind, path=_copied(kind, path, folder), trusted=trust)
    sha256 = _digest(original.path)
    try:
        converted = environments.call(
            TENSORFLOW, tensorflow_graph.convert, _LIMITS, original, folder, shapes
        )
    except ToolMissing:
        raise
    except ToolError as error:
        raise ModelError(f"{path.name} cannot be read: {error.message}", error.hint) from error
    source = isolation.call(_proven, _LIMITS, converted, folder, shapes)
    return msgspec.structs.replace(
        source,
        origin=path,
        name=path.stem,
        sha256=sha256,
        original=original,
    )


def to_tflite(source: SourceModel, destination: Path) -> None:
    """Write a Keras or SavedModel source as a float ``.tflite``, by ``TFLiteConverter``.

    Raises:
        ToolError: the converter failed.
    """
    if source.original is None:
        raise ToolError(f"{source.name} is not TensorFlow's")
    shapes = {spec.name: spec.shape for spec in source.inputs}
    environments.call(
        TENSORFLOW, tensorflow_graph.to_tflite, _LIMITS, source.original, shapes, destination
    )


def _copied(kind: str, path: Path, folder: Path) -> Path:
    """A private copy of what belongs to the model, and of nothing else."""
    if kind != "saved_model":
        return _copy(path, folder / f"original{path.suffix.lower()}")
    copied = folder / "original"
    (copied / "variables").mkdir(parents=True)
    _copy(path / "saved_model.pb", copied / "saved_model.pb")
    for part in sorted((path / "variables").glob("variables.*")):
        _copy(part, copied / "variables" / part.name)
    return copied


def _copy(path: Path, destination: Path) -> Path:
    if not path.is_file():
        raise ModelError(f"{path.parent.name} holds no {path.name}: it is no SavedModel")
    if path.is_symlink() or path.parent.is_symlink():
        raise ModelError(f"{path} is a link", "give the file that it leads to")
    if path.stat().st_size > _LARGEST_BYTES:
        raise ModelError(f"{path.name} takes more than {_LARGEST_BYTES // GIB} GiB")
    return Path(shutil.copyfile(path, destination))


def _digest(copied: Path) -> str:
    """Of a file over its bytes, of a folder over the names and digests of its files."""
    if copied.is_file():
        with copied.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    total = hashlib.sha256()
    for part in sorted(path for path in copied.rglob("*") if path.is_file()):
        total.update(part.relative_to(copied).as_posix().encode() + b"\0")
        total.update(bytes.fromhex(_digest(part)))
    return total.hexdigest()


def _proven(converted: Converted, folder: Path, shapes: Shapes) -> SourceModel:
    """Normalise the graph, and compare it with what the framework gave.

    Raises:
        ModelError: they differ.
    """
    from edgekit.sources.onnx_graph import normalise

    source = normalise(converted.graph, folder, shapes)
    inputs = tuple((spec.shape, spec.dtype) for spec in source.inputs)
    if inputs != tuple((spec.shape, spec.dtype) for spec in converted.inputs):
        raise ModelError(f"the conversion to ONNX changed the inputs to {source.inputs}")
    with np.load(source.probe) as got, np.load(converted.probe) as expected:
        pairs = [(got[name], expected[name]) for name in expected.files]
    if len(pairs) != len(source.outputs):
        raise ModelError("the conversion to ONNX changed the number of outputs")
    told = {
        _compared(*pair, allowed, converted.framework)
        for pair, allowed in zip(pairs, converted.allowed, strict=True)
    }
    shutil.copyfile(converted.probe, source.probe)
    agrees = f"agrees with {converted.framework}: off by {', '.join(sorted(told))}"
    return msgspec.structs.replace(source, notes=(*converted.notes, agrees, *source.notes))


def _compared(got: Array, expected: Array, allowed: float, framework: str) -> str:
    """How far an output is off, in words."""
    if (got.shape, got.dtype) != (expected.shape, expected.dtype):
        raise ModelError(
            f"the conversion to ONNX changed an output from {expected.dtype} "
            f"{list(expected.shape)} to {got.dtype} {list(got.shape)}"
        )
    if expected.dtype.kind == "f" and expected.size and np.isnan(expected).all():
        raise ModelError(
            f"{framework} gives nothing but NaN: there is nothing to compare a conversion with",
            "look for NaN in the weights, and for a logarithm or root of what may be negative",
        )
    difference = largest_difference(got.astype(np.float64), expected.astype(np.float64))
    if difference > allowed:
        raise ModelError(
            f"the conversion to ONNX gives something else than {framework}: an output is off by "
            f"{difference:.3g} where {allowed:.3g} is allowed",
            "this is a defect of the converter: please report it with the model",
        )
    if expected.dtype.kind != "f":
        return f"{difference:g} steps"
    return f"{difference / (largest_finite(expected) or 1.0):.1e} (relative)"
