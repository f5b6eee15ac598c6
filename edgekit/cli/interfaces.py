"""``--image-input`` and ``--labels``: what an application is to see of a model."""

from __future__ import annotations

from pathlib import Path

from edgekit.domain import Interface, Picture
from edgekit.errors import DataError, UsageError

_COLOURS = ("rgb", "bgr", "gray")
_HINT = "write --image-input NAME=rgb,scale=0.00392,bias=0, with / between numbers for each channel"


def interface(images: list[str], labels: Path | None) -> Interface:
    """What was asked for.

    Raises:
        UsageError: an option that is not understood.
        DataError: labels that cannot be read, are none, or are not all different.
    """
    return Interface(
        pictures=dict(_picture(text) for text in images),
        labels=() if labels is None else _labels(labels),
    )


def _picture(text: str) -> tuple[str, Picture]:
    """An option: a name may hold anything, so what follows it is found from the end."""
    for colours in _COLOURS:
        name, found, rest = text.rpartition(f"={colours}")
        if found and name and rest[:1] in ("", ","):
            return name, _described(text, colours, rest[1:].split(",") if rest else [])
    raise UsageError(f"--image-input {text!r} names no colours: rgb, bgr or gray", _HINT)


def _described(text: str, colours: str, options: list[str]) -> Picture:
    given: dict[str, tuple[float, ...]] = {}
    for option in options:
        key, _, numbers = option.partition("=")
        try:
            given[key] = tuple(float(number) for number in numbers.split("/"))
        except ValueError as error:
            raise UsageError(f"--image-input {text!r}: {option!r} is odd", _HINT) from error
    if unknown := given.keys() - {"scale", "bias"}:
        raise UsageError(f"--image-input {text!r}: no option {min(unknown)!r}", _HINT)
    return Picture(colours=colours, **given)


def _labels(path: Path) -> tuple[str, ...]:
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
