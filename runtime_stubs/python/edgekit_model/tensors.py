"""One input or output: how an application's arrays become the artifact's, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Tuple

import numpy as np

from .errors import ModelError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

_ROWS_COLUMNS_COLOURS = 3
# Kinds of types, and of those whose numbers they take: no fraction becomes an integer.
_HELD = {"b": "b", "i": "biu", "u": "biu", "f": "biuf"}


class Quantization(NamedTuple):
    """``real = scale * (stored - zero_point)``."""

    scale: float
    zero_point: int


class Picture(NamedTuple):
    """An input that is a picture of bytes: ``source = scale * pixel + bias``.

    ``colours`` is the order of the source's channels: ``rgb``, ``bgr`` or ``gray``. Scale and
    bias are one number, or one for each of these channels.
    """

    colours: str
    scale: Tuple[float, ...]
    bias: Tuple[float, ...]


class Tensor(NamedTuple):
    """An input or an output.

    ``name``, ``shape`` and ``dtype`` are the original model's, and what the application sees;
    the artifact has its own. ``artifact_array = array.transpose(permutation)``.
    """

    name: str
    shape: Tuple[int, ...]
    dtype: str
    artifact_name: str
    artifact_dtype: str
    permutation: Tuple[int, ...]
    quantization: Quantization | None = None
    picture: Picture | None = None

    @property
    def artifact_shape(self) -> Tuple[int, ...]:
        return tuple(self.shape[axis] for axis in self.permutation)

    @property
    def pixels(self) -> Tuple[int, ...]:
        """The shape of a picture: rows and columns, and three where it has colours."""
        rows_columns = self.shape[2:] if self._channels_first else self.shape[1:3]
        gray = self.picture is None or self.picture.colours == "gray"
        return rows_columns if gray else (*rows_columns, _ROWS_COLUMNS_COLOURS)

    def to_artifact(self, value: Any) -> Array:
        """What the application gives, as the artifact takes it.

        Raises:
            ModelError: another shape, or numbers that the type cannot hold.
        """
        array = np.asarray(value)
        if self.picture is not None and array.shape == self.pixels and array.dtype.kind in "iu":
            array = self._real(self._held(array, "uint8"), self.picture)
        if array.shape != self.shape:
            raise ModelError(f"{self.wanted}, got {array.dtype} {list(array.shape)}")
        moved = self._held(array, self.dtype).transpose(self.permutation)
        stored = moved if self.quantization is None else self._stored(moved, self.quantization)
        return np.ascontiguousarray(self._held(stored, self.artifact_dtype))

    @property
    def wanted(self) -> str:
        """What an application gives, in words."""
        text = f"{self.name} takes {self.dtype} {list(self.shape)}"
        return f"{text}, or a picture: uint8 {list(self.pixels)}" if self.picture else text

    def from_artifact(self, array: Array) -> Array:
        """What the artifact gave, as the original model would have."""
        real = array
        if self.quantization is not None:
            scale = np.float32(self.quantization.scale)
            real = (array.astype(np.float32) - self.quantization.zero_point) * scale
        order = np.argsort(self.permutation)
        return np.array(real.transpose(order), dtype=self.dtype, order="C")

    @property
    def _channels_first(self) -> bool:
        channels = 1 if self.picture and self.picture.colours == "gray" else _ROWS_COLUMNS_COLOURS
        return self.shape[1] == channels

    def _real(self, pixels: Array, picture: Picture) -> Array:
        """The source's input that a picture stands for."""
        last = pixels.reshape((*pixels.shape[:2], -1)).astype(np.float64)
        if picture.colours == "bgr":
            last = last[..., ::-1]
        real = last * np.asarray(picture.scale) + np.asarray(picture.bias)
        moved = real.transpose((2, 0, 1)) if self._channels_first else real
        made: Array = moved[np.newaxis].astype(self.dtype)
        return made

    def _held(self, array: Array, dtype: str) -> Array:
        """The same numbers in another type; real ones are rounded to it."""
        if array.dtype.kind not in _HELD[np.dtype(dtype).kind]:
            raise ModelError(f"{self.wanted}, got {array.dtype}")
        if np.can_cast(array.dtype, dtype) or not array.size:
            return array.astype(dtype, copy=False)
        with np.errstate(over="ignore"):
            made = array.astype(dtype)
        if made.dtype.kind == "f":
            fits = bool((np.isfinite(made) | ~np.isfinite(array)).all())
        else:
            info = np.iinfo(made.dtype)
            fits = info.min <= int(array.min()) and int(array.max()) <= info.max
        if not fits:
            numbers = f"numbers from {array.min()} to {array.max()}"
            raise ModelError(f"{self.wanted}, got {numbers}, which {dtype} does not hold")
        return made

    def _stored(self, array: Array, quantization: Quantization) -> Array:
        if not np.isfinite(array).all():
            raise ModelError(f"{self.name} cannot hold numbers that are not finite")
        info = np.iinfo(self.artifact_dtype)
        scaled = np.round(array / quantization.scale) + quantization.zero_point
        return np.clip(scaled, info.min, info.max).astype(self.artifact_dtype)
