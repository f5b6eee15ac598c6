"""``--shape NAME=1,3,224,224``: the dynamic axes of inputs, fixed."""

from __future__ import annotations

from edgekit.errors import UsageError


def shapes(given: list[str]) -> dict[str, tuple[int, ...]]:
    """The shapes, by input.

    Raises:
        UsageError: one that is not understood.
    """
    found = {}
    for text in given:
        name, _, sizes = text.rpartition("=")
        try:
            found[name] = tuple(int(size) for size in sizes.split(","))
        except ValueError:
            found[name] = ()
        if not name or not found[name]:
            raise UsageError(f"--shape {text!r} is not a shape", "write --shape NAME=1,3,224,224")
    return found
