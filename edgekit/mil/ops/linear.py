"""Products of matrices."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from edgekit.mil.ops.reduction import softmax
from edgekit.mil.types import Array, Value


def _linear(x: Array, weight: Array, bias: Array | None = None) -> Array:
    product = np.matmul(x, weight.T)
    return np.asarray(product if bias is None else product + bias)


def _matmul(
    x: Array, y: Array, transpose_x: Array | bool = False, transpose_y: Array | bool = False
) -> Array:
    return np.asarray(np.matmul(_transposed(x, transpose_x), _transposed(y, transpose_y)))


def _transposed(x: Array, wanted: Array | bool) -> Array:
    return np.swapaxes(x, -1, -2) if wanted and x.ndim > 1 else x


def _einsum(values: list[Array], equation: str) -> Array:
    """``nchw,nwhu->nchu`` and ``chw,whr->chr``, where an axis of one is broadcast."""
    terms = equation.replace(" ", "").split("->")[0].split(",")
    sizes: dict[str, int] = {}
    for term, value in zip(terms, values, strict=True):
        for letter, size in zip(term, value.shape, strict=True):
            sizes[letter] = max(size, sizes.get(letter, 1))
    full = [
        np.broadcast_to(value, [sizes[letter] for letter in term])
        for term, value in zip(terms, values, strict=True)
    ]
    return np.asarray(np.einsum(equation, *full, optimize=True))


def _scaled_dot_product_attention(
    query: Array, key: Array, value: Array, attn_mask: Array | None = None
) -> Array:
    """``softmax(query @ key.T / sqrt(E) + mask) @ value``; a mask of bool says what takes part."""
    scores = np.matmul(query, np.swapaxes(key, -1, -2)) / np.float32(np.sqrt(query.shape[-1]))
    if attn_mask is not None and attn_mask.dtype == np.bool_:
        scores = np.where(attn_mask, scores, -np.inf)
    elif attn_mask is not None:
        scores = scores + attn_mask
    return np.asarray(np.matmul(softmax(scores), value))


OPERATIONS: Mapping[str, Callable[..., Value]] = {
    "linear": _linear,
    "matmul": _matmul,
    "einsum": _einsum,
    "scaled_dot_product_attention": _scaled_dot_product_attention,
}
