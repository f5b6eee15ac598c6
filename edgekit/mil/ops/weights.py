"""Compressed weights, expanded as specified: iOS 16's forms and those of iOS 18.

An operation of both kept its name and changed its inputs: iOS 16 packs bits into bytes and
gives the shape beside them, iOS 18 has types of fewer than eight bits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod

import numpy as np

from edgekit.mil.types import Array, Value
from edgekit.mil.weights_file import unpacked_bits


def _affine_dequantize(
    quantized_data: Array, zero_point: Array, scale: Array, axis: Array
) -> Array:
    """``scale * (quantized_data - zero_point)``, both per tensor or along ``axis``."""
    shape = [1] * quantized_data.ndim
    shape[int(axis)] = -1
    zero, factor = (
        each.astype(np.float32).reshape(shape) if each.ndim else each.astype(np.float32)
        for each in (zero_point, scale)
    )
    return factor * (quantized_data.astype(np.float32) - zero)


def _lut_to_dense(
    indices: Array,
    lut: Array,
    shape: Array | None = None,
    vector_axis: Array | None = None,
) -> Array:
    if shape is not None:
        size = tuple(int(each) for each in shape)
        bits = (lut.size - 1).bit_length()
        return lut[unpacked_bits(indices, bits, prod(size))].reshape(size)
    width = lut.shape[-1]
    chosen = np.broadcast_to(indices[..., None, None].astype(np.intp), (*indices.shape, 1, width))
    vectors = np.take_along_axis(_spread(lut, indices.shape), chosen, -2)[..., 0, :]
    if vector_axis is None:
        return vectors[..., 0]
    along = int(vector_axis) % indices.ndim
    size = tuple(n * (lut.shape[-1] if i == along else 1) for i, n in enumerate(indices.shape))
    return np.moveaxis(vectors, -1, along + 1).reshape(size)


def _sparse_to_dense(nonzero_data: Array, mask: Array, shape: Array | None = None) -> Array:
    if shape is not None:
        size = tuple(int(each) for each in shape)
        mask = unpacked_bits(mask, 1, prod(size)).reshape(size)
    dense = np.zeros(mask.shape, nonzero_data.dtype)
    dense[mask != 0] = nonzero_data
    return dense


def _blockwise_shift_scale(data: Array, scale: Array, offset: Array | None = None) -> Array:
    """``scale * (data - offset)``, one of each for a block of the data."""
    shifted = data.astype(np.float32)
    if offset is not None:
        shifted = shifted - _spread(offset.astype(np.float32), data.shape)
    return _spread(scale.astype(np.float32), data.shape) * shifted


def _lut_to_sparse(
    indices_mask: Array,
    indices_nonzero_data: Array,
    lut: Array,
    vector_axis: Array | None = None,
) -> tuple[Array, Array]:
    indices = _sparse_to_dense(indices_nonzero_data, indices_mask)
    dense = _lut_to_dense(indices, lut, vector_axis=vector_axis)
    mask = indices_mask
    if vector_axis is not None:
        mask = np.repeat(mask, lut.shape[-1], axis=int(vector_axis))
    return mask, dense[mask != 0]


def _sparse_blockwise_shift_scale(
    data_mask: Array, nonzero_data: Array, scale: Array, offset: Array | None = None
) -> tuple[Array, Array]:
    dense = _blockwise_shift_scale(_sparse_to_dense(nonzero_data, data_mask), scale, offset)
    return data_mask, dense[data_mask != 0]


def _spread(blocks: Array, shape: tuple[int, ...]) -> Array:
    """Repeat the leading axes of ``blocks``, one element for a block, to those of ``shape``."""
    for axis, size in enumerate(shape):
        times, rest = divmod(size, blocks.shape[axis])
        if rest:
            raise ValueError(f"{blocks.shape[axis]} blocks do not divide {size} elements")
        blocks = np.repeat(blocks, times, axis) if times > 1 else blocks
    return blocks


OPERATIONS: Mapping[str, Callable[..., Value]] = {
    "constexpr_affine_dequantize": _affine_dequantize,
    "constexpr_blockwise_shift_scale": _blockwise_shift_scale,
    "constexpr_cast": lambda source_val, output_dtype: source_val,  # noqa: ARG005 - declared
    "constexpr_lut_to_dense": _lut_to_dense,
    "constexpr_lut_to_sparse": _lut_to_sparse,
    "constexpr_sparse_blockwise_shift_scale": _sparse_blockwise_shift_scale,
    "constexpr_sparse_to_dense": _sparse_to_dense,
}
