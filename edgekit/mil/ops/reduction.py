"""Operations along axes: sums and their like, the largest and its place, sorting, softmax."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from edgekit.mil.types import Array, Value


def _reduction(function: Callable[..., Array]) -> Callable[..., Array]:
    def reduce(x: Array, axes: Array | None = None, keep_dims: Array | bool = False) -> Array:
        axis = None if axes is None else tuple(int(each) for each in np.atleast_1d(axes))
        return np.asarray(function(x, axis=axis, keepdims=bool(keep_dims)))

    return reduce


def _sum(x: Array, **how: Value) -> Array:
    return np.asarray(np.sum(x, dtype=x.dtype, **how))


def _log_sum_exp(x: Array, axis: tuple[int, ...] | None, keepdims: bool) -> Array:
    largest = np.max(x, axis=axis, keepdims=True)
    shift = np.where(np.isfinite(largest), largest, 0)
    total = np.log(np.sum(np.exp(x - shift), axis=axis, keepdims=True)) + shift
    return total if keepdims else np.squeeze(total, axis)


def _place(function: Callable[..., Array]) -> Callable[..., Array]:
    def argument(
        x: Array,
        axis: Array | int = -1,
        keep_dims: Array | bool = False,
        output_dtype: str = "int32",
    ) -> Array:
        place = function(x, axis=int(axis), keepdims=bool(keep_dims))
        return np.asarray(place, output_dtype)

    return argument


def softmax(x: Array, axis: Array | int = -1) -> Array:
    """Shifted by the largest, so that nothing overflows."""
    raised = np.exp(x - np.max(x, axis=int(axis), keepdims=True))
    return np.divide(raised, np.sum(raised, axis=int(axis), keepdims=True))


def _cumsum(
    x: Array,
    axis: Array | int = 0,
    exclusive: Array | bool = False,
    reverse: Array | bool = False,
) -> Array:
    along = int(axis)
    x = np.flip(x, along) if reverse else x
    total = np.cumsum(x, axis=along, dtype=x.dtype)
    total = total - x if exclusive else total
    return np.flip(total, along) if reverse else total


def _argsort(x: Array, axis: Array | int = -1, ascending: Array | bool = False) -> Array:
    """Equal elements keep their order."""
    if ascending:
        return np.argsort(x, axis=int(axis), kind="stable")
    # Negating would overflow the lowest integer: sort what is reversed, and reverse the places.
    along = int(axis)
    places = np.flip(np.argsort(np.flip(x, along), axis=along, kind="stable"), along)
    return np.asarray(x.shape[along] - 1 - places)


def _topk(
    x: Array,
    k: Array | int = 1,
    axis: Array | int = -1,
    ascending: Array | bool = False,
    sort: Array | bool = True,  # noqa: ARG001 - any order will do where none is asked for
    return_indices: Array | bool = True,
    output_indices_dtype: str = "int32",
) -> Value:
    """The largest ``k`` (all of them for -1), the first of equal ones before the others."""
    along, count = int(axis), int(k)
    count = x.shape[along] if count == -1 else count
    places = np.take(_argsort(x, along, ascending), np.arange(count), axis=along)
    values = np.take_along_axis(x, places, axis=along)
    return (values, places.astype(output_indices_dtype)) if return_indices else values


OPERATIONS: Mapping[str, Callable[..., Value]] = {
    "reduce_sum": _reduction(_sum),
    "reduce_mean": _reduction(np.mean),
    "reduce_max": _reduction(np.max),
    "reduce_min": _reduction(np.min),
    "reduce_prod": _reduction(np.prod),
    "reduce_sum_square": _reduction(lambda x, **how: _sum(x * x, **how)),
    "reduce_l1_norm": _reduction(lambda x, **how: _sum(np.abs(x), **how)),
    "reduce_l2_norm": _reduction(lambda x, **how: np.sqrt(_sum(x * x, **how))),
    "reduce_log_sum": _reduction(lambda x, **how: np.log(_sum(x, **how))),
    "reduce_log_sum_exp": _reduction(_log_sum_exp),
    "reduce_argmax": _place(np.argmax),
    "reduce_argmin": _place(np.argmin),
    "softmax": softmax,
    "cumsum": _cumsum,
    "argsort": _argsort,
    "topk": _topk,
}
