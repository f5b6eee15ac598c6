"""Measuring a project's bundles: on one device one after the other, whatever it is called."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from edgekit import project_bench
from edgekit.fleet import Member
from edgekit.project_bench import Place


def measured(targets: list[str], work: Any) -> None:
    places = [Place(Path(str(i)), Member(str(i), target)) for i, target in enumerate(targets)]
    rows = project_bench.each(places, work, len(places), lambda *_: None)
    assert not [row.error for row in rows if row.error]


@pytest.mark.parametrize(
    "targets",
    [
        ["local", "local:/tmp/w"],
        ["ssh://pi@a", "openssh://pi@a", "ssh://root@a:22/~/w"],
        ["adb://8A1X", "adb://8A1X/data/local/tmp/w"],
    ],
)
def test_one_device_measures_one_bundle_at_a_time(targets: list[str]) -> None:
    busy: set[Path] = set()

    def work(bundle: Path, *_: object) -> None:
        busy.add(bundle)
        time.sleep(0.05)
        assert busy == {bundle}
        busy.remove(bundle)

    measured(targets, work)


def test_others_are_measured_side_by_side() -> None:
    everyone = threading.Barrier(4)
    targets = ["local", "ssh://pi@a", "ssh://pi@a:2222", "ssh://pi@b"]
    measured(targets, lambda *_: everyone.wait(20))
