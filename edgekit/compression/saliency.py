"""Which channels a network misses least, and how its next layers make up for them.

Second order, structured: removing channels costs a reading layer the least output error
that is left when its other weights are fitted anew, which the inverse of its input's
covariance gives in closed form, one group of weights after another (Hassibi, Stork:
"Second order derivatives for network pruning: Optimal Brain Surgeon", NIPS 1992; for
groups: Kurtic, Frantar, Alistarh: "ZipLM", NeurIPS 2023).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import onnx
from msgspec import Struct
from numpy.typing import NDArray

from edgekit.compression import layers as matrices
from edgekit.compression.activations import Sample, values
from edgekit.compression.groups import Coupling, Dimension, Slot, Use
from edgekit.compression.layers import Layer

Floats = NDArray[np.float64]
_STEPS = 64
"""Channels are ranked in about as many steps: from large layers several go at once."""


class Reader(Struct, frozen=True, eq=False):
    """A layer that reads a dimension, and what it sees of it.

    Attributes:
        channels: behind each of the matrix's rows; or its taps.
        mean: of the layer's input, ``covariance`` about it.
    """

    layer: Layer
    channels: NDArray[np.int64]
    matrix: Floats
    mean: Floats
    covariance: Floats

    def damped(self, ridge: float) -> Floats:
        """The covariance with a share of its mean variance on the diagonal."""
        size = len(self.covariance)
        extra = ridge * np.trace(self.covariance) / size + 1e-12
        return np.asarray(self.covariance + extra * np.eye(size))


def readers(
    model: onnx.ModelProto,
    coupling: Coupling,
    layers: Sequence[Layer],
    samples: Sequence[Sample],
) -> tuple[Reader, ...]:
    """Every layer with each dimension that it reads, its taps too; depthwise ones read none."""
    slots: dict[str, list[Slot]] = {}
    for slot in coupling.slots:
        if slot.use in (Use.READ, Use.TAP):
            slots.setdefault(slot.node, []).append(slot)
    return tuple(
        reader
        for layer in layers
        if layer.name in slots and not layer.depthwise
        for reader in _readers(model, layer, slots[layer.name], samples)
    )


def _readers(
    model: onnx.ModelProto, layer: Layer, slots: Sequence[Slot], samples: Sequence[Sample]
) -> Iterable[Reader]:
    """The same layer for each of its slots."""
    seen = [matrices.rows(layer, taken) for (taken,) in values(model, [layer.taken], samples)]
    rows = np.concatenate(seen)
    # Only a layer with a bias can take a mean up into it.
    mean = rows.mean(0) if layer.bias else np.zeros(rows.shape[1], rows.dtype)
    rows = rows - mean
    weight = matrices.constant(model, layer.weight)
    matrix = matrices.matrix(layer, weight).astype(np.float64)
    covariance = (rows.T @ rows / len(rows)).astype(np.float64)
    for slot in slots:
        along = np.array(slot.channels).reshape([-1, *[1] * (weight.ndim - 1 - slot.axis)])
        yield Reader(
            layer=layer,
            channels=matrices.matrix(layer, np.broadcast_to(along, weight.shape))[:, 0],
            matrix=matrix,
            mean=mean.astype(np.float64),
            covariance=covariance,
        )


def of(dimension: Dimension, found: Sequence[Reader]) -> tuple[Reader, ...]:
    """The layers that read some of a dimension's channels."""
    return tuple(r for r in found if np.isin(dimension.channels, r.channels).any())


def by_error(dimension: Dimension, reading: Sequence[Reader], ridge: float) -> list[int]:
    """The dimension's channels, the one that is missed least first.

    Each step removes the channels with the least saliency
    ``tr(W_g' (H^-1_gg)^-1 W_g)``, summed over the readers, and updates the other weights
    and ``H^-1`` for it.
    """
    left = list(dimension.channels)
    states = [_State(reader, ridge) for reader in reading]
    order: list[int] = []
    at_once = max(1, len(left) // _STEPS)
    while left:
        costs = np.sum([state.costs(left) for state in states], axis=0)
        chosen = [left[index] for index in np.argsort(costs, kind="stable")[:at_once]]
        for state in states:
            state.remove(chosen)
        order += chosen
        left = [channel for channel in left if channel not in chosen]
    return order


class _State:
    """A reader as channels are removed from it."""

    def __init__(self, reader: Reader, ridge: float) -> None:
        self._inverse = np.linalg.inv(reader.damped(ridge))
        self._weights = reader.matrix.copy()
        numbers = dict.fromkeys(reader.channels.tolist())
        self._rows = {n: np.flatnonzero(reader.channels == n) for n in numbers}

    def costs(self, channels: Sequence[int]) -> Floats:
        return np.array([self._cost(self._rows.get(channel)) for channel in channels])

    def _cost(self, rows: NDArray[np.int64] | None) -> float:
        if rows is None:
            return 0.0
        held = self._weights[rows]
        return float(np.sum(held * np.linalg.solve(self._inverse[np.ix_(rows, rows)], held)))

    def remove(self, channels: Sequence[int]) -> None:
        found = [self._rows[channel] for channel in channels if channel in self._rows]
        if not found:
            return
        rows = np.concatenate(found)
        across = self._inverse[:, rows]
        solved = np.linalg.solve(self._inverse[np.ix_(rows, rows)], across.T)
        self._weights -= solved.T @ self._weights[rows]
        self._inverse -= across @ solved


def by_magnitude(model: onnx.ModelProto, coupling: Coupling, dimension: Dimension) -> list[int]:
    """The dimension's channels, those made by the smallest weights first."""
    norms = dict.fromkeys(dimension.channels, 0.0)
    for slot in coupling.slots:
        if slot.use is Use.MADE:
            array = np.moveaxis(matrices.constant(model, slot.tensor), slot.axis, 0)
            squares = np.sum(array.reshape(len(array), -1) ** 2, axis=1)
            for channel, square in zip(slot.channels, squares.tolist(), strict=True):
                if channel in norms:
                    norms[channel] += square
    return sorted(norms, key=lambda channel: norms[channel])


def compensate(
    smaller: onnx.ModelProto, reading: Sequence[Reader], removed: Sequence[int], ridge: float
) -> None:
    """Fit the readers' other weights so that they miss removed channels least.

    Args:
        smaller: the graph without them; its weights are changed.
        reading: the readers, of the graph with them.
        removed: the channels.
        ridge: how strongly weights keep to what they were, as a share of the input's
            mean variance.
    """
    for reader in reading:
        gone = np.isin(reader.channels, removed)
        damped = reader.damped(ridge)
        lost = reader.matrix[gone]
        extra = np.linalg.solve(
            damped[np.ix_(~gone, ~gone)], reader.covariance[np.ix_(~gone, gone)] @ lost
        )
        layer = reader.layer
        shape = matrices.constant(smaller, layer.weight).shape
        fitted = reader.matrix[~gone] + extra
        matrices.assign(smaller, layer.weight, matrices.weight(layer, fitted, shape))
        if layer.bias:
            moved = reader.mean[gone] @ lost - reader.mean[~gone] @ extra
            bias = matrices.constant(smaller, layer.bias)
            matrices.assign(smaller, layer.bias, bias + moved.astype(bias.dtype))
