"""The name of a build in the store: a digest over everything that decides its bytes."""

from __future__ import annotations

import hashlib
import os
import re
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePath

import msgspec

from edgekit import fingerprint, resources, store
from edgekit.domain import Format
from edgekit.toolchain.environments import TOOLS

_TOOLS = (
    "ai-edge-litert",
    "ai-edge-quantizer",
    "coremltools",
    "numpy",
    "onnx",
    "onnxruntime",
    "onnxsim",
)

_LOCATION = re.compile(rb"\x0a\x08location\x12([\x00-\x7f])")
"""An ONNX external-data entry as protobuf writes it: the key, then the value's length."""


def entry(model: Path, request: msgspec.Struct, data: Iterable[Path | None]) -> str:
    """The store entry of a build.

    Args:
        model: the model's file; the external data it names count, too. Of a folder, all files.
        request: everything that was asked for.
        data: calibration and evaluation files.
    """
    parts: list[str | bytes] = [
        *(_of_folder(model) if model.is_dir() else _of_file(model)),
        msgspec.json.encode(_without_paths(request), order="deterministic"),
        *("" if path is None else _digest(path) for path in data),
        fingerprint.code(),
        *(path.read_bytes() for f in Format for path in resources.runner_files(f).values()),
        msgspec.json.encode(fingerprint.versions(_TOOLS), order="deterministic"),
        *(tool.requirements.read_bytes() for tool in TOOLS.values()),
    ]
    return f"bundles/{store.key(parts)}"


def _of_file(model: Path) -> Iterator[str | bytes]:
    encoded = model.read_bytes()
    yield hashlib.sha256(encoded).digest()
    yield from _external_digests(encoded, model.parent)


def _of_folder(model: Path) -> Iterator[str]:
    for path in sorted(path for path in model.rglob("*") if path.is_file()):
        yield path.relative_to(model).as_posix()
        yield _digest(path)


def _without_paths(request: msgspec.Struct) -> dict[str, object]:
    """The request's values; where the files lie does not matter, and what they hold is counted."""
    fields = {name: getattr(request, name) for name in request.__struct_fields__}
    plain = {k: v for k, v in fields.items() if not isinstance(v, Path)}
    if ":" in (fields["metric"] or ""):
        plain["metric"] = uuid.uuid4().hex  # the user's own code, which may have changed
    return {**plain, "name": fields["model"].stem}


def _external_digests(encoded: bytes, folder: Path) -> Iterator[str]:
    """Digests of the external data a model names, found without parsing a stranger's file."""
    matches = list(_LOCATION.finditer(encoded))
    if len(matches) != encoded.count(b"\x0a\x08location"):
        yield uuid.uuid4().hex  # written in a way not known here: such a build is not found again
    names = {os.fsdecode(encoded[m.end() : m.end() + m[1][0]]) for m in matches}
    for path in map(PurePath, sorted(names)):
        inside = not path.is_absolute() and ".." not in path.parts  # others are refused unread
        yield _digest(folder / path) if inside and (folder / path).is_file() else "missing"


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
