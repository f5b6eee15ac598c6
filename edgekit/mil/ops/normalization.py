"""Normalization: by given statistics, or by those of the input."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from edgekit.mil.ops.elementwise import per_channel
from edgekit.mil.types import Array, Number, Value

_EPSILON = 1e-5


def _batch_norm(
    x: Array,
    mean: Array,
    variance: Array,
    gamma: Array | None = None,
    beta: Array | None = None,
    epsilon: Number = _EPSILON,
) -> Array:
    scale = (1 if gamma is None else gamma) / np.sqrt(variance + epsilon)
    normal = (x - per_channel(mean, x)) * per_channel(scale, x)
    return normal if beta is None else normal + per_channel(beta, x)


def _instance_norm(
    x: Array,
    gamma: Array | None = None,
    beta: Array | None = None,
    epsilon: Number = _EPSILON,
) -> Array:
    normal = _normal(x, tuple(range(2, x.ndim)), epsilon)
    normal = normal if gamma is None else normal * per_channel(gamma, x)
    return normal if beta is None else normal + per_channel(beta, x)


def _layer_norm(
    x: Array,
    axes: Array | None = None,
    gamma: Array | None = None,
    beta: Array | None = None,
    epsilon: Number = _EPSILON,
) -> Array:
    chosen = range(x.ndim) if axes is None else (int(axis) % x.ndim for axis in axes)
    along = tuple(sorted(chosen))
    shape = [size if axis in along else 1 for axis, size in enumerate(x.shape)]
    normal = _normal(x, along, epsilon)
    normal = normal if gamma is None else normal * gamma.reshape(shape)
    return normal if beta is None else normal + beta.reshape(shape)


def _normal(x: Array, axes: tuple[int, ...], epsilon: Number) -> Array:
    centred = x - np.mean(x, axis=axes, keepdims=True)
    variance = np.mean(np.square(centred), axis=axes, keepdims=True)
    return centred / np.sqrt(variance + epsilon)


def _l2_norm(x: Array, epsilon: Number = 1e-6) -> Array:
    """Over the last three axes."""
    total = np.sum(np.square(x), axis=(-3, -2, -1), keepdims=True)
    return x / np.sqrt(total + epsilon)


def _local_response_norm(
    x: Array,
    size: Array,
    alpha: Number = 1e-4,
    beta: Number = 0.75,
    k: Number = 1,
) -> Array:
    """Over ``size`` neighbouring channels, those before rounded down, as in PyTorch."""
    width, channels = int(size), x.shape[1]
    before = width // 2
    rim = [(0, 0), (before, width - before - 1), *[(0, 0)] * (x.ndim - 2)]
    squares = np.pad(np.square(x), rim)
    total = np.sum([squares[:, i : i + channels] for i in range(width)], axis=0, dtype=x.dtype)
    return x / np.power(k + alpha / width * total, beta)


OPERATIONS: Mapping[str, Callable[..., Value]] = {
    "batch_norm": _batch_norm,
    "instance_norm": _instance_norm,
    "layer_norm": _layer_norm,
    "l2_norm": _l2_norm,
    "local_response_norm": _local_response_norm,
}
