"""The folder of an export: its record, and what may be written over."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path

import msgspec
from msgspec import Struct

from edgekit.content import digest
from edgekit.errors import BundleError, Unexpected
from edgekit.exporting.contract import Files
from edgekit.publishing import files_in, is_plain, replacing

RECORD = "edgekit-export.json"
SCHEMA_VERSION = 1


class Record(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What an export was made of, and the sha256 of every other file of it."""

    schema_version: int = SCHEMA_VERSION
    platform: str
    name: str
    bundle_sha256: str
    artifact_sha256: str
    files: dict[str, str]


def check_destination(destination: Path) -> None:
    """Refuse to write over anything but an earlier export, as it was made.

    Raises:
        BundleError: a file, a folder that holds something else, or an export that was changed.
    """
    if not destination.exists() or (destination.is_dir() and not any(destination.iterdir())):
        return
    hint = "name a new or empty folder, or that of an earlier export"
    if not destination.is_dir():
        raise BundleError(f"{destination} is a file, an export is a folder", hint)
    record = read(destination)
    if record is None:
        raise BundleError(f"{destination} is a folder that holds something else", hint)
    if odd := changes(destination, record):
        raise BundleError(
            f"{destination / odd[0]} is not as it was exported",
            "what was changed or added would be lost: move it away, or export to a new folder",
        )


def read(folder: Path) -> Record | None:
    """The record of an export; ``None``: there is none."""
    try:
        return msgspec.json.decode((folder / RECORD).read_bytes(), type=Record)
    except (OSError, msgspec.MsgspecError, RecursionError):
        return None


def changes(folder: Path, record: Record) -> tuple[str, ...]:
    """The files of an export that were changed, added or removed, in order."""
    found = files_in(folder) - {RECORD}
    odd = found ^ record.files.keys()
    odd |= {name for name in found - odd if digest(folder / name) != record.files[name]}
    return tuple(sorted(odd))


def write(files: Files, record: Record, destination: Path) -> Record:
    """Write an export aside and put it in its place: complete, or not at all.

    Args:
        files: all of it but the record.
        record: without the digests, which are filled in.
        destination: see ``check_destination``.

    Raises:
        BundleError: the destination holds something else, or cannot be written.
    """
    check_destination(destination)
    try:
        with replacing(destination) as made:
            digests = {name: _put(made, name, files[name]) for name in sorted(files)}
            record = msgspec.structs.replace(record, files=digests)
            (made / RECORD).write_bytes(_encoded(record))
    except OSError as error:
        raise BundleError(f"cannot write {destination}: {error.strerror}") from error
    return record


def _encoded(record: Record) -> bytes:
    return msgspec.json.format(msgspec.json.encode(record, order="deterministic")) + b"\n"


def _put(folder: Path, name: str, content: bytes | Path) -> str:
    """Write one file; its sha256."""
    if name == RECORD or not is_plain(name):
        raise Unexpected(ValueError(f"an export cannot hold a file named {name!r}"))
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
        return hashlib.sha256(content).hexdigest()
    shutil.copyfile(content, path)
    return digest(path)


def total_bytes(folder: Path, files: Mapping[str, str]) -> int:
    """How large the files of an export are."""
    return sum((folder / name).stat().st_size for name in files)
