"""The weight file of a package: MIL's "blob v2" storage, read without trusting it.

The layout is that of ``StorageFormat.hpp`` in coremltools: a header of 64 bytes (count,
version 2), then for every tensor metadata of 64 bytes (sentinel, type, size, offset, padding
bits) and its data. A program refers to a tensor by the offset of its metadata.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from edgekit.errors import ModelError
from edgekit.mil.types import Array, ElementType

_HEADER = struct.Struct("<II56x")
_METADATA = struct.Struct("<IIQQQ32x")
_SENTINEL = 0xDEADBEEF
_VERSION = 2
_TYPES = {
    1: "float16",
    2: "float32",
    3: "uint8",
    4: "int8",
    5: "bfloat16",
    6: "int16",
    7: "uint16",
    8: "int4",
    9: "uint1",
    10: "uint2",
    11: "uint4",
    12: "uint3",
    13: "uint6",
    14: "int32",
    15: "uint32",
    16: "float8e4m3fn",
    17: "float8e5m2",
}


class WeightsFile:
    """A mapped weight file; what is read from it is checked against its size and types.

    Raises:
        ModelError: it is no weight file, or is cut short.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        if path.stat().st_size < _HEADER.size:
            raise ModelError(f"{path.name}: a weight file has a header of {_HEADER.size} bytes")
        self._bytes = np.memmap(path, np.uint8, mode="r")
        _, version = _HEADER.unpack(self._slice(0, _HEADER.size).tobytes())
        if version != _VERSION:
            raise ModelError(f"{path.name}: weight files have version {_VERSION}, got {version}")

    def read(self, offset: int, element: ElementType, elements: int) -> Array:
        """A flat array of ``elements`` elements; not copied unless they are packed.

        Raises:
            ModelError: the metadata at ``offset`` does not describe such a tensor, or the
                tensor lies outside the file.
        """
        header = self._slice(offset, _METADATA.size).tobytes()
        sentinel, kind, size, start, _ = _METADATA.unpack(header)
        if sentinel != _SENTINEL:
            raise ModelError(f"{self._path.name}: no tensor begins at offset {offset}")
        found = (_TYPES.get(kind, f"type {kind}"), size)
        expected = (element.name, packed_bytes(element, elements))
        # A bool is stored as the byte that it is.
        if found != expected and (element.name, found[0]) != ("bool", "uint8"):
            raise ModelError(
                f"{self._path.name}: the tensor at offset {offset} should be {expected[0]} in "
                f"{expected[1]} bytes, it is {found[0]} in {found[1]}"
            )
        return unpacked(self._slice(start, size), element, elements)

    def _slice(self, start: int, size: int) -> Array:
        if start + size > self._bytes.size:
            raise ModelError(
                f"{self._path.name}: {size} bytes at {start} lie outside its {self._bytes.size}"
            )
        return self._bytes[start : start + size]


def packed_bytes(element: ElementType, elements: int) -> int:
    """The bytes that so many elements take."""
    return (elements * element.bits + 7) // 8


def unpacked(data: Array, element: ElementType, elements: int) -> Array:
    """A flat array of the element's storage type from bytes; packed ones are spread out.

    Bits are packed from the least significant bit of the first byte; an element may lie
    across two bytes. A signed one is in two's complement.
    """
    if data.size != packed_bytes(element, elements):
        raise ModelError(
            f"{elements} elements of {element.name} take {packed_bytes(element, elements)} "
            f"bytes, got {data.size}"
        )
    if element.bits >= 8:  # noqa: PLR2004 - whole bytes
        return data.view(element.storage)
    values = unpacked_bits(data, element.bits, elements)
    if element.storage.startswith("u"):
        return values
    sign = 1 << (element.bits - 1)
    return (values.astype(np.int8) ^ sign) - sign


def unpacked_bits(data: Array, bits: int, elements: int) -> Array:
    """Unsigned numbers of ``bits`` bits each, packed least significant bit first."""
    spread = np.unpackbits(data, count=elements * bits, bitorder="little")
    weights = (1 << np.arange(bits)).astype(np.uint8)
    return (spread.reshape(elements, bits) * weights).sum(axis=1, dtype=np.uint8)
