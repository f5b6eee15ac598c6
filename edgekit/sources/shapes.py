"""Fixed shapes: a batch of one, and for every other dynamic axis the length the user gives."""

from __future__ import annotations

from edgekit.errors import ModelError


def fixed(name: str, declared: list[int | None], given: tuple[int, ...] | None) -> tuple[int, ...]:
    """The shape an input gets.

    Args:
        name: the input's, for messages.
        declared: what the model says; ``None``: any length.
        given: the user's ``--shape``; ``None``: not given.

    Raises:
        ModelError: a dynamic axis beyond the batch without a length, or one that does not fit.
    """
    shown = [size or "?" for size in declared]
    if given is not None:
        fits = len(given) == len(declared) and all(
            d in (None, g) for d, g in zip(declared, given, strict=False)
        )
        if not fits or any(size < 1 for size in given):
            raise ModelError(f"--shape {name}={list(given)} does not fit the input's {shown}")
        return given
    fixed = [1 if axis == 0 and size is None else size for axis, size in enumerate(declared)]
    if None in fixed:
        example = ",".join(str(size or "N") for size in fixed)
        raise ModelError(
            f"input {name!r} has dynamic axes beyond the batch: {shown}",
            f"fix them with --shape {name}={example}",
        )
    return tuple(size for size in fixed if size is not None)
