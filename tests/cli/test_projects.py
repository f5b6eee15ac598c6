"""The commands about a whole project, as a build runs them: their output and their exit codes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from xml.etree import ElementTree

import pytest

from edgekit import starter
from edgekit.project import SCHEMA, load_project
from tests import projects
from tests.cli.conftest import Edgekit
from tests.cli.test_startup import HEAVY, loaded
from tests.paths import DIGITS_MODEL


@pytest.fixture(scope="module")
def built(edgekit: Edgekit, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that was built and measured."""
    folder = tmp_path_factory.mktemp("project")
    projects.make(folder, "digits")
    ran = edgekit("build", cwd=folder)
    assert ran.code == 0, ran.stderr
    assert "digits   here     " in ran.stdout
    quick = ("--runs", 20, "--seconds", 0.02, "--processes", 5)
    on = ("--on", f"local:{folder / 'device'}")
    (folder / "results").mkdir()
    bundle, result = folder / "build" / "digits-here.edgekit", folder / "results" / "here.json"
    measured = edgekit("bench", bundle, *on, *quick, "-o", result)
    assert measured.code == 0, measured.stderr
    # Whoever else is at work here now is no concern of these tests.
    result.write_text(json.dumps(json.loads(result.read_text()) | {"valid": True}))
    return folder


@pytest.fixture
def project(built: Path, tmp_path: Path) -> Path:
    """A copy of one's own."""
    return Path(shutil.copytree(built, tmp_path / "project"))


def append(project: Path, text: str) -> None:
    path = project / "edgekit.toml"
    path.write_text(path.read_text() + text)


@pytest.mark.xdist_group("project-commands")
class TestProject:
    def test_a_build_says_what_it_did(self, edgekit: Edgekit, project: Path) -> None:
        ran = edgekit("build", "--json", cwd=project)
        assert (ran.code, ran.stderr) == (0, "")
        (bundle,) = ran.json["bundles"]
        assert bundle["state"] == "unchanged"
        assert bundle["model"] == "digits"
        assert ran.json["failures"] == []
        elsewhere = edgekit("build", "--project", project / "edgekit.toml", "--locked", "--json")
        assert elsewhere.json["bundles"] == ran.json["bundles"]

    def test_a_failure_is_said_and_counts(self, edgekit: Edgekit, project: Path) -> None:
        (project / "digits.onnx").write_bytes(b"no model")
        ran = edgekit("build", cwd=project)
        assert ran.code == 2
        assert "digits for here failed: " in ran.stdout
        told = edgekit("build", "--json", cwd=project)
        assert (told.code, told.json["bundles"]) == (2, [])
        assert told.json["failures"][0]["error"]["kind"] == "model"

    def test_locked(self, edgekit: Edgekit, project: Path) -> None:
        (project / "evaluation.npz").write_bytes(b"other")
        ran = edgekit("build", "--locked", "--json", cwd=project)
        assert (ran.code, ran.error["kind"]) == (1, "lock")
        assert ran.error["message"] == "models.digits.evaluation: evaluation.npz changed"

    def test_rebuilding(self, edgekit: Edgekit, project: Path) -> None:
        ran = edgekit("verify", "--rebuild", cwd=project)
        assert (ran.code, ran.stdout) == (0, "digits for here: the same, byte for byte\n")
        row = json.loads((project / "edgekit.lock").read_text())["bundles"]["digits-here"]
        text = (project / "edgekit.lock").read_text().replace(row["artifact"], "0" * 64)
        (project / "edgekit.lock").write_text(text)
        ran = edgekit("verify", "--rebuild", "--json", cwd=project)
        assert (ran.code, ran.json["identical"]) == (1, False)
        assert ran.json["bundles"][0]["differences"] == ["bundles.digits-here.artifact: changed"]

    def test_a_check_of_what_is_fine(self, edgekit: Edgekit, project: Path) -> None:
        """Measured again, against itself as the baseline."""
        append(project, "[[budgets]]\nmax_size_mb = 1\nmax_latency_ms = 10000\naccuracy = 0.9\n")
        ran = edgekit("check", "--baseline", "edgekit.lock", cwd=project)
        assert ran.code == 0, ran.stdout
        assert ran.stdout.splitlines()[-1].startswith("no check failed")
        told = edgekit("check", "--json", cwd=project).json
        assert told["verdict"] == "passed"
        assert {one["what"] for one in told["findings"]} == {"size", "latency", "accuracy"}
        assert told["rows"][0]["now"]["measured"]["latency_ms"]["mid"] > 0

    def test_a_check_that_fails_says_why_in_one_line(self, edgekit: Edgekit, project: Path) -> None:
        append(project, "[[budgets]]\nmax_size_mb = 0.01\n")
        ran = edgekit("check", cwd=project)
        assert ran.code == 1
        (line,) = [line for line in ran.stdout.splitlines() if line.startswith("FAILED")]
        assert line.startswith("FAILED: digits for here: size 0.0")
        assert line.endswith("% over the budget of 0.01 MB")
        assert edgekit("check", "--json", cwd=project).json["verdict"] == "failed"

    def test_every_format(self, edgekit: Edgekit, project: Path) -> None:
        append(project, "[[budgets]]\nmax_size_mb = 0.01\nmax_energy_mj = 1\n")
        junit = edgekit("check", "--format", "junit", cwd=project)
        assert junit.code == 1
        assert ElementTree.fromstring(junit.stdout).attrib["failures"] == "1"
        annotated = edgekit("check", "--format", "github", "--strict", cwd=project).stdout
        assert annotated.count("::error file=edgekit.toml,title=") == 2
        assert "%25 over the budget" in annotated
        assert edgekit("check", "--format", "markdown", cwd=project).stdout.startswith("### ")

    def test_a_build_without_change_loads_nothing_heavy(self, project: Path) -> None:
        words = ["build", "--project", str(project / "edgekit.toml")]
        code = f"from edgekit.cli import main; main({words!r})"
        assert not loaded(code) & (HEAVY - {"msgspec", "rich"})


@pytest.mark.xdist_group("project-commands")
class TestBench:
    QUICK = ("--runs", 20, "--seconds", 0.02, "--processes", 5)

    def place(self, project: Path, on: str) -> None:
        path = project / "edgekit.toml"
        text = path.read_text().replace("[targets.here]", f'[targets.here]\non = "{on}"')
        path.write_text(f'fleet = "fleet.toml"\n{text}')
        (project / "fleet.toml").write_text(
            f'[devices.desk]\ntarget = "local:{project / "device"}"\ntags = ["two"]\n'
            '[devices.hall]\ntarget = "local"\ntags = ["two"]\n'
        )

    def test_every_bundle_is_measured_where_its_target_says(
        self, edgekit: Edgekit, project: Path
    ) -> None:
        """And where it is measured makes no other bundle of it."""
        self.place(project, "desk")
        assert edgekit("build", "--locked", "--json", cwd=project).json["failures"] == []
        shutil.rmtree(project / "results")
        ran = edgekit("bench", *self.QUICK, cwd=project)
        assert ran.code == 0, ran.stderr
        assert "digits-here" in ran.stdout
        told = json.loads((project / "results" / "digits-here.json").read_text())
        lock = json.loads((project / "edgekit.lock").read_text())
        assert told["bundle_sha256"] == lock["bundles"]["digits-here"]["bundle"]
        assert (project / "device").is_dir()
        append(project, "[[budgets]]\nmax_latency_ms = 10000\n")
        checked = edgekit("check", "--json", cwd=project).json
        assert {one["what"] for one in checked["findings"]} == {"latency"}

    @pytest.mark.parametrize(
        ("on", "says"),
        [
            ("cellar", "edgekit.toml:8: targets.here.on: no device, tag or group"),
            ("two", "edgekit.toml:8: targets.here.on: 'two' is 2 devices"),
        ],
    )
    def test_a_place_that_is_none(
        self, edgekit: Edgekit, project: Path, on: str, says: str
    ) -> None:
        self.place(project, on)
        ran = edgekit("bench", "--json", cwd=project)
        assert (ran.code, ran.error["kind"]) == (2, "project")
        assert says in ran.error["message"]

    def test_nobody_says_where(self, edgekit: Edgekit, project: Path) -> None:
        ran = edgekit("bench", "--json", cwd=project)
        assert (ran.code, ran.error["kind"]) == (2, "project")
        assert "no target of edgekit.toml says where it is measured" in ran.error["message"]

    def test_what_is_not_built_is_not_measured(self, edgekit: Edgekit, project: Path) -> None:
        self.place(project, "desk")
        (project / "build" / "digits-here.edgekit").write_bytes(b"another")
        ran = edgekit("bench", "--json", cwd=project)
        assert (ran.code, ran.error["kind"]) == (1, "lock")
        ran = edgekit("bench", "--only", "letters", "--json", cwd=project)
        assert (ran.code, ran.error["kind"]) == (2, "usage")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("build", "--device", "pixel-8"), "--device is for a model"),
        (("build", "--max-size-mb", "1"), "--max-size-mb is for a model"),
        (("build", "x.onnx"), "the following arguments are required: --device, -o/--output"),
        (("build", "x.onnx", "--device", "pixel-8"), "are required: -o/--output"),
        (("build", "x.onnx", "--locked"), "--locked is for a project, not for one model"),
        (("verify", "x.edgekit", "--rebuild"), "--rebuild is for a project, not for one bundle"),
        (("verify",), "there is no bundle to verify"),
        (("bench", "--on", "local"), "--on is for a bundle"),
        (("bench", "x.edgekit", "--project", "p.toml"), "--project is for a project"),
        (("build", "x.onnx", "--jobs", "2"), "--jobs is for a project, not for one model"),
    ],
)
def test_a_command_is_about_one_thing_or_about_a_project(
    edgekit: Edgekit, tmp_path: Path, words: tuple[str, ...], says: str
) -> None:
    ran = edgekit(*words, "--json", cwd=tmp_path)
    assert (ran.code, ran.error["kind"]) == (2, "usage")
    assert says in ran.error["message"]


def test_there_is_no_project(edgekit: Edgekit, tmp_path: Path) -> None:
    for words in (("build",), ("check",), ("bench", "--provision")):
        ran = edgekit(*words, "--json", cwd=tmp_path)
        assert (ran.code, ran.error["kind"]) == (2, "project")
        assert "edgekit init" in ran.error["hint"]


class TestInit:
    def test_what_it_writes_is_a_project(self, edgekit: Edgekit, tmp_path: Path) -> None:
        (tmp_path / "models").mkdir()
        shutil.copyfile(DIGITS_MODEL, tmp_path / "models" / "my digits.onnx")
        data = ("--calibration", "x.npz", "--evaluate", tmp_path / "xy.npz", "--schema")
        devices = ("--device", "pixel-8", "--device", "raspberry-pi-4")
        words = ("init", "models/my digits.onnx", *devices, *data)
        assert edgekit(*words, cwd=tmp_path).code == 0
        found = load_project(tmp_path / "edgekit.toml").declared
        (model,) = found.models.values()
        assert list(found.models) == ["my-digits"]
        assert model.source == "models/my digits.onnx"
        assert (model.calibration, model.evaluation) == ("x.npz", "xy.npz")
        assert list(found.targets) == ["pixel-8", "raspberry-pi-4"]
        assert (tmp_path / "edgekit.schema.json").read_bytes() == SCHEMA.read_bytes()
        before = (tmp_path / "edgekit.toml").read_text()
        assert before.startswith("#:schema ./edgekit.schema.json\n")
        again = edgekit(*words, "--json", cwd=tmp_path)
        assert (again.code, again.error["message"]) == (2, "edgekit.toml is there already")
        assert (tmp_path / "edgekit.toml").read_text() == before

    def test_what_is_commented_out_is_right(self, edgekit: Edgekit, tmp_path: Path) -> None:
        shutil.copyfile(DIGITS_MODEL, tmp_path / "digits.onnx")
        assert edgekit("init", "digits.onnx", cwd=tmp_path).code == 0
        text = (tmp_path / "edgekit.toml").read_text()
        keys = [
            line for line in text.splitlines() if line.startswith(("[", "# [")) or " = " in line
        ]
        opened = "\n".join(line.removeprefix("# ") for line in keys)
        (tmp_path / "edgekit.toml").write_text(opened)
        found = load_project(tmp_path / "edgekit.toml").declared
        assert found.budgets[0].accuracy == 0.95
        assert found.regressions.size == 0.05
        assert found.models["digits"].labels == "labels.txt"
        assert (found.fleet, found.targets["raspberry-pi-5"].on) == (
            "fleet.toml",
            "ssh://pi@raspberry",
        )
        assert found.models["digits"].pictures["image"].colours == "gray"

    def test_names_steer_nothing(self) -> None:
        assert starter._quoted('a"b\\c\n\x7f\U0001f600') == '"a\\"b\\\\c\\n\\u007f\U0001f600"'
