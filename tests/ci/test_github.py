"""The composite action, its steps run in a shell as GitHub's runner starts it."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

from tests.ci.conftest import RED, commit, smaller_before
from tests.ci.runner import GitHub
from tests.paths import ROOT

pytestmark = pytest.mark.xdist_group("ci")
PROJECT = {"project": "app/edgekit.toml", "install": "none"}


@pytest.fixture
def github(tmp_path: Path, path: Path) -> GitHub:
    return GitHub(tmp_path / "runner", path)


def test_what_is_well_passes(github: GitHub, checkout: Path) -> None:
    ran = github.run(checkout, **PROJECT)
    assert ran.code == 0, ran.said
    assert "::error" not in ran.said
    assert ran.files["output"] == "verdict=passed\n"
    assert ran.files["summary"].startswith("### edgekit.toml: passed\n")
    junit = ElementTree.fromstring((checkout / "edgekit-junit.xml").read_text())
    assert junit.attrib["failures"] == "0"


def test_a_red_gate_fails_the_job(github: GitHub, checkout: Path) -> None:
    project = checkout / "app" / "edgekit.toml"
    project.write_text(project.read_text() + RED)
    ran = github.run(checkout, **PROJECT, junit="here.xml")
    assert ran.code == 1
    (line,) = [line for line in ran.said.splitlines() if line.startswith("::error")]
    assert line.startswith("::error file=app/edgekit.toml,title=edgekit%3A size of digits for here")
    assert "over the budget of 0.01 MB" in line
    assert ran.files["output"] == "verdict=failed\n"
    assert ran.files["summary"].startswith("### edgekit.toml: failed\n")
    junit = ElementTree.fromstring((checkout / "here.xml").read_text())
    assert junit.attrib["failures"] == "1"


def test_a_pull_request_is_held_against_its_base(
    github: GitHub, origin: Path, checkout: Path
) -> None:
    """The base has moved on since the clone: its model is a tenth smaller."""
    smaller_before(origin / "app", 0.9)
    commit(origin)
    ran = github.run(checkout, "main", **PROJECT)
    assert ran.code == 1
    assert ran.said.count("::error") == 1
    assert "against the baseline's" in ran.said
    assert "+11.1%25" in ran.said
    assert github.run(checkout, **PROJECT).code == 0


def test_the_first_pull_request_has_no_baseline(
    github: GitHub, origin: Path, checkout: Path
) -> None:
    (origin / "app" / "edgekit.lock").unlink()
    commit(origin)
    ran = github.run(checkout, "main", **PROJECT)
    assert ran.code == 0, ran.said
    assert "::notice::main has no edgekit.lock to compare with" in ran.said


def test_what_is_open_fails_where_that_is_asked_for(github: GitHub, checkout: Path) -> None:
    project = checkout / "app" / "edgekit.toml"
    project.write_text(project.read_text() + "[[budgets]]\nmax_energy_mj = 1\n")
    ran = github.run(checkout, **PROJECT)
    assert (ran.code, ran.said.count("::warning file=")) == (0, 1)
    assert github.run(checkout, **PROJECT, strict="true").code == 1


def test_what_cannot_be_checked_is_no_verdict(github: GitHub, checkout: Path) -> None:
    (checkout / "app" / "edgekit.lock").unlink()
    ran = github.run(checkout, **PROJECT)
    assert ran.code == 2
    assert "no such lock" in ran.said
    assert "::error::edgekit could not check the models" in ran.said
    assert ran.files == {"summary": "", "output": ""}


def test_inputs_are_never_code(github: GitHub, checkout: Path) -> None:
    """A branch may be named so, by whoever opens the pull request."""
    evil = '$(touch evil)`touch evil`"; touch evil; "'
    ran = github.run(checkout, evil, **PROJECT)
    assert ran.code != 0
    assert github.run(checkout, **{**PROJECT, "project": evil}).code != 0
    assert not list(checkout.rglob("evil"))
    action = yaml.safe_load((ROOT / "action.yml").read_text())
    assert not any("${{" in step["run"] for step in action["runs"]["steps"])


def test_a_folder_may_have_a_space(github: GitHub, checkout: Path) -> None:
    (checkout / "app").rename(checkout / "my app")
    ran = github.run(checkout, **{**PROJECT, "project": "my app/edgekit.toml", "junit": "my.xml"})
    assert ran.code == 0, ran.said
    assert (checkout / "my.xml").is_file()


def test_by_default_the_action_brings_its_own_edgekit(
    github: GitHub, checkout: Path, path: Path
) -> None:
    python = path / "python3"
    python.write_text('#!/bin/sh\necho "python3 $*"\n')
    python.chmod(0o755)
    ran = github.run(checkout, project="app/edgekit.toml")
    assert ran.said.startswith(f"python3 -m pip install --quiet {ROOT}\n")


def test_the_workflow_of_the_example() -> None:
    text = (ROOT / "examples" / "ci" / "github-workflow.yml").read_text()
    steps = yaml.safe_load(text)["jobs"]["check"]["steps"]
    (own,) = [step for step in steps if "/edgekit@" in step["uses"]]
    action = yaml.safe_load((ROOT / "action.yml").read_text())
    assert own.get("with", {}).keys() <= action["inputs"].keys()
    assert steps[-1]["with"]["path"] == action["inputs"]["junit"]["default"]
