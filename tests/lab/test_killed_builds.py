"""Twenty builds are killed at random moments; the next one succeeds and equals the clean one."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests import killing


@pytest.mark.lab
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_twenty_builds_are_killed(tmp_path: Path) -> None:
    clean = killing.project(tmp_path / "clean")
    killing.built(clean)
    statuses = killing.check(tmp_path, clean, times=20, seed=20)
    assert sum(status != 0 for status in statuses) >= 10  # most were still at work
