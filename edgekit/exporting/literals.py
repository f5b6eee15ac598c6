"""Values and names as C and C++ write them; a comment is one in Kotlin and Swift, too."""

from __future__ import annotations

import string

_PLAIN = frozenset(string.printable) - frozenset(string.whitespace + '"\\?') | {" "}


def float_literal(value: float) -> str:
    """A literal that is the same float: nine digits tell every float32 apart."""
    text = f"{value:.9g}"
    return f"{text}f" if any(mark in text for mark in ".e") else f"{text}.0f"


def float_literals(values: tuple[float, ...]) -> str:
    """Several, with commas between them."""
    return ", ".join(map(float_literal, values))


def comment(text: str) -> str:
    """A name inside a comment of one line, which it cannot end."""
    plain = "".join(c if c.isprintable() and c.isascii() else "?" for c in text)
    return plain.replace("*/", "*?").replace("/*", "/?").replace("\\", "?")


def string_literal(text: str) -> str:
    """UTF-8; three octal digits, so that no digit after them counts."""
    told = (chr(b) if chr(b) in _PLAIN else f"\\{b:03o}" for b in text.encode())
    return f'"{"".join(told)}"'
