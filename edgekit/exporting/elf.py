"""Native libraries for Android: which processor they are for, and whether every phone loads them.

Android 15 runs with memory pages of 16 KB, too, and loads no library there whose segments are
aligned to less; Google Play takes none since November 2025. Only 64-bit systems have such pages.
"""

from __future__ import annotations

import struct

from edgekit.errors import UsageError

PAGE_BYTES = 16 * 1024
_MAGIC = b"\x7fELF"
_LITTLE, _LIBRARY, _LOAD = 1, 3, 1
_ABIS = {
    (2, 183): "arm64-v8a",
    (1, 40): "armeabi-v7a",
    (2, 62): "x86_64",
    (1, 3): "x86",
    (2, 243): "riscv64",
}
"""ELF's class and machine -> the name of Android's ABI, which is the folder's in ``jniLibs``."""

_LAYOUTS = {1: (28, "<I", 42, "<HH", 28, "<I"), 2: (32, "<Q", 54, "<HH", 48, "<Q")}
"""By class: where the header says where the segments are, and how long and how many; and where
a segment says how it is aligned."""


def abi(name: str, library: bytes) -> str:
    """The ABI of a shared library that may be part of an app.

    Args:
        name: of the file, for messages.
        library: its content.

    Raises:
        UsageError: no shared library for Android, or one with a segment that is not aligned to
            pages of 16 KB.
    """
    try:
        found, alignments = _read(library)
    except (struct.error, ValueError) as error:
        raise UsageError(f"{name} is no shared library for Android: {error}") from error
    low = [each for each in alignments if each < PAGE_BYTES or each & (each - 1)]
    if found in ("arm64-v8a", "x86_64", "riscv64") and low:
        raise UsageError(
            f"{name} ({found}) has a segment aligned to {min(low)} bytes, expected "
            f"{PAGE_BYTES} or a larger power of two",
            "link it with -Wl,-z,max-page-size=16384, or with NDK 28 or later",
        )
    return found


def _read(library: bytes) -> tuple[str, list[int]]:
    """The ABI, and the alignment of every segment that is loaded."""
    if library[:4] != _MAGIC:
        raise ValueError("it is no ELF file")
    kind, order = struct.unpack_from("BB", library, 4)
    type_, machine = struct.unpack_from("<HH", library, 16)
    found = _ABIS.get((kind, machine))
    if order != _LITTLE or type_ != _LIBRARY or found is None:
        raise ValueError(f"ELF class {kind}, type {type_}, machine {machine}")
    table, address, counts, shorts, place, word = _LAYOUTS[kind]
    (start,) = struct.unpack_from(address, library, table)
    length, count = struct.unpack_from(shorts, library, counts)
    segments = range(start, start + length * count, length) if length else range(0)
    alignments = [
        struct.unpack_from(word, library, segment + place)[0]
        for segment in segments
        if struct.unpack_from("<I", library, segment)[0] == _LOAD
    ]
    if not alignments:
        raise ValueError("nothing of it is loaded")
    return found, alignments
