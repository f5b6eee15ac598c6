"""Convolution and pooling, computed by ONNX Runtime.

Paddings are always given to it in full, so that what is computed is MIL's rule and not ONNX's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod

import numpy as np
from msgspec import Struct

from edgekit.mil.ops.elementwise import per_channel
from edgekit.mil.ops.onnx_node import run
from edgekit.mil.types import Array, Value

type _Pads = tuple[tuple[int, ...], tuple[int, ...]]


class _Geometry(Struct, frozen=True, kw_only=True):
    """How a kernel moves over the spatial axes: MIL's parameters, each with its default."""

    strides: Array | None = None
    pad_type: str = "valid"
    pad: Array | None = None
    dilations: Array | None = None

    def moves(self, axes: int) -> tuple[int, ...]:
        return _integers(self.strides, (1,) * axes)

    def steps(self, axes: int) -> tuple[int, ...]:
        return _integers(self.dilations, (1,) * axes)

    def reach(self, kernel: Sequence[int]) -> tuple[int, ...]:
        """The size of a kernel with its holes."""
        steps = self.steps(len(kernel))
        return tuple((size - 1) * step + 1 for size, step in zip(kernel, steps, strict=True))

    def pads(self, spatial: Sequence[int], kernel: Sequence[int]) -> _Pads:
        """Elements before and after each spatial axis."""
        axes = len(spatial)
        if self.pad_type == "valid":
            return (0,) * axes, (0,) * axes
        if self.pad_type == "custom":
            pad = _integers(self.pad, (0,) * 2 * axes)
            return pad[0::2], pad[1::2]
        if self.pad_type not in {"same", "same_lower"}:
            raise ValueError(f"unknown pad_type {self.pad_type!r}")
        sizes = zip(spatial, self.reach(kernel), self.moves(axes), strict=True)
        # So that there are ceil(size / stride) windows, as in TensorFlow.
        total = [
            max((-(-size // move) - 1) * move + reach - size, 0) for size, reach, move in sizes
        ]
        return self.halves(total)

    def halves(self, total: Sequence[int]) -> _Pads:
        smaller, larger = tuple(n // 2 for n in total), tuple(n - n // 2 for n in total)
        return (larger, smaller) if self.pad_type == "same_lower" else (smaller, larger)


def _conv(
    x: Array, weight: Array, bias: Array | None = None, groups: Value = 1, **geometry: Value
) -> Array:
    """``[n, C_in, *spatial]`` by ``[C_out, C_in / groups, *kernel]``."""
    how = _Geometry(**geometry)
    before, after = how.pads(x.shape[2:], weight.shape[2:])
    axes = x.ndim - 2
    attributes = {
        "dilations": how.steps(axes),
        "group": int(groups),
        "pads": (*before, *after),
        "strides": how.moves(axes),
    }
    return run("Conv", attributes, [x, weight] if bias is None else [x, weight, bias])


def _conv_transpose(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    groups: Value = 1,
    output_shape: Array | None = None,
    **geometry: Value,
) -> Array:
    """``[n, C_in, *spatial]`` by ``[C_in, C_out / groups, *kernel]``: the whole, then a window.

    "same" leaves ``strides * size``, as in TensorFlow; what a window has beyond the whole is zero
    but for the bias.
    """
    how = _Geometry(**geometry)
    axes = x.ndim - 2
    attributes = {
        "dilations": how.steps(axes),
        "group": int(groups),
        "strides": how.moves(axes),
    }
    whole = run("ConvTranspose", attributes, [x, weight])
    before, sizes = _window(x, whole, how, output_shape)
    for axis, (first, size) in enumerate(zip(before, sizes, strict=True), start=2):
        beyond = max(first + size - whole.shape[axis], 0)
        whole = np.pad(whole, [(0, beyond if n == axis else 0) for n in range(whole.ndim)])
        whole = np.take(whole, np.arange(first, first + size), axis)
    return whole if bias is None else whole + per_channel(bias, whole)


def _window(
    x: Array, whole: Array, how: _Geometry, output_shape: Array | None
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Where the result of a transposed convolution begins in the whole, and its size."""
    axes = x.ndim - 2
    full = whole.shape[2:]
    same = how.pad_type in {"same", "same_lower"}
    before, after = ((0,) * axes, (0,) * axes) if same else how.pads(x.shape[2:], (1,) * axes)
    sizes = tuple(n - b - a for n, b, a in zip(full, before, after, strict=True))
    if same:
        sizes = tuple(n * move for n, move in zip(x.shape[2:], how.moves(axes), strict=True))
    if output_shape is not None:
        sizes = tuple(int(size) for size in output_shape[-axes:])
    if same:
        before, _ = how.halves([max(n - size, 0) for n, size in zip(full, sizes, strict=True)])
    return before, sizes


def _max_pool(x: Array, kernel_sizes: Array, ceil_mode: Value = False, **geometry: Value) -> Array:
    windows = _windows(x, kernel_sizes, ceil_mode, geometry)
    return _pooled("MaxPool", windows, np.pad(x, windows.rim, constant_values=-np.inf))


def _avg_pool(
    x: Array,
    kernel_sizes: Array,
    ceil_mode: Value = False,
    exclude_padding_from_average: Value = False,
    **geometry: Value,
) -> Array:
    """What ``ceil_mode`` adds beyond the padding is never counted, as in PyTorch."""
    windows = _windows(x, kernel_sizes, ceil_mode, geometry)
    mean = _pooled("AveragePool", windows, np.pad(x, windows.rim))
    counted = windows.inner if exclude_padding_from_average else windows.padded
    return mean / _pooled("AveragePool", windows, counted[np.newaxis, np.newaxis])


def _l2_pool(x: Array, kernel_sizes: Array, ceil_mode: Value = False, **geometry: Value) -> Array:
    windows = _windows(x, kernel_sizes, ceil_mode, geometry)
    mean = _pooled("AveragePool", windows, np.pad(np.square(x), windows.rim))
    return np.sqrt(mean * float(prod(windows.kernel)))


class _Windows(Struct, frozen=True):
    """Where the windows of a pooling lie.

    Attributes:
        rim: what to add around every axis, for ``np.pad``: padding, and what ``ceil_mode`` adds.
        inner: 1 where an element of the input is, 0 elsewhere, over the spatial axes.
        padded: 1 where an element of the input or of its padding is.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    rim: list[tuple[int, int]]
    inner: Array
    padded: Array


def _windows(
    x: Array, kernel_sizes: Array, ceil_mode: Value, geometry: dict[str, Value]
) -> _Windows:
    how = _Geometry(**geometry)
    spatial, kernel = x.shape[2:], _integers(kernel_sizes, ())
    strides = how.moves(len(kernel))
    before, after = how.pads(spatial, kernel)
    sizes = zip(spatial, kernel, strides, before, after, strict=True)
    extra = [_beyond(*each) if ceil_mode else 0 for each in sizes]
    around, outside = list(zip(before, after, strict=True)), [(0, size) for size in extra]
    ones = np.ones(spatial, np.float32)
    return _Windows(
        kernel=kernel,
        strides=strides,
        rim=[(0, 0), (0, 0), *((b, a + e) for (b, a), (_, e) in zip(around, outside, strict=True))],
        inner=np.pad(np.pad(ones, around), outside),
        padded=np.pad(np.pad(ones, around, constant_values=1), outside),
    )


def _beyond(size: int, kernel: int, stride: int, before: int, after: int) -> int:
    """How far the last window of ``ceil_mode`` reaches beyond the padding."""
    padded = size + before + after
    steps = -(-(padded - kernel) // stride)
    if steps * stride >= size + before and before + after > 0:
        steps -= 1
    return max(steps * stride + kernel - padded, 0)


def _pooled(kind: str, windows: _Windows, x: Array) -> Array:
    return run(kind, {"kernel_shape": windows.kernel, "strides": windows.strides}, [x])


def _integers(values: Array | None, default: tuple[int, ...]) -> tuple[int, ...]:
    return default if values is None else tuple(int(value) for value in values)


OPERATIONS: Mapping[str, Callable[..., Value]] = {
    "conv": _conv,
    "conv_transpose": _conv_transpose,
    "max_pool": _max_pool,
    "avg_pool": _avg_pool,
    "l2_pool": _l2_pool,
}
