"""Names that stay different, and literals that say what they should."""

from __future__ import annotations

import json
from itertools import product

from edgekit.exporting.words import camel, pascal, quoted


def test_names() -> None:
    assert camel("left_eye_2") == "leftEye_2"
    assert pascal("left_eye") == "LeftEye"
    assert pascal("class_") == "Class_"


def test_what_differs_stays_different() -> None:
    words = ("".join(word) for n in range(1, 6) for word in product("ab1_", repeat=n))
    names = [word for word in words if word[0] in "ab" and "__" not in word]
    assert len({camel(name) for name in names}) == len(names)


def test_literals() -> None:
    """JSON's literals are Kotlin's, but for the dollar."""
    for text in (
        "plain",
        'a "b" \\ c',
        "Öl 日本",
        "tab\tline\nbidi\u202e",
        "\U0001f600",
        "\U000e0001",
    ):
        assert json.loads(quoted(text, "", "\\u{:04x}")) == text
    assert quoted("$a ${b}", "$", "") == '"\\$a \\${b}"'
    assert quoted("a\n", "", "\\u{{{:x}}}") == '"a\\u{a}"'
