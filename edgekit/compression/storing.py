"""The stage: a source whose weights lie where few bits can store them."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from math import prod
from pathlib import Path
from typing import TypeGuard

import onnx

from edgekit.compression import few_bits, stage
from edgekit.compression.layers import Layer
from edgekit.compression.rounding import Grid, Levels, Palette
from edgekit.datasets import Dataset
from edgekit.domain import (
    Format,
    Granularity,
    Mode,
    NodeCost,
    Quantization,
    RoundingReport,
    TensorSpec,
    coreml,
)
from edgekit.sources import SourceModel
from edgekit.toolchain import isolation

_BITS = 6
"""Up to so many bits rounding to nearest loses something worth the work."""

_MODES = (Mode.WEIGHT_ONLY, Mode.DYNAMIC, Mode.PALETTIZED)


def rounds(quantization: Quantization | None) -> TypeGuard[Quantization]:
    """Whether weights are stored in so few bits that fitting them is worth the work."""
    return (
        quantization is not None
        and quantization.mode in _MODES
        and not quantization.sparsity
        and coreml.weight_bits(quantization) <= _BITS
        and _known(quantization)
    )


def _known(quantization: Quantization) -> bool:
    """Tables for groups of channels are left to coremltools."""
    blocks = quantization.granularity is Granularity.PER_BLOCK
    return not (blocks and quantization.mode is Mode.PALETTIZED)


def rounded(
    source: SourceModel,
    format_: Format,
    quantization: Quantization,
    calibration: Dataset,
    cache: Path,
    spared: Collection[str] = (),
) -> tuple[SourceModel, RoundingReport]:
    """The source with weights that a format's tool stores as they are.

    Args:
        source: float.
        format_: what is made of it.
        quantization: one that ``rounds``.
        calibration: samples; labels are not looked at.
        cache: where results are kept between builds.
        spared: nodes whose weights are stored in more bits; they are fitted all the same.

    Raises:
        ToolError: it crashed, or passed its limits.
    """
    entry = stage.entry("rounded", source, calibration, format_, quantization, tuple(spared))
    given = (source.inputs, format_, quantization, calibration, tuple(spared))
    return stage.derived(source, entry, cache, RoundingReport, _fill, *given)


def _fill(
    folder: Path,
    graph: Path,
    inputs: tuple[TensorSpec, ...],
    format_: Format,
    quantization: Quantization,
    calibration: Dataset,
    spared: Collection[str],
) -> None:
    """What runs in a process of its own."""
    grids = partial(_grid, format_, quantization, spared)
    made, report = few_bits.adapted(onnx.load(graph), stage.samples(calibration), grids)
    stage.write(folder, made, inputs, report)


def sensitivity(
    source: SourceModel, format_: Format, quantization: Quantization, calibration: Dataset
) -> tuple[NodeCost, ...]:
    """What each node costs whose weights alone are stored in few bits; see ``rounded``."""
    given = (source.graph, format_, quantization, calibration)
    return isolation.call(_costs, stage.LIMITS, *given)


def _costs(
    graph: Path, format_: Format, quantization: Quantization, calibration: Dataset
) -> tuple[NodeCost, ...]:
    """What runs in a process of its own."""
    grids = partial(_grid, format_, quantization, ())
    return few_bits.costs(onnx.load(graph), stage.samples(calibration), grids)


def _grid(
    format_: Format,
    quantization: Quantization,
    spared: Collection[str],
    layer: Layer,
    shape: tuple[int, ...],
) -> Grid | None:
    """Where a layer's weights may lie; ``None`` where they keep more bits."""
    bits = coreml.weight_bits(quantization)
    if layer.name in spared or _keeps_more(format_, quantization, layer, shape):
        return None
    if quantization.mode is Mode.PALETTIZED:
        return Palette(bits)
    if quantization.granularity is not Granularity.PER_BLOCK or layer.turned:
        return Levels(bits)
    taps = prod(shape[2:])
    return Levels(bits, coreml.block(shape) * taps)


def _keeps_more(
    format_: Format, quantization: Quantization, layer: Layer, shape: tuple[int, ...]
) -> bool:
    """Whether a format's tool stores a layer in more bits than were asked for."""
    if format_ is Format.COREML:
        return coreml.spares(shape, quantization)
    # LiteRT has no kernel for depthwise filters in four bits.
    return layer.depthwise
