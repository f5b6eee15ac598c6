"""Builds archives that no honest writer makes; nothing hostile lies in the repository as a file."""

from __future__ import annotations

import hashlib
import io
import json
import stat
import struct
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from edgekit.bundle import MANIFEST
from tests.factories import make_bundle

Files = dict[str, bytes]
_LOCAL, _CENTRAL = b"PK\x03\x04", b"PK\x01\x02"
_FLAGS_AT = {_LOCAL: 6, _CENTRAL: 8}
_SIZE_AT = {_LOCAL: 22, _CENTRAL: 24}
ENCRYPTED = 1


def honest(folder: Path) -> Files:
    """The files of a small valid bundle."""
    root = make_bundle(folder / "honest", b"weights").root
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def listing(files: Mapping[str, bytes], extra: Mapping[str, bytes], *tables: str) -> Files:
    """The files and more of them, which the manifest names in ``tables`` as if they belonged."""

    def change(manifest: dict[str, Any]) -> None:
        of = {"digests": lambda raw: hashlib.sha256(raw).hexdigest(), "sizes_bytes": len}
        for table in tables or of:
            manifest[table].update({name: of[table](raw) for name, raw in extra.items()})

    return {**edited(files, change), **extra}


def edited(files: Mapping[str, bytes], change: Callable[[dict[str, Any]], None]) -> Files:
    """The files with a changed manifest."""
    manifest = json.loads(files[MANIFEST])
    change(manifest)
    return {**files, MANIFEST: json.dumps(manifest).encode()}


def packed(path: Path, entries: Iterable[tuple[zipfile.ZipInfo | str, bytes]]) -> Path:
    """A zip of these entries, in this order, each as it is described."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for entry, content in entries:
            archive.writestr(entry, content)
    return path


def described(name: str, kind: int = stat.S_IFREG, method: int = zipfile.ZIP_STORED) -> Any:
    """An entry of a file type and a compression; its name is kept as it is given."""
    entry = zipfile.ZipInfo("placeholder")
    entry.filename = name
    entry.external_attr = (kind | 0o777) << 16
    entry.compress_type = method
    return entry


def with_flag(path: Path, name: str, flag: int) -> Path:
    """Set a flag of an entry, in its local and its central header."""
    return _patched(path, name, _FLAGS_AT, "<H", lambda old: old | flag)


def with_size(path: Path, name: str, size: int) -> Path:
    """Let an entry claim another unpacked size."""
    return _patched(path, name, _SIZE_AT, "<L", lambda _: size)


def with_far_offset(path: Path, name: str, offset: int) -> Path:
    """Let an entry claim to begin at a 64-bit offset; its extra field must be eight bytes long."""
    raw = bytearray(path.read_bytes())
    central = _headers(bytes(raw), name)[_CENTRAL]
    struct.pack_into("<L", raw, central + 42, 0xFFFFFFFF)
    struct.pack_into("<HHQ", raw, central + 46 + len(name), 1, 8, offset)
    path.write_bytes(raw)
    return path


def overlapping(path: Path, files: Mapping[str, bytes], outer: str, inner: str) -> Path:
    """A zip whose last entry, ``inner``, has no bytes of its own: it lies within ``outer``'s."""
    raw = packed(path, files.items()).read_bytes()
    own, central = _headers(raw, inner).values()
    within = _headers(raw, outer)[_LOCAL] + 30 + len(outer)
    start = raw.index(_CENTRAL, own)
    forged = bytearray(raw)
    struct.pack_into("<L", forged, central + 42, within)
    struct.pack_into("<L", forged, len(raw) - 6, own)
    del forged[own:start]
    path.write_bytes(forged)
    return path


def local_entry(name: str, content: bytes) -> bytes:
    """A stored entry: its local header and its bytes."""
    crc, size = zipfile.crc32(content), len(content)
    fields = (20, 0, 0, 0, 33, crc, size, size, len(name), 0)
    return struct.pack("<4s5H3L2H", _LOCAL, *fields) + name.encode() + content


def headers_of(raw: bytes) -> list[int]:
    """The offset of every byte that describes rather than holds: what a forger plays with."""
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        start = archive.start_dir
        found = list(range(start, len(raw)))
        for entry in archive.infolist():
            found += range(entry.header_offset, entry.header_offset + 30 + len(entry.filename))
    return sorted(found)


def _patched(
    path: Path, name: str, where: Mapping[bytes, int], form: str, change: Callable[[int], int]
) -> Path:
    raw = bytearray(path.read_bytes())
    for magic, offset in _headers(bytes(raw), name).items():
        at = offset + where[magic]
        struct.pack_into(form, raw, at, change(*struct.unpack_from(form, raw, at)))
    path.write_bytes(raw)
    return path


def _headers(raw: bytes, name: str) -> dict[bytes, int]:
    """Where an entry's local and central headers begin."""
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        local = archive.getinfo(name).header_offset
        at = archive.start_dir
    while raw[at + 46 : at + 46 + struct.unpack_from("<H", raw, at + 28)[0]] != name.encode():
        at += 46 + sum(struct.unpack_from("<3H", raw, at + 28))
    return {_LOCAL: local, _CENTRAL: at}
