"""The Kotlin wrapper compiled by Kotlin's own compiler, and run on a JVM."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests import kotlin
from tests.kotlin import STAND_INS, STUBS

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(kotlin.why_not_here() is not None, reason=str(kotlin.why_not_here())),
]


@pytest.fixture(scope="session")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wrapper and the stand-ins, compiled."""
    folder = tmp_path_factory.mktemp("kotlin") / "classes"
    sources = [*STUBS.rglob("*.kt"), *STAND_INS.rglob("*.kt")]
    kotlin.compile_(sources, folder, java=STAND_INS.rglob("*.java"))
    return folder


def test_the_parts_that_need_no_android(classes: Path) -> None:
    source = (STAND_INS / "dev" / "edgekit" / "test" / "Parts.kt").read_text()
    declared = re.findall(r'"(\w+)" to ::', source)
    assert kotlin.run("dev.edgekit.test.PartsKt", classes).split() == declared
    assert len(declared) == 12
