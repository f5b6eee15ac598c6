"""Weights in fewer than eight bits that keep to what the network computed.

Layer by layer, from the first: its weights are fitted to the original's outputs, given the
inputs that the layers before it now leave it, and rounded with the error of each made up
for by the others (``rounding``). It counts only when samples that it was not fitted on say
that it is nearer to the original than rounding to nearest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy

import numpy as np
import onnx

from edgekit.compression import layers as matrices
from edgekit.compression import refit, rounding
from edgekit.compression.activations import Sample
from edgekit.compression.differences import apart, before_softmax, difference, outputs
from edgekit.compression.layers import Floats, Layer, layers, unshared
from edgekit.compression.rounding import Grid
from edgekit.compression.targets import goals
from edgekit.domain import NodeCost, RoundedLayer, RoundingReport

GridOf = Callable[[Layer, tuple[int, ...]], Grid | None]
"""A layer and its weight's shape -> where its weights may lie; ``None``: anywhere."""

_RIDGE = 0.3
"""How strongly fitted weights keep to what they were: a share of their inputs' mean variance."""

_ROWS = 20_000
"""How many windows a layer is fitted on, about."""


def adapted(
    model: onnx.ModelProto, samples: Sequence[Sample], grid_of: GridOf
) -> tuple[onnx.ModelProto, RoundingReport]:
    """The network with its weights on the grids; as it was, where that brings nothing.

    Args:
        model: a normalised graph; it is not changed.
        samples: without labels; of a single one nothing can be kept back, and it judges itself.
        grid_of: where each layer's weights may lie.
    """
    original = onnx.shape_inference.infer_shapes(model)
    fitting, judging = apart(samples)
    found = unshared(original, layers(original, max(1, _ROWS // len(fitting))))
    grids = {layer.name: grid_of(layer, _shape(original, layer)) for layer in found}
    plain = _to_nearest(original, found, grids)
    made = deepcopy(original)
    wanted = goals(original, found)
    for layer in found:
        given = refit.problem(made, original, layer, wanted[layer.name], fitting)
        weight, bias = refit.solved(given, made, layer, wanted[layer.name], _RIDGE)
        if grid := grids[layer.name]:
            weight, bias = _rounded(layer, given[0], weight, bias, grid)
        matrices.write(made, layer, weight, bias)
    names = before_softmax(original)
    told = outputs(original, names, judging)
    errors = [difference(outputs(each, names, judging), told) for each in (plain, made)]
    report = RoundingReport(
        layers=tuple(
            RoundedLayer(layer.name, grid.bits) for layer in found if (grid := grids[layer.name])
        ),
        error_to_nearest=errors[0],
        error=errors[1],
        used=errors[1] < errors[0],
        sample_count=len(samples),
    )
    return (made if report.used else model), report


def costs(
    model: onnx.ModelProto, samples: Sequence[Sample], grid_of: GridOf
) -> tuple[NodeCost, ...]:
    """What each layer costs whose weights alone are rounded, each to its nearest value.

    Args:
        model: a normalised graph; it is not changed.
        samples: without labels.
        grid_of: where each layer's weights may lie; those that may lie anywhere are left out.
    """
    whole = onnx.shape_inference.infer_shapes(model)
    found = unshared(whole, layers(whole, 1))
    names = before_softmax(whole)
    told = outputs(whole, names, samples)

    def cost(layer: Layer, grid: Grid) -> float:
        tried = _to_nearest(whole, [layer], {layer.name: grid})
        return difference(outputs(tried, names, samples), told)

    grids = ((layer, grid_of(layer, _shape(whole, layer))) for layer in found)
    return tuple(
        NodeCost(layer.name, cost(layer, grid), layer.name) for layer, grid in grids if grid
    )


def _shape(model: onnx.ModelProto, layer: Layer) -> tuple[int, ...]:
    return tuple(matrices.constant(model, layer.weight).shape)


def _to_nearest(
    model: onnx.ModelProto, found: Sequence[Layer], grids: dict[str, Grid | None]
) -> onnx.ModelProto:
    made = deepcopy(model)
    for layer in found:
        if grid := grids[layer.name]:
            old = matrices.constant(made, layer.weight)
            matrix = rounding.nearest(matrices.matrix(layer, old).astype(np.float64), grid)
            matrices.assign(made, layer.weight, matrices.weight(layer, matrix, old.shape))
    return made


def _rounded(
    layer: Layer, rows: Floats, matrix: Floats, bias: Floats, grid: Grid
) -> tuple[Floats, Floats]:
    """The matrix on its grid, and the bias that takes the change of the mean up."""
    if not layer.depthwise:
        mean, covariance = _moments(rows, centred=bool(layer.bias))
        made = rounding.rounded(matrix, covariance, grid)
        return made, bias + mean @ (matrix - made)
    channels, taps = matrix.shape[1], len(matrix)
    windows = rows.reshape(len(rows), channels, taps)
    made, moved = matrix.copy(), bias.copy()
    for channel in range(channels):
        mean, covariance = _moments(windows[:, channel], centred=bool(layer.bias))
        column = matrix[:, channel : channel + 1]
        made[:, channel : channel + 1] = rounding.rounded(column, covariance, grid)
        moved[channel] += float(mean @ (matrix[:, channel] - made[:, channel]))
    return made, moved


def _moments(rows: Floats, *, centred: bool) -> tuple[Floats, Floats]:
    """Mean and covariance; about zero where no bias can take the mean up."""
    mean = rows.mean(0) if centred else np.zeros(rows.shape[1], rows.dtype)
    about = rows - mean
    return mean.astype(np.float64), (about.T @ about / len(rows)).astype(np.float64)
