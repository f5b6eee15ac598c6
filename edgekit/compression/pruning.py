"""The stage: a source without a share of its work."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import onnx

from edgekit import inspection
from edgekit.compression import channels, stage
from edgekit.compression.activations import Sample
from edgekit.compression.channels import Cut
from edgekit.datasets import Dataset
from edgekit.domain import Channels, Narrowed, PruningReport, TensorSpec
from edgekit.errors import ModelError, PruningFailed
from edgekit.sources import SourceModel

_FEWEST_AXES, _IMAGE_AXES = 3, 4


def pruned(
    source: SourceModel, pruning: Channels, calibration: Dataset, cache: Path
) -> tuple[SourceModel, PruningReport]:
    """The source without a share of its multiply-accumulates, and what became of it.

    Args:
        source: the whole network.
        pruning: how much is to go.
        calibration: samples; labels are not looked at.
        cache: where results are kept between builds.

    Raises:
        PruningFailed: nothing can be removed, or not so much.
        ToolError: it crashed, or passed its limits.
    """
    entry = stage.entry("pruned", source, calibration, pruning)
    given = (source.inputs, source.channels_first, pruning, calibration)
    return stage.derived(source, entry, cache, PruningReport, _fill, *given)


def _fill(
    folder: Path,
    graph: Path,
    inputs: tuple[TensorSpec, ...],
    channels_first: tuple[str, ...],
    pruning: Channels,
    calibration: Dataset,
) -> None:
    """What runs in a process of its own."""
    whole, samples = onnx.load(graph), stage.samples(calibration)
    smaller, cuts = _cut(whole, samples, pruning, _spatial(inputs, channels_first))
    report = _report(whole, smaller, cuts, len(samples))
    _check(report, pruning)
    stage.write(folder, smaller, inputs, report)


def _cut(
    whole: onnx.ModelProto,
    samples: Sequence[Sample],
    pruning: Channels,
    spatial: dict[str, tuple[int, ...]],
) -> tuple[onnx.ModelProto, tuple[Cut, ...]]:
    """In the multiples that were asked for, or in half of them, until enough can go."""
    terms = channels.Terms(fraction=pruning.fraction, multiple=pruning.multiple)
    try:
        return channels.pruned(whole, samples, terms, spatial)
    except ModelError as error:
        if pruning.multiple == 1:
            raise PruningFailed(error.message, error.hint) from error
    return _cut(whole, samples, Channels(pruning.fraction, pruning.multiple // 2), spatial)


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
                layers=cut.dimension.layers,
                before=cut.dimension.size,
                after=cut.dimension.size - len(cut.removed),
                kernel_axis=cut.dimension.kernel_axis,
            )
            for cut in cuts
        ),
        sample_count=samples,
    )
