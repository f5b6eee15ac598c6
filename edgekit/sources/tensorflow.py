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
from edgekit.sources.difference import Array, largest_difference, largest_finite
from edgekit.sources.model import Original, Shapes, SourceModel
from edgekit.sources.tensorflow_graph import Converted, convert
from edgekit.toolchain import environments, isolation
from edgekit.toolchain.environments import TENSORFLOW
from edgekit.toolchain.process import GIB, Limits

_LIMITS = Limits(seconds=900, memory_bytes=16 * GIB)
_LARGEST_BYTES = 2 * GIB
"""What a flatbuffer or a protobuf can hold."""


def read(kind: str, path: Path, folder: Path, shapes: Shapes, trust: bool) -> SourceModel:
    """Read one of TensorFlow's files; see ``readers.load``."""
    original = Original(kind=kind, path=_copied(path, folder), trusted=trust)
    try:
        converted = environments.call(TENSORFLOW, convert, _LIMITS, original, folder, shapes)
    except ToolMissing:
        raise
    except ToolError as error:
        raise ModelError(f"{path.name} cannot be read: {error.message}", error.hint) from error
    source = isolation.call(_proven, _LIMITS, converted, folder, shapes)
    return msgspec.structs.replace(
        source,
        origin=path,
        name=path.stem,
        sha256=_digest(original.path),
        original=original,
    )


def _copied(path: Path, folder: Path) -> Path:
    if path.stat().st_size > _LARGEST_BYTES:
        raise ModelError(f"{path.name} is larger than 2 GiB, which no such file can be")
    return Path(shutil.copyfile(path, folder / f"original{path.suffix.lower()}"))


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
