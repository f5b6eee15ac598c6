"""The stage: a source without a share of its work, made in a process of its own, and kept."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import islice
from pathlib import Path

import msgspec
import numpy as np
import onnx
from msgspec import Struct, structs

from edgekit import fingerprint, inspection, store
from edgekit.compression import channels
from edgekit.compression.activations import values
from edgekit.compression.channels import Cut
from edgekit.datasets import Dataset
from edgekit.domain import Channels, Narrowed, PruningReport, TensorSpec
from edgekit.errors import ModelError, PruningFailed
from edgekit.sources import SourceModel, random_feeds
from edgekit.toolchain import isolation
from edgekit.toolchain.process import Limits

_LIMITS = Limits(seconds=3600)
_SAMPLES = 100
"""More bring little, and take their time."""

_FEWEST_AXES, _IMAGE_AXES = 3, 4
_GRAPH, _PROBE, _REPORT = "pruned.onnx", "probe.npz", "pruned.json"


class Pruned(Struct, frozen=True):
    """The smaller network, as a source like any other, and what became of it."""

    source: SourceModel
    report: PruningReport


def pruned(source: SourceModel, pruning: Channels, calibration: Dataset, cache: Path) -> Pruned:
    """The source without a share of its multiply-accumulates.

    Args:
        source: the whole network.
        pruning: how much is to go.
        calibration: samples; labels are not looked at.
        cache: where results are kept between builds, by all that decides them.

    Raises:
        PruningFailed: nothing can be removed, or not so much.
        ToolError: it crashed, or passed its limits.
    """
    key = store.key(
        [
            source.graph.read_bytes(),
            msgspec.json.encode(pruning, order="deterministic"),
            calibration.sha256,
            fingerprint.code(),
        ]
    )
    fill = partial(_fill, source, pruning, calibration)
    folder = store.make(cache / "pruned", key, fill)
    report = msgspec.json.decode((folder / _REPORT).read_bytes(), type=PruningReport)
    smaller = structs.replace(
        source,
        graph=folder / _GRAPH,
        written=folder / _GRAPH,
        probe=folder / _PROBE,
        # What was made of another framework's file directly would be the whole network.
        original=None,
    )
    return Pruned(smaller, report)


def _fill(source: SourceModel, pruning: Channels, calibration: Dataset, folder: Path) -> None:
    isolation.call(
        _prune,
        _LIMITS,
        source.graph,
        source.inputs,
        source.channels_first,
        pruning,
        calibration,
        folder,
    )


def _prune(
    graph: Path,
    inputs: tuple[TensorSpec, ...],
    channels_first: tuple[str, ...],
    pruning: Channels,
    calibration: Dataset,
    folder: Path,
) -> None:
    """What runs in a process of its own."""
    whole = onnx.load(graph)
    samples = list(islice(calibration.samples(), _SAMPLES))
    terms = channels.Terms(fraction=pruning.fraction)
    try:
        smaller, cuts = channels.pruned(whole, samples, terms, _spatial(inputs, channels_first))
    except ModelError as error:
        raise PruningFailed(error.message, error.hint) from error
    report = _report(whole, smaller, cuts, len(samples))
    _check(report, pruning)
    names = [value.name for value in smaller.graph.output]
    (outputs,) = values(smaller, names, [random_feeds(inputs)])
    (folder / _GRAPH).write_bytes(smaller.SerializeToString(deterministic=True))
    np.savez(folder / _PROBE, *outputs)
    (folder / _REPORT).write_bytes(msgspec.json.encode(report))


def _spatial(
    inputs: tuple[TensorSpec, ...], channels_first: tuple[str, ...]
) -> dict[str, tuple[int, ...]]:
    """Each input's axes of place or time, as far as its shape tells."""
    axes = {}
    for spec in inputs:
        rank = len(spec.shape)
        if spec.name in channels_first and rank >= _FEWEST_AXES:
            axes[spec.name] = tuple(range(2, rank))
        elif rank == _IMAGE_AXES:
            axes[spec.name] = (1, 2)
    return axes


def _check(report: PruningReport, pruning: Channels) -> None:
    """The claim, counted on the result."""
    before, after = report.macs_before, report.macs_after
    if after > before * (1 - pruning.fraction) + 1:
        raise PruningFailed(
            f"pruning left {after} of {before} multiply-accumulates, more than was asked for"
        )


def _report(
    whole: onnx.ModelProto, smaller: onnx.ModelProto, cuts: Sequence[Cut], samples: int
) -> PruningReport:
    counts = [sum(inspection.macs(model).values()) for model in (whole, smaller)]
    sizes = [sum(t.ByteSize() for t in model.graph.initializer) for model in (whole, smaller)]
    return PruningReport(
        macs_before=counts[0],
        macs_after=counts[1],
        weight_bytes_before=sizes[0],
        weight_bytes_after=sizes[1],
        layers=tuple(
            Narrowed(
                cut.dimension.layers, cut.dimension.size, cut.dimension.size - len(cut.removed)
            )
            for cut in cuts
        ),
        sample_count=samples,
    )
