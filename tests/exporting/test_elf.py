"""Native libraries as a linker makes them, and as a stranger might."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from edgekit.errors import UsageError
from edgekit.exporting import elf

needs_a_compiler = pytest.mark.skipif(shutil.which("gcc") is None, reason="there is no gcc")


def linked(folder: Path, *options: str) -> bytes:
    source, library = folder / "empty.c", folder / "libempty.so"
    source.write_text("int answer(void) { return 42; }\n")
    argv = ["gcc", "-shared", "-fPIC", *options, str(source), "-o", str(library)]
    subprocess.run(argv, check=True)
    return library.read_bytes()


def header(kind: int, machine: int, *alignments: int, type_: int = 3) -> bytes:
    """An ELF file of segments that are loaded and nothing else, as elf(5) lays it out."""
    if kind == 2:
        top = struct.pack("<4sBBB9xHHIQQQIHHHHHH", b"\x7fELF", kind, 1, 1, type_, machine, 1, 0,
                          64, 0, 0, 64, 56, len(alignments), 0, 0, 0)  # fmt: skip
        return top + b"".join(struct.pack("<IIQQQQQQ", 1, 5, 0, 0, 0, 0, 0, a) for a in alignments)
    top = struct.pack("<4sBBB9xHHIIIIIHHHHHH", b"\x7fELF", kind, 1, 1, type_, machine, 1, 0,
                      52, 0, 0, 52, 32, len(alignments), 0, 0, 0)  # fmt: skip
    return top + b"".join(struct.pack("<IIIIIIII", 1, 0, 0, 0, 0, 0, 5, a) for a in alignments)


@needs_a_compiler
def test_what_a_linker_makes(tmp_path: Path) -> None:
    for pages in (16384, 65536):
        library = linked(tmp_path, f"-Wl,-z,max-page-size={pages}")
        assert elf.abi("libempty.so", library) == "x86_64"
    with pytest.raises(UsageError) as caught:
        elf.abi("libempty.so", linked(tmp_path, "-Wl,-z,max-page-size=4096"))
    said = "libempty.so (x86_64) has a segment aligned to 4096 bytes, expected 16384 or a larger"
    assert caught.value.message == f"{said} power of two"
    assert "max-page-size=16384" in caught.value.hint


@pytest.mark.parametrize(
    ("kind", "machine", "alignment", "abi"),
    [
        (2, 183, 16384, "arm64-v8a"),
        (2, 62, 65536, "x86_64"),
        (1, 40, 4096, "armeabi-v7a"),  # 32-bit systems have pages of 4 KB
        (1, 3, 4096, "x86"),
    ],
)
def test_every_abi(kind: int, machine: int, alignment: int, abi: str) -> None:
    assert elf.abi("lib.so", header(kind, machine, alignment, alignment)) == abi


@pytest.mark.parametrize(
    ("library", "says"),
    [
        (header(2, 183, 16384, 4096), "aligned to 4096 bytes"),
        (header(2, 183, 16384 + 1), "aligned to 16385 bytes"),
        (header(2, 183, 0), "aligned to 0 bytes"),
        (header(2, 183), "nothing of it is loaded"),
        (header(2, 183, 16384, type_=2), "no shared library"),
        (header(2, 21, 16384), "machine 21"),
        (header(1, 183, 16384), "no shared library"),
        (header(2, 183, 16384)[:90], "no shared library"),
        (b"\x7fELF", "no shared library"),
        (b"", "it is no ELF file"),
        (b"PK\x03\x04" + bytes(100), "it is no ELF file"),
    ],
)
def test_what_no_phone_loads(library: bytes, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        elf.abi("lib.so", library)
