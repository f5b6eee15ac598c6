"""Measuring a project's bundles: on one device one after the other."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from edgekit import project_bench
from edgekit.fleet import Member
from edgekit.project_bench import Place


def test_one_device_measures_one_bundle_at_a_time() -> None:
    places = [
        Place(Path(target), Member(target, target)) for target in ("local", "local:/w", "ssh://a")
    ]
    busy: set[Path] = set()

    def work(bundle: Path, target: str, _: object) -> Any:
        busy.add(bundle)
        time.sleep(0.05)
        assert busy <= {bundle, Path("ssh://a")} or target == "ssh://a"
        busy.remove(bundle)

    rows = project_bench.each(places, work, len(places), lambda *_: None)
    assert not [row.error for row in rows if row.error]
