"""A source made from another one: in a process of its own, and kept by all that decides it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
from msgspec import Struct, structs

from edgekit import fingerprint, store
from edgekit.compression.activations import Sample, values
from edgekit.datasets import Dataset
from edgekit.domain import TensorSpec
from edgekit.sources import SourceModel, random_feeds
from edgekit.toolchain import isolation
from edgekit.toolchain.process import Limits

LIMITS = Limits(seconds=3600)
_SAMPLES = 100
"""More bring little, and take their time."""

_GRAPH, _PROBE, _REPORT = "graph.onnx", "probe.npz", "report.json"


def derived[Report: Struct](
    source: SourceModel,
    entry: str,
    cache: Path,
    told: type[Report],
    fill: Callable[..., None],
    *given: Any,
) -> tuple[SourceModel, Report]:
    """A source like any other, of another graph.

    Args:
        source: what it is made of.
        entry: under which it is kept; see ``entry``.
        cache: where results are kept between builds.
        told: the report's type.
        fill: a module's function that ``write``s into a folder, in a process of its own:
            ``fill(folder, source.graph, *given)``.
        given: what else it takes.

    Raises:
        EdgekitError: what ``fill`` raises.
        ToolError: it crashed, or passed its limits.
    """
    folder = store.make(
        cache,
        entry,
        lambda folder: isolation.call(fill, LIMITS, folder, source.graph, *given),
    )
    made = structs.replace(
        source,
        graph=folder / _GRAPH,
        written=folder / _GRAPH,
        probe=folder / _PROBE,
        # What was made of another framework's file directly would be the source again.
        original=None,
    )
    return made, msgspec.json.decode((folder / _REPORT).read_bytes(), type=told)


def entry(kind: str, source: SourceModel, calibration: Dataset, *how: Any) -> str:
    """The name of what follows from a graph, samples and some values."""
    decided = [msgspec.json.encode(each, order="deterministic") for each in how]
    made_by = [calibration.sha256, fingerprint.tools()]
    parts: list[bytes | str] = [source.graph.read_bytes(), *decided, *made_by]
    return f"{kind}/{store.key(parts)}"


def samples(calibration: Dataset) -> list[Sample]:
    """What a network is fitted on."""
    return list(islice(calibration.samples(), _SAMPLES))


def write(
    folder: Path, made: onnx.ModelProto, inputs: tuple[TensorSpec, ...], report: Struct
) -> None:
    """What ``derived`` reads: the graph, what it gives, and what became of it."""
    names = [value.name for value in made.graph.output]
    (given,) = values(made, names, [random_feeds(inputs)])
    (folder / _GRAPH).write_bytes(made.SerializeToString(deterministic=True))
    np.savez(folder / _PROBE, *given)
    (folder / _REPORT).write_bytes(msgspec.json.encode(report))
