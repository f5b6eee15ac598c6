"""Resizing and resampling pictures, ``[..., height, width]``.

An axis is sampled at real positions, its grid; ``sampling_mode`` names the grid. Where two
elements are equally near to a position and the definition does not say which one is taken, the
operation is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from msgspec import Struct

from edgekit.mil.types import Array, Value

_CORNERS = {"STRICT_ALIGN_CORNERS", "ALIGN_CORNERS"}


def _grid(mode: str, begin: Value, length: Value, count: int) -> Array:
    """``count`` positions in a stretch of ``length`` elements from ``begin``, not bounded."""
    steps = np.arange(count)
    if mode in _CORNERS:
        if count == 1:
            return np.asarray([begin + ((length - 1) / 2 if mode == "ALIGN_CORNERS" else 0)])
        return np.asarray(begin + steps * ((length - 1) / (count - 1)))
    if mode == "DEFAULT":
        return np.asarray(begin + steps * (length / count))
    if mode == "OFFSET_CORNERS":
        return np.asarray(begin + (steps + 0.5) * (max(1, length - 1) / count))
    if mode == "UNALIGN_CORNERS":
        return np.asarray(begin + (steps + 0.5) * (length / count) - 0.5)
    raise ValueError(f"unknown sampling_mode {mode!r}")


def _bounded(mode: str, size: int, count: int) -> Array:
    return np.clip(_grid(mode, 0, size, count), 0, size - 1)


def _linear(x: Array, grid: Array, axis: int) -> Array:
    """Interpolate along one axis; the grid lies within it."""
    below = np.minimum(np.floor(grid).astype(int), x.shape[axis] - 1)
    above = np.minimum(below + 1, x.shape[axis] - 1)
    shape = [1] * x.ndim
    shape[axis] = -1
    share = (grid - below).astype(x.dtype).reshape(shape)
    return np.asarray(np.take(x, below, axis) * (1 - share) + np.take(x, above, axis) * share)


def _resize_bilinear(
    x: Array,
    target_size_height: Value = 1,
    target_size_width: Value = 1,
    sampling_mode: str = "DEFAULT",
) -> Array:
    for axis, count in ((x.ndim - 2, target_size_height), (x.ndim - 1, target_size_width)):
        x = _linear(x, _bounded(sampling_mode, x.shape[axis], int(count)), axis)
    return x


def _upsample_bilinear(
    x: Array,
    scale_factor_height: Value = 1,
    scale_factor_width: Value = 1,
    align_corners: Value = True,
    half_pixel_centers: Value = None,
) -> Array:
    half = not align_corners if half_pixel_centers is None else bool(half_pixel_centers)
    if align_corners and half:
        raise ValueError("align_corners and half_pixel_centers exclude one another")
    unaligned = "UNALIGN_CORNERS" if half else "DEFAULT"
    return _resize_bilinear(
        x,
        _scaled(x.shape[-2], scale_factor_height),
        _scaled(x.shape[-1], scale_factor_width),
        "STRICT_ALIGN_CORNERS" if align_corners else unaligned,
    )


def _scaled(size: int, factor: Value) -> int:
    return int(np.floor(size * np.float32(factor)))


def _upsample_nearest_neighbor(
    x: Array, scale_factor_height: Value = 1, scale_factor_width: Value = 1
) -> Array:
    """The element at ``floor(position / scale)``, as in TensorFlow and PyTorch."""
    for axis, factor in ((x.ndim - 2, scale_factor_height), (x.ndim - 1, scale_factor_width)):
        size = x.shape[axis]
        steps = np.arange(_scaled(size, factor)) / np.float32(factor)
        x = np.take(x, np.minimum(np.floor(steps).astype(int), size - 1), axis)
    return x


def _resize_nearest_neighbor(
    x: Array, target_size_height: Value, target_size_width: Value
) -> Array:
    """The element under the centre of the new one: TensorFlow's ``half_pixel_centers``."""
    for axis, target in ((x.ndim - 2, target_size_height), (x.ndim - 1, target_size_width)):
        count, size = int(target), x.shape[axis]
        x = np.take(x, (2 * np.arange(count) + 1) * size // (2 * count), axis)
    return x


def _resize(
    x: Array,
    shape: Array,
    resized_dims: Value,
    interpolation_mode: str = "LINEAR",
    sampling_mode: str = "DEFAULT",
) -> Array:
    """The last axes, to the last of ``shape``; a 0 there keeps an axis."""
    many = int(resized_dims)
    for axis, target in zip(range(x.ndim - many, x.ndim), shape[len(shape) - many :], strict=True):
        grid = _bounded(sampling_mode, x.shape[axis], int(target) or x.shape[axis])
        if interpolation_mode == "LINEAR":
            x = _linear(x, grid, axis)
        elif interpolation_mode == "NEAREST_NEIGHBOR":
            x = np.take(x, _nearest(grid), axis)
        else:
            raise ValueError(f"unknown interpolation_mode {interpolation_mode!r}")
    return x


def _nearest(grid: Array) -> Array:
    if np.any(grid - np.floor(grid) == 0.5):  # noqa: PLR2004 - a tie
        raise ValueError("two elements are equally near; which one is taken is not defined")
    return np.rint(grid).astype(int)


class _Crop(Struct, frozen=True, kw_only=True):
    """How boxes are cut out and resized: MIL's parameters, each with its default."""

    target_height: Value = 1
    target_width: Value = 1
    normalized_coordinates: Value = False
    spatial_scale: Value = 1.0
    box_coordinate_mode: str = "CORNERS_HEIGHT_FIRST"
    sampling_mode: str = "DEFAULT"
    pad_value: Value = 0.0

    def corners(self, box: Array, size: tuple[int, int]) -> tuple[float, ...]:
        """Top, left, bottom and right, in elements."""
        first, second, third, fourth = (float(each) * float(self.spatial_scale) for each in box)
        if self.box_coordinate_mode.startswith("CENTER_SIZE"):
            first, third = first - third / 2, first + third / 2
            second, fourth = second - fourth / 2, second + fourth / 2
        edges = (first, second, third, fourth)
        if self.box_coordinate_mode.endswith("WIDTH_FIRST"):
            edges = (second, first, fourth, third)
        if not self.normalized_coordinates:
            return edges
        height, width = (each - 1 for each in size)
        return tuple(edge * span for edge, span in zip(edges, (height, width) * 2, strict=True))


def _crop_resize(
    x: Array,
    boxes: Array | None = None,
    roi: Array | None = None,
    box_indices: Array | None = None,
    **how: Value,
) -> Array:
    """``[N, C, height, width]``; with ``roi``, before iOS 17, ``[N, B or 1, C, height, width]``."""
    crop = _Crop(**how)
    if boxes is not None:
        indices = range(len(boxes)) if box_indices is None else box_indices
        return np.stack([_cut(x[int(i)], b, crop) for b, i in zip(boxes, indices, strict=True)])
    if roi is None:
        raise ValueError("crop_resize needs boxes")
    regions = roi.reshape(len(roi), -1)
    if regions.shape[1] == 4:  # noqa: PLR2004 - no index before the box: every picture
        return np.stack([np.stack([_cut(each, box, crop) for each in x]) for box in regions])
    return np.stack([_cut(x[int(box[0])], box[1:], crop)[np.newaxis] for box in regions])


def _cut(image: Array, box: Array, crop: _Crop) -> Array:
    """One box of ``[C, H, W]``; a position outside of the picture gets the padding."""
    height, width = image.shape[-2:]
    top, left, bottom, right = crop.corners(box, (height, width))
    if crop.sampling_mode not in _CORNERS and (bottom < top or right < left):
        raise ValueError(f"a box is inverted; undefined for {crop.sampling_mode}")
    rows = _grid(crop.sampling_mode, top, bottom - top + 1, int(crop.target_height))
    columns = _grid(crop.sampling_mode, left, right - left + 1, int(crop.target_width))
    rows, columns = rows.astype(np.float32), columns.astype(np.float32)
    values = _linear(image, np.clip(rows, 0, height - 1), 1)
    values = _linear(values, np.clip(columns, 0, width - 1), 2)
    inside = ((rows >= 0) & (rows <= height - 1))[:, None] & (columns >= 0) & (columns <= width - 1)
    return np.where(inside, values, np.asarray(crop.pad_value, image.dtype))


class _Sampling(Struct, frozen=True, kw_only=True):
    """How a picture is sampled at given coordinates: MIL's parameters."""

    sampling_mode: str
    padding_mode: str
    coordinates_mode: str
    padding_value: Value = 0.0
    align_corners: Value = True

    def element(self, coordinate: Array, size: int) -> Array:
        """A coordinate, in elements."""
        if self.coordinates_mode == "unnormalized":
            return coordinate
        if self.coordinates_mode == "normalized_minus_one_to_one":
            coordinate = (coordinate + 1) / 2
        elif self.coordinates_mode != "normalized_zero_to_one":
            raise ValueError(f"unknown coordinates_mode {self.coordinates_mode!r}")
        return coordinate * (size - 1) if self.align_corners else coordinate * size - 0.5

    def within(self, place: Array, size: int) -> Array:
        """A position led back into the picture, where the padding is made of its elements."""
        if self.padding_mode == "border":
            return np.clip(place, 0, size - 1)
        if self.padding_mode == "reflection":
            return _reflected(place, 0, size - 1)
        if self.padding_mode == "symmetric":
            return np.clip(_reflected(place, -0.5, size - 0.5), 0, size - 1)
        if self.padding_mode != "constant":
            raise ValueError(f"unknown padding_mode {self.padding_mode!r}")
        return place


def _reflected(place: Array, low: float, high: float) -> Array:
    span = high - low
    if span == 0:
        return np.full_like(place, low)
    folded = np.mod(place - low, 2 * span)
    return low + np.minimum(folded, 2 * span - folded)


def _resample(x: Array, coordinates: Array, **how: Value) -> Array:
    """``[B, C, H2, W2]`` at coordinates ``[B, H2, W2, 2]`` of x and y."""
    sampling = _Sampling(**how)
    places = coordinates.astype(np.float32)
    columns = sampling.within(sampling.element(places[..., 0], x.shape[3]), x.shape[3])
    rows = sampling.within(sampling.element(places[..., 1], x.shape[2]), x.shape[2])
    if sampling.sampling_mode == "nearest":
        return _taken(x, np.rint(rows), np.rint(columns), sampling)
    if sampling.sampling_mode != "bilinear":
        raise ValueError(f"unknown sampling_mode {sampling.sampling_mode!r}")
    top, left = np.floor(rows), np.floor(columns)
    down, right = (rows - top)[:, None], (columns - left)[:, None]
    upper = _taken(x, top, left, sampling) * (1 - right)
    upper = upper + _taken(x, top, left + 1, sampling) * right
    lower = _taken(x, top + 1, left, sampling) * (1 - right)
    lower = lower + _taken(x, top + 1, left + 1, sampling) * right
    return np.asarray(upper * (1 - down) + lower * down)


def _taken(x: Array, rows: Array, columns: Array, sampling: _Sampling) -> Array:
    """The elements at whole positions, ``[B, C, H2, W2]``; beyond the picture the padding."""
    height, width = x.shape[2:]
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    row, column = np.clip(rows, 0, height - 1), np.clip(columns, 0, width - 1)
    batch = np.arange(len(x))[:, None, None]
    values = x[batch, :, row.astype(int), column.astype(int)].transpose(0, 3, 1, 2)
    if sampling.padding_mode != "constant":
        return values
    return np.where(inside[:, None], values, np.asarray(sampling.padding_value, x.dtype))


def _affine(
    x: Array, transform_matrix: Array, output_height: Value, output_width: Value, **how: Value
) -> Array:
    """``resample`` at ``matrix @ (x, y, 1)`` for x and y from -1 to 1 over the output."""
    matrices = np.broadcast_to(transform_matrix.reshape(-1, 2, 3), (len(x), 2, 3))
    rows, columns = (
        _grid("STRICT_ALIGN_CORNERS", -1, 3, int(n)) for n in (output_height, output_width)
    )
    across, down = np.meshgrid(columns, rows)
    places = np.stack([across, down, np.ones_like(across)], -1)
    return _resample(x, np.einsum("bij,hwj->bhwi", matrices, places), **how)


OPERATIONS: Mapping[str, Callable[..., Value]] = {
    "affine": _affine,
    "crop_resize": _crop_resize,
    "resample": _resample,
    "resize": _resize,
    "resize_bilinear": _resize_bilinear,
    "resize_nearest_neighbor": _resize_nearest_neighbor,
    "upsample_bilinear": _upsample_bilinear,
    "upsample_nearest_neighbor": _upsample_nearest_neighbor,
}
