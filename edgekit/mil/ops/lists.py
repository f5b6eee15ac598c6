"""Lists of tensors, which loops write, and the end of a classifier."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from edgekit.mil.types import Array, Value

_DTYPES = {"fp16": "float32", "fp32": "float32", "int32": "int32", "bool": "bool"}


def _make_list(
    elem_shape: list[Array],
    init_length: Value = 1,
    dynamic_length: Value = True,  # noqa: ARG001 - a write beyond the end makes any list longer
    dtype: str = "fp32",
) -> list[Array]:
    shape = tuple(int(size) for size in np.concatenate([np.atleast_1d(e) for e in elem_shape]))
    return [np.zeros(shape, _DTYPES[dtype])] * int(init_length)


def _list_write(ls: list[Array], index: Array, value: Array) -> list[Array]:
    return _list_scatter(ls, index.reshape(1), value[np.newaxis])


def _list_scatter(ls: list[Array], indices: Array, value: Array) -> list[Array]:
    written = list(ls)
    for place, each in zip(indices, value, strict=True):
        written += [np.zeros_like(each)] * (int(place) + 1 - len(written))
        written[int(place)] = each
    return written


def _list_gather(ls: list[Array], indices: Array) -> Array:
    return np.stack([ls[int(place)] for place in indices])


def _classify(probabilities: Array, classes: list[Value]) -> tuple[Array, Array]:
    """The label of the largest, and the probabilities in the order of the labels."""
    return np.asarray(classes[int(np.argmax(probabilities))]), probabilities.reshape(-1)


OPERATIONS: Mapping[str, Callable[..., Value]] = {
    "classify": _classify,
    "list_gather": _list_gather,
    "list_length": lambda ls: np.asarray(len(ls), np.int32),
    "list_read": lambda ls, index: ls[int(index)],
    "list_scatter": _list_scatter,
    "list_write": _list_write,
    "make_list": _make_list,
}
