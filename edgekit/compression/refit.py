"""Fitting what is left of a network to what the whole one computed, layer by layer.

Each layer in turn, from the first: its inputs come from the smaller network, its targets
from the original one, so that it makes up for what the layers before it lost. Where an
activation follows, only what passes it counts. (Zhang, Zou, He, Sun: "Accelerating Very
Deep Convolutional Networks for Classification and Detection", TPAMI 2016; He, Zhang, Sun:
"Channel Pruning for Accelerating Very Deep Neural Networks", ICCV 2017.)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from scipy import linalg

from edgekit.compression import layers as matrices
from edgekit.compression import pairs
from edgekit.compression.activations import Sample, values
from edgekit.compression.groups import Coupling, Use
from edgekit.compression.layers import Layer
from edgekit.compression.surgery import kept
from edgekit.compression.targets import Goal, goals

_ROUNDS = 3
"""Fits of a layer before an activation: each takes up what the one before lets pass."""

Floats = NDArray[np.float64]

Problem = tuple[Floats, Floats, Floats]
"""What a layer takes, row by row; what it is to give; and what is added to what it gives."""


def refitted(
    smaller: onnx.ModelProto,
    original: onnx.ModelProto,
    layers: Sequence[Layer],
    coupling: Coupling,
    removed: Sequence[int],
    samples: Sequence[Sample],
    ridge: float,
) -> onnx.ModelProto:
    """The smaller network with weights and biases fitted by ridge least squares.

    What only one layer makes and only one takes is then fitted once more, both at once.

    Args:
        smaller: ``original`` without the removed channels; it is not changed.
        original: the whole network.
        layers: of ``smaller``.
        coupling: of ``original``.
        removed: the channels that ``smaller`` lacks.
        samples: without labels.
        ridge: how strongly weights keep to what they were, as a share of the input's
            mean variance.
    """
    fitted = onnx.ModelProto()
    fitted.CopyFrom(smaller)
    wanted = goals(original, layers)
    made = _made(coupling, removed)
    joined = pairs.pairs(original, layers)
    for layer in layers:
        goal, left = wanted[layer.name], made.get(layer.weight)
        weight, bias = solved(
            problem(fitted, original, layer, goal, samples, left), fitted, layer, goal, ridge
        )
        matrices.write(fitted, layer, weight, bias)
        if pair := joined.get(layer.name):
            pairs.fit(fitted, pairs.problem(fitted, original, pair, goal, samples, left))
    return fitted


def _made(coupling: Coupling, removed: Sequence[int]) -> dict[str, NDArray[np.bool_]]:
    """Which outputs of a layer are left, by its weight."""
    gone = np.array(removed, np.int64)
    made = [slot for slot in coupling.slots if slot.use in (Use.MADE, Use.EACH)]
    return {slot.tensor: kept(slot.channels, gone) for slot in made}


def problem(
    fitted: onnx.ModelProto,
    original: onnx.ModelProto,
    layer: Layer,
    goal: Goal,
    samples: Sequence[Sample],
    made: NDArray[np.bool_] | None = None,
) -> Problem:
    """What a layer takes in the one graph, and is to give by the other.

    Args:
        fitted: the graph whose layers before this one are final.
        original: the graph that says what is right.
        layer: of ``fitted``.
        goal: the layer's.
        samples: without labels.
        made: which of the original's channels the layer still gives; ``None``: all.
    """
    others = [goal.other] if goal.other else []
    seen = [
        [matrices.rows(layer, taken), *(matrices.given(layer, other) for other in rest)]
        for taken, *rest in values(fitted, [layer.taken, *others], samples)
    ]
    told = [matrices.given(layer, value) for (value,) in values(original, [goal.target], samples)]
    rows = np.concatenate([first for first, *_ in seen])
    targets = np.concatenate(told)
    if made is not None and targets.shape[1] == len(made):
        targets = targets[:, made]
    added = (
        np.concatenate([rest[0] for _, *rest in seen]) if others else np.zeros((1, 1), rows.dtype)
    )
    return rows, targets, added


def solved(
    given: Problem, fitted: onnx.ModelProto, layer: Layer, goal: Goal, ridge: float
) -> tuple[Floats, Floats]:
    """The layer's matrix, ``[channels in * taps, channels out]``, and its bias, that serve best.

    The bias is zero where the layer has none.
    """
    start = matrices.matrix(layer, matrices.constant(fitted, layer.weight)).astype(np.float64)
    bias = matrices.constant(fitted, layer.bias).reshape(-1) if layer.bias else None
    solve = _by_channel if layer.depthwise else _dense
    return solve(given, start, bias, goal, ridge)


def _dense(
    problem: Problem, start: Floats, bias: Floats | None, goal: Goal, ridge: float
) -> tuple[Floats, Floats]:
    """Least squares towards ``start``; the activation's idle parts follow the prediction."""
    rows, targets, added = problem
    mean = rows.mean(0) if bias is not None else np.zeros(rows.shape[1], rows.dtype)
    centred = rows - mean
    gram = (centred.T @ centred / len(rows)).astype(np.float64)
    damping = ridge * np.trace(gram) / len(gram) + 1e-12
    factor = linalg.cho_factor(gram + damping * np.eye(len(gram)))
    weight, moved = start, np.zeros(start.shape[1]) if bias is None else bias
    rounds = _ROUNDS if np.isfinite([goal.low, goal.high]).any() else 0
    for again in range(rounds + 1):
        wanted = targets
        if again:
            now = rows @ weight.astype(rows.dtype) + moved.astype(rows.dtype) + added
            wanted = goal.wanted(targets, now)
        wanted = wanted - added
        middle = wanted.mean(0) if bias is not None else np.zeros(wanted.shape[1], rows.dtype)
        across = (centred.T @ (wanted - middle) / len(rows)).astype(np.float64)
        weight = linalg.cho_solve(factor, across + damping * start)
        moved = middle - mean @ weight
    return weight, moved


def _by_channel(
    problem: Problem, start: Floats, bias: Floats | None, goal: Goal, ridge: float
) -> tuple[Floats, Floats]:
    """A depthwise layer: each of its channels is a problem of its own."""
    rows, targets, added = problem
    channels, taps = start.shape[1], len(start)
    windows = rows.reshape(len(rows), channels, taps)
    added = np.broadcast_to(added, targets.shape)
    solved = [
        _dense(
            (windows[:, c], targets[:, c : c + 1], added[:, c : c + 1]),
            start[:, c : c + 1],
            None if bias is None else bias[c : c + 1],
            goal,
            ridge,
        )
        for c in range(channels)
    ]
    weights, moved = zip(*solved, strict=True)
    return np.concatenate(weights, axis=1), np.concatenate(moved)
