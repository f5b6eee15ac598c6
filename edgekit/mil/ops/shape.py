"""Operations that move elements and compute nothing: reshaping, slicing, joining, padding."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import starmap, zip_longest
from math import prod

import numpy as np

from edgekit.mil.types import Array, Value

_PAD_MODES = {"constant": "constant", "reflect": "reflect", "replicate": "edge"}


def _reshape(x: Array, shape: Array) -> Array:
    """A size of 0 is that of ``x``, counted from the last; without one there it is 1."""
    wanted = [int(size) for size in shape]
    lead = x.ndim - len(wanted)
    for axis, size in enumerate(wanted):
        if size == 0 and x.size:
            wanted[axis] = x.shape[axis + lead] if axis + lead >= 0 else 1
    return x.reshape(wanted)


def _reshape_like(
    x: Array,
    ref_tensors: list[Array],
    begins: list[Array],
    ends: list[Array],
    end_masks: list[Array],
) -> Array:
    shape: list[int] = []
    for tensor, begin, end, whole in zip(ref_tensors, begins, ends, end_masks, strict=True):
        shape += tensor.shape[int(begin) : None if whole else int(end)]
    return x.reshape(shape)


def _expand_dims(x: Array, axes: Array) -> Array:
    return np.expand_dims(x, tuple(int(axis) for axis in np.atleast_1d(axes)))


def _squeeze(x: Array, axes: Array | None = None) -> Array:
    """An axis that is longer than one is left, as in PyTorch."""
    chosen = range(x.ndim) if axes is None else (int(axis) % x.ndim for axis in np.atleast_1d(axes))
    return np.squeeze(x, tuple(axis for axis in chosen if x.shape[axis] == 1))


def _flatten2d(x: Array, axis: Array | int = 1) -> Array:
    return x.reshape(prod(x.shape[: int(axis)]), -1)


def _transpose(x: Array, perm: Array) -> Array:
    return np.transpose(x, tuple(int(axis) for axis in perm))


def _reverse(x: Array, axes: Array | None = None) -> Array:
    return np.flip(x, None if axes is None else tuple(int(axis) for axis in np.atleast_1d(axes)))


def _reverse_sequence(
    x: Array, lengths: Array, seq_axis: Array | int = 0, batch_axis: Array | int = 0
) -> Array:
    result = x.copy()
    sequences = np.moveaxis(result, (int(batch_axis), int(seq_axis)), (0, 1))
    for sequence, length in zip(sequences, lengths, strict=True):
        sequence[: int(length)] = sequence[: int(length)][::-1].copy()
    return result


def _slice_by_index(
    x: Array,
    begin: Array,
    end: Array,
    stride: Array | None = None,
    begin_mask: Array | None = None,
    end_mask: Array | None = None,
    squeeze_mask: Array | None = None,
) -> Array:
    """NumPy's slicing, with masks as in TensorFlow's ``strided_slice``.

    coremltools writes a ``begin`` and ``end`` that end early where the masks cover the rest.
    """
    steps = np.ones(x.ndim, int) if stride is None else stride
    no = np.zeros(x.ndim, bool)
    masks = [no if mask is None else mask for mask in (begin_mask, end_mask, squeeze_mask)]
    return x[tuple(starmap(_index, zip_longest(begin, end, steps, *masks)))]


def _index(
    begin: Value, end: Value, step: Value, no_begin: Value, no_end: Value, single: Value
) -> int | slice:
    if single:
        return int(begin)
    return slice(None if no_begin else int(begin), None if no_end else int(end), int(step))


def _slice_by_size(x: Array, begin: Array, size: Array) -> Array:
    window = []
    for length, first, count in zip(x.shape, begin, size, strict=True):
        start = int(first) + (length if first < 0 else 0)
        window.append(slice(start, None if count == -1 else start + int(count)))
    return x[tuple(window)]


def _slice_update(x: Array, update: Array, **where: Value) -> Array:
    result = x.copy()
    _slice_by_index(result, **where)[...] = update
    return result


def _concat(values: list[Array], axis: Array, interleave: Array | bool = False) -> Array:
    along = int(axis)
    if not interleave:
        return np.concatenate([np.atleast_1d(value) for value in values], along)
    along %= values[0].ndim
    shape = list(values[0].shape)
    shape[along] *= len(values)
    return np.stack(values, along + 1).reshape(shape)


def _split(
    x: Array,
    axis: Array,
    num_splits: Array | None = None,
    split_sizes: Array | None = None,
) -> tuple[Array, ...]:
    if split_sizes is None:
        if num_splits is None:
            raise ValueError("split needs num_splits or split_sizes")
        return tuple(np.split(x, int(num_splits), int(axis)))
    return tuple(np.split(x, np.cumsum(split_sizes)[:-1], int(axis)))


def _stack(values: list[Array], axis: Array) -> Array:
    return np.stack(values, int(axis))


def _tile(x: Array, reps: Array) -> Array:
    return np.tile(x, tuple(int(times) for times in reps))


def _pad(x: Array, pad: Array, mode: str = "constant", constant_val: Value = 0) -> Array:
    """The last axes, before and after each."""
    amounts = np.asarray(pad).reshape(-1, 2)
    rim = [(0, 0)] * (x.ndim - len(amounts)) + [(int(a), int(b)) for a, b in amounts]
    how = {"constant_values": constant_val} if mode == "constant" else {}
    return np.pad(x, rim, _PAD_MODES[mode], **how)  # type: ignore[call-overload, no-any-return]


def _crop(x: Array, crop_height: Array, crop_width: Array) -> Array:
    (top, bottom), (left, right) = crop_height, crop_width
    return x[..., int(top) : x.shape[-2] - int(bottom), int(left) : x.shape[-1] - int(right)]


def _depth_to_space(x: Array, block_size: Array) -> Array:
    """Channels hold ``[block, block, C]``, as in TensorFlow."""
    n, channels, height, width = x.shape
    block = int(block_size)
    parts = x.reshape(n, block, block, channels // block**2, height, width)
    moved = parts.transpose(0, 3, 4, 1, 5, 2)
    return moved.reshape(n, channels // block**2, height * block, width * block)


def _space_to_depth(x: Array, block_size: Array) -> Array:
    n, channels, height, width = x.shape
    block = int(block_size)
    parts = x.reshape(n, channels, height // block, block, width // block, block)
    moved = parts.transpose(0, 3, 5, 1, 2, 4)
    return moved.reshape(n, channels * block**2, height // block, width // block)


def _pixel_shuffle(x: Array, upscale_factor: Array) -> Array:
    """Channels hold ``[C, block, block]``, as in PyTorch."""
    n, channels, height, width = x.shape
    block = int(upscale_factor)
    parts = x.reshape(n, channels // block**2, block, block, height, width)
    moved = parts.transpose(0, 1, 4, 2, 5, 3)
    return moved.reshape(n, channels // block**2, height * block, width * block)


def _pixel_unshuffle(x: Array, downscale_factor: Array) -> Array:
    n, channels, height, width = x.shape
    block = int(downscale_factor)
    parts = x.reshape(n, channels, height // block, block, width // block, block)
    moved = parts.transpose(0, 1, 3, 5, 2, 4)
    return moved.reshape(n, channels * block**2, height // block, width // block)


def _space_to_batch(x: Array, block_shape: Array, paddings: Array) -> Array:
    rows, columns = (int(size) for size in block_shape)
    x = np.pad(x, [(0, 0), (0, 0), *((int(a), int(b)) for a, b in paddings)])
    n, channels, height, width = x.shape
    parts = x.reshape(n, channels, height // rows, rows, width // columns, columns)
    moved = parts.transpose(3, 5, 0, 1, 2, 4)
    return moved.reshape(n * rows * columns, channels, height // rows, width // columns)


def _batch_to_space(x: Array, block_shape: Array, crops: Array) -> Array:
    rows, columns = (int(size) for size in block_shape)
    n, channels, height, width = x.shape
    parts = x.reshape(rows, columns, n // (rows * columns), channels, height, width)
    moved = parts.transpose(2, 3, 4, 0, 5, 1)
    whole = moved.reshape(n // (rows * columns), channels, height * rows, width * columns)
    return _crop(whole, crops[0], crops[1])


def _sliding_windows(x: Array, axis: Array, size: Array, stride: Array | int = 1) -> Array:
    """A new axis of windows before that of their elements."""
    along = int(axis) % x.ndim
    windows = np.lib.stride_tricks.sliding_window_view(x, int(size), along)
    chosen = np.moveaxis(windows, -1, along + 1)
    return chosen[(slice(None),) * along + (slice(None, None, int(stride)),)]


def _band_part(x: Array, lower: Array | int = -1, upper: Array | int = -1) -> Array:
    below = np.subtract.outer(np.arange(x.shape[-2]), np.arange(x.shape[-1]))
    band = ((int(lower) < 0) | (below <= int(lower))) & ((int(upper) < 0) | (-below <= int(upper)))
    return np.where(band, x, np.zeros((), x.dtype))


def _fill(shape: Array, value: Value = 0) -> Array:
    return np.full(tuple(int(size) for size in shape), value)


def _fill_like(ref_tensor: Array, value: Value = 0) -> Array:
    return np.full(ref_tensor.shape, value)


def _range_1d(start: Array, end: Array, step: Array) -> Array:
    return np.arange(start.item(), end.item(), step.item(), dtype=start.dtype)


def _one_hot(
    indices: Array,
    one_hot_vector_size: Array,
    axis: Array | int = -1,
    on_value: Value = 1,
    off_value: Value = 0,
) -> Array:
    """An index outside the vector gives one that is off everywhere."""
    hot = indices[..., np.newaxis] == np.arange(int(one_hot_vector_size))
    return np.moveaxis(np.where(hot, on_value, off_value), -1, int(axis))


OPERATIONS: Mapping[str, Callable[..., Value]] = {
    "reshape": _reshape,
    "reshape_like": _reshape_like,
    "expand_dims": _expand_dims,
    "squeeze": _squeeze,
    "flatten2d": _flatten2d,
    "transpose": _transpose,
    "reverse": _reverse,
    "reverse_sequence": _reverse_sequence,
    "slice_by_index": _slice_by_index,
    "slice_by_size": _slice_by_size,
    "slice_update": _slice_update,
    "concat": _concat,
    "split": _split,
    "stack": _stack,
    "tile": _tile,
    "pad": _pad,
    "crop": _crop,
    "depth_to_space": _depth_to_space,
    "space_to_depth": _space_to_depth,
    "pixel_shuffle": _pixel_shuffle,
    "pixel_unshuffle": _pixel_unshuffle,
    "space_to_batch": _space_to_batch,
    "batch_to_space": _batch_to_space,
    "sliding_windows": _sliding_windows,
    "band_part": _band_part,
    "fill": _fill,
    "fill_like": _fill_like,
    "range_1d": _range_1d,
    "one_hot": _one_hot,
    "shape": lambda x: np.array(x.shape, np.int32),
    "non_zero": lambda x: np.argwhere(x).astype(np.int32),
}
