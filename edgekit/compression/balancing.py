"""The stage: a source that static int8 loses less of.

Channels are equalized (``equalization``), which changes nothing in float. And what rounding
the weights will shift the mean of a channel by is taken out of its bias (Nagel, van Baalen,
Blankevoort, Welling: "Data-Free Quantization Through Weight Equalization and Bias
Correction", ICCV 2019; here the mean input comes from calibration data). Each is kept only
where a simulation on samples that it was not made with says that it helps.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path

import numpy as np
import onnx

from edgekit.compression import equalization, integers, stage
from edgekit.compression import layers as matrices
from edgekit.compression.activations import Sample, values
from edgekit.compression.differences import apart, before_softmax, difference, outputs
from edgekit.compression.layers import Floats, Layer, layers
from edgekit.datasets import Dataset
from edgekit.domain import BalancingReport, Format, Quantization, Recipe, TensorSpec
from edgekit.sources import SourceModel

_ROWS = 20_000
"""How many windows of a layer its mean input comes from, about."""

_WORTH = 0.95
"""What is changed must leave less than this share of the error."""


def serves(source: SourceModel, recipe: Recipe) -> bool:
    """Whether a recipe's integers may gain by it.

    What LiteRT makes of another framework's own file is better than what a changed graph
    becomes: that would take a detour over ONNX.
    """
    own_way = recipe.format is Format.LITERT and source.original is not None
    return recipe.is_static and not own_way


def balanced(
    source: SourceModel,
    quantization: Quantization,
    calibration: Dataset,
    cache: Path,
    *,
    mixed: bool = False,
) -> tuple[SourceModel, BalancingReport]:
    """The source, equalized and corrected where that helps; itself, where it does not.

    Args:
        source: float.
        quantization: static.
        calibration: samples; labels are not looked at.
        cache: where results are kept between builds.
        mixed: some nodes stay in float, whose biases have nothing to take up.

    Raises:
        ToolError: it crashed, or passed its limits.
        ModelError: what was made of the graph does not run.
    """
    entry = stage.entry("balanced", source, calibration, quantization, mixed)
    given = (source.inputs, quantization, calibration, mixed)
    made, report = stage.derived(source, entry, cache, BalancingReport, _fill, *given)
    return (made if report.used else source), report


def _fill(
    folder: Path,
    graph: Path,
    inputs: tuple[TensorSpec, ...],
    quantization: Quantization,
    calibration: Dataset,
    mixed: bool,
) -> None:
    """What runs in a process of its own."""
    given = (onnx.load(graph), stage.samples(calibration), quantization)
    made, report = chosen(*given, mixed=mixed)
    stage.write(folder, made, inputs, report)


def chosen(
    model: onnx.ModelProto,
    samples: Sequence[Sample],
    quantization: Quantization,
    *,
    mixed: bool = False,
) -> tuple[onnx.ModelProto, BalancingReport]:
    """The network that loses least in int8 of those that can be made, and how much.

    Args:
        model: a normalised graph; it is not changed.
        samples: without labels; of a single one nothing can be kept back, and it judges itself.
        quantization: static.
        mixed: biases are left alone.
    """
    whole = onnx.shape_inference.infer_shapes(model)
    fitting, judging = apart(samples)
    found = layers(whole, max(1, _ROWS // len(fitting)))
    level = equalization.equalized(whole, fitting, quantization.granularity)
    names = before_softmax(whole)
    told = outputs(whole, names, judging)

    def error(each: onnx.ModelProto) -> float:
        coarse = integers.simulated(each, found, fitting, quantization)
        return difference(outputs(coarse, names, judging), told)

    tried = {
        (equal, right): corrected(base, found, fitting, quantization) if right else base
        for equal, base in ((False, whole), (True, level))
        for right in ((False,) if mixed else (False, True))
    }
    errors = {how: error(each) for how, each in tried.items()}
    plain = errors[False, False]
    best = min(errors, key=lambda how: errors[how])
    if errors[best] >= _WORTH * plain:
        best = (False, False)
    report = BalancingReport(
        equalized=best[0],
        corrected=best[1],
        error_before=plain,
        error=errors[best],
        sample_count=len(samples),
    )
    return (tried[best] if report.used else model), report


def corrected(
    model: onnx.ModelProto,
    found: Sequence[Layer],
    samples: Sequence[Sample],
    quantization: Quantization,
) -> onnx.ModelProto:
    """The network with biases that take up what rounding the weights shifts.

    Args:
        model: it is not changed.
        found: its layers.
        samples: without labels.
        quantization: static.
    """
    made = deepcopy(model)
    own = [layer for layer in found if layer.bias and _own(model, layer)]
    for layer, mean in zip(own, _means(model, own, samples), strict=True):
        matrix = matrices.matrix(layer, matrices.constant(model, layer.weight)).astype(np.float64)
        lost = matrix - integers.stored(matrix, quantization)
        if layer.depthwise:
            shift = np.sum(mean.reshape(lost.T.shape) * lost.T, axis=1)
        else:
            shift = mean @ lost
        bias = matrices.constant(model, layer.bias)
        matrices.assign(made, layer.bias, bias + shift.reshape(bias.shape))
    return made


def _means(
    model: onnx.ModelProto, found: Sequence[Layer], samples: Sequence[Sample]
) -> list[Floats]:
    """The mean row that each layer takes."""
    sums = [np.zeros(1) for _ in found]
    for arrays in values(model, [layer.taken for layer in found], samples):
        for index, (layer, taken) in enumerate(zip(found, arrays, strict=True)):
            sums[index] = sums[index] + matrices.rows(layer, taken).mean(0)
    return [total / len(samples) for total in sums]


def _own(model: onnx.ModelProto, layer: Layer) -> bool:
    """Whether the bias has a value for each channel, and nobody else takes it."""
    weight, bias = (matrices.constant(model, name) for name in (layer.weight, layer.bias))
    takers = sum(list(node.input).count(layer.bias) for node in model.graph.node)
    return takers == 1 and bias.size == matrices.matrix(layer, weight).shape[1]
