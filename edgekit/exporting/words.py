"""Names and texts in Kotlin and Swift."""

from __future__ import annotations

import re


def camel(identifier: str) -> str:
    """``left_eye_2`` as ``leftEye_2``: what differs stays different."""
    return re.sub(r"_([a-z])", lambda found: found[1].upper(), identifier)


def pascal(identifier: str) -> str:
    """``left_eye`` as ``LeftEye``."""
    made = camel(identifier)
    return made[0].upper() + made[1:]


def quoted(text: str, special: str, escape: str) -> str:
    """A string literal.

    Args:
        text: any text.
        special: what a backslash goes before, beside itself and the quotation mark.
        escape: the form of a UTF-16 code unit, for what cannot be seen.
    """
    told = []
    for character in text:
        if character in ('"', "\\", *special):
            told.append(f"\\{character}")
        elif character.isprintable():
            told.append(character)
        else:
            told += [escape.format(unit) for unit in _units(character)]
    return f'"{"".join(told)}"'


def _units(character: str) -> list[int]:
    encoded = character.encode("utf-16-be", "surrogatepass")
    return [int.from_bytes(encoded[i : i + 2]) for i in range(0, len(encoded), 2)]
