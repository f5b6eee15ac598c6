"""The work of ``tensorflow.read``, done in TensorFlow's own environment.

Each kind of file is run by the framework that wrote it, for inputs that are made up the
same way everywhere, and converted by tf2onnx.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from msgspec import Struct

from edgekit.domain import TensorSpec
from edgekit.errors import ModelError
from edgekit.sources import keras_check, tflite_check
from edgekit.sources.difference import Array
from edgekit.sources.model import Original, Shapes

if TYPE_CHECKING:
    from edgekit.sources import traced

AGREES = 1e-4
"""Relative to the largest value: by how much a float output may be off."""

OPSET = 17
"""New enough for what tf2onnx writes, old enough for the runtimes devices still carry."""


class Converted(Struct, frozen=True, kw_only=True):
    """A file brought to ONNX, and what it gives in its own framework.

    Attributes:
        graph: the ONNX file, not yet normalised.
        inputs: in order, with the shapes they were run with.
        probe: ``.npz`` with the outputs, in order, for ``random_feeds(inputs)``.
        allowed: the largest absolute difference per output that is no defect.
        framework: what ran it, with its version.
        notes: what was changed, in words.
    """

    graph: Path
    inputs: tuple[TensorSpec, ...]
    probe: Path
    allowed: tuple[float, ...]
    framework: str
    notes: tuple[str, ...] = ()


class Ran(Struct, frozen=True, kw_only=True):
    """One run in the file's own framework."""

    inputs: tuple[TensorSpec, ...]
    outputs: list[Array]
    allowed: tuple[float, ...]
    framework: str


def convert(original: Original, folder: Path, shapes: Shapes) -> Converted:
    """Convert a file, and run it as it is.

    Raises:
        ModelError: the framework cannot read or run it, or tf2onnx cannot convert it.
    """
    graph, probe = folder / "converted.onnx", folder / "framework.npz"
    with _complaints() as complaints:
        ran = _converted(original, shapes, graph)
    if complaints:
        raise ModelError(f"tf2onnx cannot convert the model: {'; '.join(complaints)[:1000]}")
    np.savez(probe, *ran.outputs)
    return Converted(
        graph=graph, inputs=ran.inputs, probe=probe, allowed=ran.allowed, framework=ran.framework
    )


def _converted(original: Original, shapes: Shapes, graph: Path) -> Ran:
    if original.kind == "tflite":
        tflite_check.check(original.path)
        from edgekit.sources import tflite_graph

        return tflite_graph.convert(original.path, shapes, graph)
    model = _traceable(original, shapes)
    from edgekit.sources import traced

    return traced.convert(model, graph)


@contextmanager
def _complaints() -> Iterator[list[str]]:
    """What tf2onnx logs as errors: it goes on without the node, and says so nowhere else."""
    said: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage().splitlines()[0])

    handler = Handler(logging.ERROR)
    logging.getLogger("tf2onnx").addHandler(handler)
    try:
        yield said
    finally:
        logging.getLogger("tf2onnx").removeHandler(handler)


def to_tflite(original: Original, shapes: Shapes, destination: Path) -> None:
    """Write what the user gave as a float ``.tflite``, with TensorFlow's own converter.

    Raises:
        ModelError: as ``convert``.
        Exception: whatever the converter raises.
    """
    model = _traceable(original, shapes)
    from edgekit.sources import traced

    traced.to_tflite(model, destination)


def _traceable(original: Original, shapes: Shapes) -> traced.Traceable:
    if original.kind == "keras":
        # Before TensorFlow is loaded, and may look at the file.
        wrote = keras_check.check(original.path, trusted=original.trusted)
        from edgekit.sources import keras_graph

        return keras_graph.traceable(original, shapes, wrote)
    from edgekit.sources import saved_model_graph

    return saved_model_graph.traceable(original, shapes)
