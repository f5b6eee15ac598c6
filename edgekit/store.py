"""A content-addressed store of folders: made aside, renamed into place, complete or absent."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from platformdirs import user_cache_path


def default_root() -> Path:
    """``EDGEKIT_CACHE``, or the user's cache folder."""
    chosen = os.environ.get("EDGEKIT_CACHE")
    return Path(chosen) if chosen else user_cache_path("edgekit")


def key(parts: Iterable[bytes | str]) -> str:
    """A digest over parts, each with its length: no two lists of parts share a key."""
    total = hashlib.sha256()
    for part in parts:
        raw = part.encode() if isinstance(part, str) else part
        total.update(len(raw).to_bytes(8, "big"))
        total.update(raw)
    return total.hexdigest()


def find(root: Path, entry: str) -> Path | None:
    """The folder of an entry; ``None`` when it was never made."""
    folder = root / entry
    return folder if folder.is_dir() else None


def make(root: Path, entry: str, fill: Callable[[Path], None]) -> Path:
    """The folder of an entry; ``fill`` writes it when it is not there yet.

    Whatever ends ``fill`` leaves nothing behind; of two makers the first wins.
    """
    folder = root / entry
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".making-"))
    try:
        fill(aside)
        try:
            aside.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return folder
