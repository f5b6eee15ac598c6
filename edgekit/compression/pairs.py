"""Fitting two layers at once, where nothing but an activation lies between them.

What the first makes is nobody's but the second's: once channels between them are gone, those
that are left can become others than they were, which no fit of one layer alone finds. Both
descend to what the original gives behind the second, on the smaller network's own inputs.
(For quantization: Li et al.: "BRECQ: Pushing the Limit of Post-Training Quantization by Block
Reconstruction", ICLR 2021; the descent: Kingma, Ba: "Adam: A Method for Stochastic
Optimization", ICLR 2015.)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod

import numpy as np
import onnx
from msgspec import Struct
from numpy.typing import NDArray

from edgekit import inspection
from edgekit.compression import layers as matrices
from edgekit.compression.activations import Sample, values
from edgekit.compression.layers import Array, Layer
from edgekit.compression.targets import Goal, passing
from edgekit.sources.consumers import consumers

_STEPS = 400
_BATCH = 16
"""Samples that one step looks at."""

_RATE = 0.02
"""Of the first steps, as a share of a tensor's root mean square; it falls to zero."""

_DECAYS = 0.9, 0.999

_MOST_MACS = 10_000_000
"""Of a pair, for one sample: the descent takes some 20,000 times as many."""

_MOST_VALUES = 1 << 25
"""That are held of what a pair takes and gives; of larger ones fewer samples are looked at."""

Floats = NDArray[np.float32]
Weights = Sequence[Floats]
"""Matrix and bias of the first layer, then of the second; a row of taps by channels."""


class Pair(Struct, frozen=True):
    """Two layers; outside of ``low`` and ``high`` the activation between gives the same."""

    first: Layer
    second: Layer
    low: float
    high: float


class Problem(Struct, frozen=True, eq=False):
    """What a pair takes and is to give, ``[samples, *places, channels]``.

    Attributes:
        added: to what the pair gives, before it is compared; zeros where nothing is.
    """

    pair: Pair
    goal: Goal
    taken: Floats
    target: Floats
    added: Floats

    def of(self, chosen: NDArray[np.int64]) -> Problem:
        """Of some of the samples."""
        some = (self.taken[chosen], self.target[chosen], self.added[chosen])
        return Problem(self.pair, self.goal, *some)


def pairs(original: onnx.ModelProto, layers: Sequence[Layer]) -> dict[str, Pair]:
    """The pairs of a graph that are small enough, by the name of the second layer.

    Layers that share a weight or a bias with others are fitted one by one only.

    Args:
        original: the whole network.
        layers: those of the network that is fitted.
    """
    macs = inspection.macs(original)
    readers = consumers(original)
    ends = {value.name for value in original.graph.output}
    alone = matrices.unshared(original, layers)
    by_name = {layer.name: layer for layer in alone if not layer.depthwise}
    found = {}
    for first in by_name.values():
        following = readers.get(first.given, [])
        low, high = passing(original, following)
        if np.isfinite([low, high]).any():
            following = readers.get(following[0].output[0], [])
        second = by_name.get(following[0].name) if len(following) == 1 else None
        if second is None or {first.given, second.taken} & ends:
            continue
        alike = len(first.kernel) == len(second.kernel)
        if alike and macs[first.name] + macs[second.name] <= _MOST_MACS:
            found[second.name] = Pair(first, second, low, high)
    return found


def fit(fitted: onnx.ModelProto, problem: Problem) -> None:
    """Give both layers of a pair the weights that serve best, if they do so on all samples.

    Args:
        fitted: the graph that the problem is of; it is changed.
        problem: the pair's.
    """
    start = _weights(fitted, problem.pair)
    best = _descended(problem, start)
    if _error(problem, best) < _error(problem, start):
        _write(fitted, problem.pair, best)


def problem(
    fitted: onnx.ModelProto,
    original: onnx.ModelProto,
    pair: Pair,
    goal: Goal,
    samples: Sequence[Sample],
    made: NDArray[np.bool_] | None = None,
) -> Problem:
    """What a pair takes in the one graph, and is to give by the other.

    Args:
        fitted: its layers up to the pair's second are fitted one by one.
        original: the graph that says what is right.
        pair: of ``fitted``.
        goal: the second layer's.
        samples: without labels; of large pairs only the first are looked at.
        made: which of the original's channels the second layer still gives; ``None``: all.
    """
    names = [pair.first.taken, *([goal.other] if goal.other else [])]
    told = [value for (value,) in values(original, [goal.target], samples[:1])]
    (first,) = values(fitted, names, samples[:1])
    held = sum(value.size for value in (*told, *first))
    samples = samples[: max(_BATCH, _MOST_VALUES // held)]
    seen = list(zip(*values(fitted, names, samples), strict=True))
    told = [value for (value,) in values(original, [goal.target], samples)]
    taken, target, *added = (_stacked(pair.second, rows) for rows in (seen[0], told, *seen[1:]))
    if made is not None and target.shape[-1] == len(made):
        target = target[..., made]
    nothing = np.broadcast_to(np.zeros(1, np.float32), target.shape)
    return Problem(pair, goal, taken, target, added[0] if added else nothing)


def _stacked(layer: Layer, rows: Sequence[Array]) -> Floats:
    """Channels last; of a dense layer whatever comes before them counts as samples."""
    if not layer.kernel:
        return np.concatenate([row.reshape(-1, row.shape[-1]) for row in rows])
    return np.ascontiguousarray(np.moveaxis(np.concatenate(rows), 1, -1))


def _weights(model: onnx.ModelProto, pair: Pair) -> Weights:
    found: list[Floats] = []
    for layer in (pair.first, pair.second):
        matrix = matrices.matrix(layer, matrices.constant(model, layer.weight))
        rows = matrix.reshape(-1, prod(layer.kernel), matrix.shape[1]).swapaxes(0, 1)
        bias = matrices.constant(model, layer.bias) if layer.bias else np.zeros(matrix.shape[1])
        found += [rows.reshape(matrix.shape), bias.reshape(-1).astype(np.float32)]
    return found


def _write(model: onnx.ModelProto, pair: Pair, weights: Weights) -> None:
    for layer, matrix, bias in zip(
        (pair.first, pair.second), weights[::2], weights[1::2], strict=True
    ):
        rows = matrix.reshape(prod(layer.kernel), -1, matrix.shape[1]).swapaxes(0, 1)
        matrices.write(model, layer, rows.reshape(matrix.shape), bias)


def _descended(problem: Problem, start: Weights) -> Weights:
    """By Adam, in steps that are a share of what each tensor is."""
    rng = np.random.default_rng(0)
    scale = [_RATE * np.sqrt(np.mean(tensor**2)) for tensor in start]
    free = (True, bool(problem.pair.first.bias), True, bool(problem.pair.second.bias))
    weights = [tensor.copy() for tensor in start]
    first, second = ([np.zeros_like(tensor) for tensor in start] for _ in range(2))
    for step in range(1, _STEPS + 1):
        batch = problem.of(rng.integers(0, len(problem.taken), _BATCH))
        for index, slope in enumerate(_slopes(batch, weights)):
            if free[index]:
                first[index] += (1 - _DECAYS[0]) * (slope - first[index])
                second[index] += (1 - _DECAYS[1]) * (slope**2 - second[index])
                mean = first[index] / (1 - _DECAYS[0] ** step)
                size = np.sqrt(second[index] / (1 - _DECAYS[1] ** step)) + 1e-12
                weights[index] -= scale[index] * (1 - step / _STEPS) * mean / size
    return weights


def _error(problem: Problem, weights: Weights) -> float:
    """The sum of squares."""
    every = np.arange(len(problem.taken))
    parts = (problem.of(every[at : at + _BATCH]) for at in range(0, len(every), _BATCH))
    return float(sum(np.sum(_computed(part, weights)[-1] ** 2) for part in parts))


def _slopes(problem: Problem, weights: Weights) -> Weights:
    """How the error falls with each weight, but for a factor: Adam takes any."""
    pair = problem.pair
    windows, hidden, passed, missed = _computed(problem, weights)
    back = _overlaid(pair.second, missed @ weights[2].T, hidden)
    back *= (hidden > pair.low) & (hidden < pair.high)
    back = back.reshape(-1, hidden.shape[-1])
    return windows.T @ back, back.sum(0), passed.T @ missed, missed.sum(0)


def _computed(problem: Problem, weights: Weights) -> tuple[Floats, Floats, Floats, Floats]:
    """The first layer's windows, what it gives, the second's windows, and by how much it errs."""
    pair = problem.pair
    windows, places = _windows(pair.first, problem.taken)
    hidden = (windows @ weights[0] + weights[1]).reshape(*places, -1)
    passed, _ = _windows(pair.second, np.clip(hidden, pair.low, pair.high))
    given = (passed @ weights[2] + weights[3]).reshape(problem.target.shape) + problem.added
    missed = given - problem.goal.wanted(problem.target, given)
    return windows, hidden, passed, missed.reshape(-1, given.shape[-1])


def _windows(layer: Layer, taken: Floats) -> tuple[Floats, tuple[int, ...]]:
    """All that a layer sees, ``[windows, taps * channels]``; the samples and their places."""
    padded = np.pad(taken, _pads(layer))
    seen = np.stack([padded[at] for at in _taps(layer, padded.shape)], axis=-2)
    return seen.reshape(-1, seen.shape[-2] * seen.shape[-1]), seen.shape[:-2]


def _overlaid(layer: Layer, windows: Floats, taken: Floats) -> Floats:
    """The sum of what all windows say of each value that the layer takes."""
    padded = np.pad(np.zeros_like(taken), _pads(layer))
    shown = windows.reshape(len(windows), prod(layer.kernel), -1)
    for tap, at in enumerate(_taps(layer, padded.shape)):
        padded[at] += shown[:, tap].reshape(padded[at].shape)
    inner = (slice(b, n - e) for (b, e), n in zip(_pads(layer), padded.shape, strict=True))
    return padded[tuple(inner)]


def _pads(layer: Layer) -> list[tuple[int, int]]:
    rank = len(layer.kernel)
    return [(0, 0), *zip(layer.pads[:rank], layer.pads[rank:], strict=True), (0, 0)]


def _taps(layer: Layer, shape: tuple[int, ...]) -> Iterator[tuple[slice, ...]]:
    """Where each tap lies in the padded input, for all windows."""
    for tap in np.ndindex(*layer.kernel):
        places = []
        for index, at in enumerate(tap):
            stride, wide = layer.strides[index], layer.dilations[index]
            count = (shape[index + 1] - (layer.kernel[index] - 1) * wide - 1) // stride + 1
            places.append(slice(at * wide, at * wide + (count - 1) * stride + 1, stride))
        yield (slice(None), *places)
