"""What belongs to a model: its file and the external data it names, or a folder's files."""

from __future__ import annotations

import hashlib
import os
import re
import uuid
from collections.abc import Iterator
from pathlib import Path, PurePath

_LOCATION = re.compile(rb"\x0a\x08location\x12([\x00-\x7f])")
"""An ONNX external-data entry as protobuf writes it: the key, then the value's length."""


def content(model: Path) -> Iterator[str | bytes]:
    """Digests of all that a model consists of, found without parsing a stranger's file.

    Args:
        model: its file; the external data it names count, too. Of a folder, all files.
    """
    yield from _of_folder(model) if model.is_dir() else _of_file(model)


def files(model: Path) -> Iterator[Path]:
    """All that a model consists of: its file and the external data it names, or a folder's files.

    External data that are not there are among them; what lies outside its folder is not.
    """
    if model.is_dir():
        yield from sorted(path for path in model.rglob("*") if path.is_file())
    else:
        yield model
        yield from _external(model.read_bytes() if model.is_file() else b"", model.parent)


def digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _of_file(model: Path) -> Iterator[str | bytes]:
    encoded = model.read_bytes()
    yield hashlib.sha256(encoded).digest()
    yield from _external_digests(encoded, model.parent)


def _of_folder(model: Path) -> Iterator[str]:
    for path in files(model):
        yield path.relative_to(model).as_posix()
        yield digest(path)


def _external_digests(encoded: bytes, folder: Path) -> Iterator[str]:
    """Digests of the external data a model names."""
    if len(list(_LOCATION.finditer(encoded))) != encoded.count(b"\x0a\x08location"):
        yield uuid.uuid4().hex  # written in a way not known here: such a build is not found again
    for path in _external(encoded, folder):
        yield digest(path) if path.is_file() else "missing"


def _external(encoded: bytes, folder: Path) -> Iterator[Path]:
    """The external data a model names, found without parsing a stranger's file."""
    matches = _LOCATION.finditer(encoded)
    names = {os.fsdecode(encoded[m.end() : m.end() + m[1][0]]) for m in matches}
    for path in map(PurePath, sorted(names)):
        if not path.is_absolute() and ".." not in path.parts:  # others are refused unread
            yield folder / path
