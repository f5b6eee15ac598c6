"""Gathering from and scattering to places that are computed.

From iOS 17 on an index must not be negative; where one is, or lies outside, what Core ML does is
undefined, so it is refused here. Before, a negative one counts from the end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from edgekit.mil.types import Array, Value

_MODES: Mapping[str, np.ufunc] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "max": np.maximum,
    "min": np.minimum,
}


def _gather(
    x: Array,
    indices: Array,
    axis: Value = 0,
    batch_dims: Value = 0,
    validate_indices: Value = None,
) -> Array:
    along, batch = int(axis) % max(x.ndim, 1), int(batch_dims)
    places = _places(indices, x.shape[along], validate_indices)
    if batch == 0:
        return np.take(x, places, along)
    flat = x.reshape(-1, *x.shape[batch:])
    chosen = places.reshape(-1, *places.shape[batch:])
    parts = [np.take(each, at, along - batch) for each, at in zip(flat, chosen, strict=True)]
    return np.stack(parts).reshape(*x.shape[:batch], *parts[0].shape)


def _gather_along_axis(
    x: Array, indices: Array, axis: Value = 0, validate_indices: Value = None
) -> Array:
    places = _places(indices, x.shape[int(axis)], validate_indices)
    return np.take_along_axis(x, places, int(axis))


def _gather_nd(
    x: Array, indices: Array, batch_dims: Value = 0, validate_indices: Value = None
) -> Array:
    batch = int(batch_dims)
    flat = x.reshape(-1, *x.shape[batch:])
    chosen = indices.reshape(-1, *indices.shape[batch:])
    parts = [
        each[_coordinates(at, each.shape, validate_indices)]
        for each, at in zip(flat, chosen, strict=True)
    ]
    return np.stack(parts).reshape(*x.shape[:batch], *parts[0].shape)


def _scatter(
    data: Array,
    indices: Array,
    updates: Array,
    axis: Value = 0,
    mode: str = "add",
    validate_indices: Value = None,
) -> Array:
    along = int(axis) % data.ndim
    places = _places(indices, data.shape[along], validate_indices)
    return _updated(data, (slice(None),) * along + (places,), updates, mode)


def _scatter_along_axis(
    data: Array,
    indices: Array,
    updates: Array,
    axis: Value = 0,
    mode: str = "add",
    validate_indices: Value = None,
) -> Array:
    along = int(axis) % data.ndim
    where: list[Array] = list(np.indices(indices.shape, sparse=True))
    where[along] = _places(indices, data.shape[along], validate_indices)
    return _updated(data, tuple(where), updates, mode)


def _scatter_nd(
    data: Array,
    indices: Array,
    updates: Array,
    mode: str = "add",
    validate_indices: Value = None,
) -> Array:
    return _updated(data, _coordinates(indices, data.shape, validate_indices), updates, mode)


def _updated(data: Array, where: tuple[Value, ...], updates: Array, mode: str) -> Array:
    """A place that is named twice gets both, in order; with ``update`` the last."""
    result = data.copy()
    if mode == "update":
        result[where] = updates
    elif mode in _MODES:
        _MODES[mode].at(result, where, updates)
    else:
        raise ValueError(f"unknown mode {mode!r}")
    return result


def _coordinates(indices: Array, shape: tuple[int, ...], validate: Value) -> tuple[Array, ...]:
    """The last axis of ``indices`` as one array for each of the axes it names."""
    return tuple(
        _places(indices[..., axis], shape[axis], validate) for axis in range(indices.shape[-1])
    )


def _places(indices: Array, size: int, validate: Value) -> Array:
    """Indices that are known to be inside; ``validate`` is given from iOS 17 on."""
    lowest = -size if validate is None else 0
    places = np.asarray(indices, np.int64)
    if places.size and (places.min() < lowest or places.max() >= size):
        raise ValueError(f"an index lies outside of {lowest}..{size - 1}: undefined in Core ML")
    return places


OPERATIONS: Mapping[str, Callable[..., Value]] = {
    "gather": _gather,
    "gather_along_axis": _gather_along_axis,
    "gather_nd": _gather_nd,
    "scatter": _scatter,
    "scatter_along_axis": _scatter_along_axis,
    "scatter_nd": _scatter_nd,
}
