"""Files put in their place: complete or not at all, and under names that stay inside a folder."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath


def is_plain(name: str) -> bool:
    """Whether a relative path is written plainly, and stays inside its folder on every system."""
    pure = PurePosixPath(name)
    plain = str(pure) == name and not pure.is_absolute() and ".." not in pure.parts
    return plain and name != "." and name.isprintable() and "\\" not in name and ":" not in name


def files_in(folder: Path) -> set[str]:
    """Every file in a folder, relative to it."""
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


@contextmanager
def replacing(destination: Path) -> Iterator[Path]:
    """Where to write a file or a folder; it takes the destination's place when all went well.

    Raises:
        OSError: it cannot be written; the destination is as it was.
    """
    destination.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=destination.parent, prefix=".edgekit-") as aside:
        made = Path(aside) / "made"
        yield made
        if made.is_dir():
            _swap(made, destination, Path(aside) / "old")
        else:
            made.replace(destination)


def _swap(made: Path, destination: Path, old: Path) -> None:
    """Put ``made`` in the place of ``destination``; what was there comes back if that fails."""
    try:
        if destination.exists():
            destination.rename(old)
        made.rename(destination)
    finally:
        if old.exists() and not destination.exists():
            old.rename(destination)
