"""The stage: a source whose weights lie where few bits can store them."""

from __future__ import annotations

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
    Quantization,
    RoundingReport,
    TensorSpec,
    coreml,
)
from edgekit.sources import SourceModel

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
) -> tuple[SourceModel, RoundingReport]:
    """The source with weights that a format's tool stores as they are.

    Args:
        source: float.
        format_: what is made of it.
        quantization: one that ``rounds``.
        calibration: samples; labels are not looked at.
        cache: where results are kept between builds.

    Raises:
        ToolError: it crashed, or passed its limits.
    """
    entry = stage.entry("rounded", source, calibration, format_, quantization)
    given = (source.inputs, format_, quantization, calibration)
    return stage.derived(source, entry, cache, RoundingReport, _fill, *given)


def _fill(
    folder: Path,
    graph: Path,
    inputs: tuple[TensorSpec, ...],
    format_: Format,
    quantization: Quantization,
    calibration: Dataset,
) -> None:
    """What runs in a process of its own."""
    grids = partial(_grid, format_, quantization)
    made, report = few_bits.adapted(onnx.load(graph), stage.samples(calibration), grids)
    stage.write(folder, made, inputs, report)


def _grid(
    format_: Format, quantization: Quantization, layer: Layer, shape: tuple[int, ...]
) -> Grid | None:
    """Where a layer's weights may lie; ``None`` where the format's tool leaves them alone."""
    bits = coreml.weight_bits(quantization)
    if format_ is Format.COREML and coreml.spares(shape, quantization):
        return None
    if quantization.mode is Mode.PALETTIZED:
        return Palette(bits)
    if quantization.granularity is not Granularity.PER_BLOCK or layer.turned:
        return Levels(bits)
    taps = prod(shape[2:])
    return Levels(bits, coreml.block(shape) * taps)
