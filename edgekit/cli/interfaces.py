"""``--image-input`` and ``--labels``: what an application is to see of a model."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

from edgekit.domain import Colours, Interface, Picture
from edgekit.errors import UsageError
from edgekit.interfaces import read_labels

_COLOURS: tuple[Colours, ...] = get_args(Colours)
_HINT = "write --image-input NAME=rgb,scale=0.00392,bias=0, with / between numbers for each channel"


def interface(images: list[str], labels: Path | None) -> Interface:
    """What was asked for.

    Raises:
        UsageError: an option that is not understood.
        DataError: labels that cannot be read, are none, or are not all different.
    """
    return Interface(
        pictures=dict(_picture(text) for text in images),
        labels=() if labels is None else read_labels(labels),
    )


def _picture(text: str) -> tuple[str, Picture]:
    """An option: a name may hold anything, so what follows it is found from the end."""
    for colours in _COLOURS:
        name, found, rest = text.rpartition(f"={colours}")
        if found and name and rest[:1] in ("", ","):
            return name, _described(text, colours, rest[1:].split(",") if rest else [])
    raise UsageError(f"--image-input {text!r} names no colours: rgb, bgr or gray", _HINT)


def _described(text: str, colours: Colours, options: list[str]) -> Picture:
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
