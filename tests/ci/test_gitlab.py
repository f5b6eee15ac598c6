"""The example's job for GitLab, its script run in a shell as GitLab's runner starts it."""

from __future__ import annotations

import shutil
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.ci.conftest import RED, commit, git, smaller_before
from tests.ci.runner import gitlab

pytestmark = pytest.mark.xdist_group("ci")


@pytest.fixture
def origin(built: Path, tmp_path: Path) -> Path:
    """The project is at the top."""
    folder = tmp_path / "origin"
    shutil.copytree(built, folder)
    git(folder, "init", "-q", "-b", "main")
    commit(folder)
    return folder


def test_what_is_well_passes(checkout: Path, path: Path) -> None:
    ran = gitlab(checkout, path)
    assert ran.code == 0, ran.said
    assert "no check failed" in ran.said
    assert ran.files["edgekit.md"].startswith("### edgekit.toml: passed\n")
    assert ElementTree.fromstring(ran.files["edgekit-junit.xml"]).attrib["failures"] == "0"


def test_a_red_gate_fails_the_job(checkout: Path, path: Path) -> None:
    project = checkout / "edgekit.toml"
    project.write_text(project.read_text() + RED)
    ran = gitlab(checkout, path)
    assert ran.code == 1
    assert "FAILED: digits for here: size" in ran.said
    assert ElementTree.fromstring(ran.files["edgekit-junit.xml"]).attrib["failures"] == "1"
    assert ran.files["edgekit.md"].startswith("### edgekit.toml: failed\n")


def test_a_merge_request_is_held_against_its_target(
    origin: Path, checkout: Path, path: Path
) -> None:
    smaller_before(origin, 0.9)
    commit(origin)
    ran = gitlab(checkout, path, "main")
    assert ran.code == 1
    assert "+11.1% against the baseline's" in ran.said


def test_the_first_merge_request_has_no_baseline(origin: Path, checkout: Path, path: Path) -> None:
    (origin / "edgekit.lock").unlink()
    commit(origin)
    ran = gitlab(checkout, path, "main")
    assert ran.code == 0, ran.said


def test_what_cannot_be_checked_fails(checkout: Path, path: Path) -> None:
    (checkout / "edgekit.lock").unlink()
    ran = gitlab(checkout, path)
    assert ran.code == 2
    assert "no such lock" in ran.said
