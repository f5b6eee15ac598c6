"""The Kotlin wrapper, as far as a parser can judge; `make lab` compiles and runs it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.kotlin import STUBS, faults

FILES = sorted(STUBS.rglob("*.kt"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_file_is_kotlin(path: Path) -> None:
    assert faults(path.read_bytes()) == []


def test_the_parser_sees_faults() -> None:
    source = (STUBS / "dev" / "edgekit" / "Worker.kt").read_text()
    assert faults(source.replace("fun submit(", "fun submit((", 1).encode())


def test_it_needs_only_its_runtime() -> None:
    """An export has one of the sessions; nothing else knows of a runtime."""
    allowed = {
        "LiteRtSession": {"com.google.ai.edge.litert"},
        "OnnxSession": {"ai.onnxruntime"},
        "Artifact": {"android.content.res"},
    }
    for path in FILES:
        imported = set(re.findall(r"^import ((?:[a-z]+\.)+)", path.read_text(), re.M))
        used = {name.rstrip(".") for name in imported if not name.startswith(("java.", "kotlin."))}
        assert used == allowed.get(path.stem, set()), path.name
