"""What an application is to see of a model, held against the model: pictures, and labels.

Labels are the lines of a text file of the user's.
"""

from __future__ import annotations

import math
from pathlib import Path

from edgekit.domain import Interface, Picture, TensorSpec
from edgekit.errors import DataError, UsageError

_TO_LAST = (0, 2, 3, 1)
_KEEP = (0, 1, 2, 3)
_RANK = 4


def read_labels(path: Path) -> tuple[str, ...]:
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


def check(
    interface: Interface, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]
) -> None:
    """The model has what the interface speaks of.

    Raises:
        UsageError: an input that is not there or is no picture, labels that fit no output.
    """
    by_name = {spec.name: spec for spec in inputs}
    for name, picture in interface.pictures.items():
        if name not in by_name:
            raise UsageError(f"no input is named {name!r}", f"it has: {', '.join(by_name)}")
        to_pixels(by_name[name], picture)
    if not interface.labels:
        return
    shape, count = outputs[0].shape, len(interface.labels)
    if shape != (1, count) or outputs[0].dtype not in ("float32", "float16", "float64"):
        raise UsageError(
            f"{count} labels need a first output of scores of shape [1, {count}], got "
            f"{outputs[0].dtype} {list(shape)}",
            "give a label for every class, one on a line, in the order of the scores",
        )


def to_pixels(spec: TensorSpec, picture: Picture) -> tuple[int, ...]:
    """The permutation that brings a source's input to batch, row, column, channel.

    Raises:
        UsageError: the input is no picture of such colours.
    """
    if fault := odd(picture):
        raise UsageError(f"the {fault[0]} of {spec.name!r}: {fault[1]}")
    channels = picture.channels
    if len(spec.shape) == _RANK and spec.shape[0] == 1 and spec.dtype.startswith("float"):
        if spec.shape[1] == channels:
            return _TO_LAST
        if spec.shape[3] == channels:
            return _KEEP
    raise UsageError(
        f"{spec.name!r} is {spec.dtype} {list(spec.shape)}, a picture of {picture.colours} needs "
        f"real numbers of shape [1, {channels}, height, width] or [1, height, width, {channels}]"
    )


def odd(picture: Picture) -> tuple[str, str] | None:
    """Which key of a picture makes no sense whatever the input is, and why; ``None``: none."""
    for key, numbers in (("scale", picture.scale), ("bias", picture.bias)):
        if len(numbers) not in (1, picture.channels) or not all(map(math.isfinite, numbers)):
            return key, (
                f"expected one number, or one for each of the {picture.channels} channels of "
                f"{picture.colours}, got {list(numbers)}"
            )
    return None if all(picture.scale) else ("scale", "a scale of 0 leaves nothing of the pixels")
