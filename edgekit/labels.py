"""The names of a model's classes, in a text file of the user's."""

from __future__ import annotations

from pathlib import Path

from edgekit.errors import DataError


def read(path: Path) -> tuple[str, ...]:
    """The labels of a file, one on a line.

    Raises:
        DataError: they cannot be read, are none, or are not all different.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read the labels in {path}: {error}") from error
    labels = tuple(line.strip() for line in lines if line.strip())
    if not labels or len(set(labels)) != len(labels):
        twice = next((label for label in labels if labels.count(label) > 1), "")
        raise DataError(
            f"{path} has {f'the label {twice!r} twice' if twice else 'no labels'}",
            "give a label for every class, one on a line, all of them different",
        )
    return labels
