"""``edgekit export``: what is written and said, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Edgekit

pytestmark = pytest.mark.xdist_group("digits-bundle")


def test_export_says_what_it_wrote(edgekit: Edgekit, digits_bundle: Path, tmp_path: Path) -> None:
    ran = edgekit("export", digits_bundle, "--c", tmp_path / "c", "--json")
    assert ran.code == 0, ran.stderr
    assert (ran.json["platform"], ran.json["name"]) == ("c", "digits")
    written = {path.name for path in (tmp_path / "c").iterdir()}
    assert written == {*ran.json["files"], "edgekit-export.json"}
    shown = edgekit("export", digits_bundle, "--c", tmp_path / "c", "--name", "reader")
    assert shown.code == 0, shown.stderr
    assert "reader.h" in shown.stdout


def test_export_refuses(edgekit: Edgekit, digits_bundle: Path, tmp_path: Path) -> None:
    none = edgekit("export", digits_bundle, "--json")
    assert (none.code, none.error["kind"]) == (2, "usage")
    (tmp_path / "mine").write_text("")
    over = edgekit("export", digits_bundle, "--c", tmp_path / "mine", "--json")
    assert (over.code, over.error["kind"]) == (2, "bundle")
