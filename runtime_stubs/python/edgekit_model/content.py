"""What a file holds, as a digest."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_CHUNK = 1 << 20


def digest(path: Path) -> str:
    """The sha256 of a file, in hexadecimal; it may be larger than the memory."""
    made = hashlib.sha256()
    with path.open("rb") as file:
        for chunk in iter(lambda: file.read(_CHUNK), b""):
            made.update(chunk)
    return made.hexdigest()
