"""``edgekit.toml``: what it says is read, and what is wrong with it is said, with its line."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from edgekit import project
from edgekit.cli.arguments import PRECISIONS
from edgekit.domain import Format
from edgekit.errors import ProjectError
from edgekit.project import Budget, Pair, load_project
from tests import projects
from tests.paths import ROOT

WHOLE = """\
[models.digits]
source = "digits.onnx"
calibration = "calibration.npz"
metric = "top1"
shapes.image = [1, 1, 8, 8]
[models.digits.pictures.image]
colours = "gray"
[targets.pixel-8]
formats = ["litert"]
precisions = ["float16"]
[targets.ours]
device = "board"
[[budgets]]
max_size_mb = 1
max_latency_ms = 5.0
[[budgets]]
target = "ours"
max_size_mb = 2.5
[regressions]
size = 0.1
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project's folder with a device profile of its own."""
    profiles = tmp_path / "device_profiles"
    profiles.mkdir()
    shipped = (ROOT / "device_profiles" / "raspberry-pi-5.toml").read_text(encoding="utf-8")
    (profiles / "board.toml").write_text(shipped.replace("raspberry-pi-5", "board"))
    return tmp_path


def test_what_it_says(folder: Path) -> None:
    found = load_project(projects.write(folder, WHOLE))
    digits, pixel, ours = Pair("digits", "pixel-8"), "pixel-8", "ours"
    assert found.pairs == (digits, Pair("digits", ours))
    assert digits.name == "digits-pixel-8"
    assert found.declared.models["digits"].shapes == {"image": (1, 1, 8, 8)}
    assert found.declared.targets[pixel].formats == (Format.LITERT,)
    assert found.devices[ours].name == "board"
    assert found.declared.regressions.size == 0.1


def test_of_budgets_that_name_the_same_the_last_counts(folder: Path) -> None:
    found = load_project(projects.write(folder, WHOLE))
    assert found.budget(Pair("digits", "pixel-8")) == Budget(max_size_mb=1, max_latency_ms=5)
    assert found.budget(Pair("digits", "ours")) == Budget(max_size_mb=2.5, max_latency_ms=5)


def test_it_is_found_in_a_folder_above(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = projects.write(folder, WHOLE)
    (folder / "deep" / "down").mkdir(parents=True)
    monkeypatch.chdir(folder / "deep" / "down")
    assert load_project().path == path


def test_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(project, "FILE", "no-such.toml")
    with pytest.raises(ProjectError, match=r"there is no no-such\.toml"):
        load_project()


@pytest.mark.parametrize(
    ("old", "new", "line", "says", "hint"),
    [
        ('source = "digits.onnx"', "source = 3", 2, "models.digits.source: expected `str`", ""),
        ('source = "digits.onnx"\n', "", 1, "[models.digits] lacks the key 'source'", ""),
        ("calibration =", "calibraton =", 3, "unknown key 'calibraton'", "mean calibration?"),
        ('"digits.onnx"', '"/digits.onnx"', 2, "expected a path relative to edgekit.toml", "lock"),
        ('"top1"', '"top2"', 4, "models.digits.metric: invalid enum value 'top2'", "cosine"),
        ("[1, 1, 8, 8]", "[1, 0]", 5, "shapes.image[1]: expected `int` >= 1", ""),
        ("[1, 1, 8, 8]", '"1,1"', 5, "shapes.image: expected `array`, got `str`", ""),
        ('"gray"', '"grey"', 7, "invalid enum value 'grey'", "gray"),
        ('"gray"', '"gray"\nscale = [1, 2]', 8, "image.scale: expected one number, or one", ""),
        ('"gray"', '"gray"\nscale = 1', 8, "image.scale: expected `array`, got `int`", ""),
        ('"gray"', '"rgb"\nscale = [0, 1, 1]', 8, "image.scale: a scale of 0 leaves", ""),
        ('"gray"', '"gray"\nbias = [inf]', 8, "expected a finite number", ""),
        ('"litert"', '"tflite"', 9, "formats[0]: invalid enum value 'tflite'", "litert"),
        ('"float16"', '"float17"', 10, "precisions[0]: invalid enum value", "float16"),
        ("[targets.pixel-8]", "[targets.pixel-88]", 8, "no device profile is named", "pixel-8"),
        ('"board"', '"bord"', 12, "targets.ours.device: no device profile", "board"),
        ("max_size_mb = 1", "max_size = 1", 14, "unknown key 'max_size'", "write max_size_mb"),
        ("max_size_mb = 1", "max_size_mb = -1", 14, "budgets[0].max_size_mb: expected", ""),
        ("max_size_mb = 1", "max_size_mb = nan", 14, "expected a finite number, got nan", ""),
        ('target = "ours"', 'target = "theirs"', 17, "no target is named 'theirs'", "pixel-8"),
        ('target = "ours"', 'model = "theirs"', 17, "no model is named 'theirs'", "digits"),
        ("size = 0.1", "sice = 0.1", 20, "unknown key 'sice' in [regressions]", "size"),
        (
            'formats = ["litert"]',
            'on = "kitchen"',
            9,
            "on: expected a target, got 'kitchen'",
            "fleet",
        ),
        ('formats = ["litert"]', 'on = ""', 9, "on: expected a target, got ''", ""),
        ("[models.digits]", 'fleet = "/f"\n[models.digits]', 1, "fleet: expected a path", ""),
        ("[models.digits]", '[models."../digits"]', 1, "a name is '../digits'", "letters"),
        ("[regressions]", "[regresions]", 19, "unknown key 'regresions'", "regressions"),
    ],
)
def test_an_error_names_file_and_line(
    folder: Path, old: str, new: str, line: int, says: str, hint: str
) -> None:
    assert old in WHOLE
    text = WHOLE.replace(old, new)
    if "../digits" in new:
        text = text.replace("[models.digits.pictures.image]", '[models."../digits".pictures.image]')
    path = projects.write(folder, text)
    with pytest.raises(ProjectError) as caught:
        load_project(path)
    assert caught.value.message.startswith(f"{path}:{line}: ")
    assert says in caught.value.message
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[models.digits\n", "is not valid TOML"),
        ("models = 3\n", "expected `object`, got `int`"),
        ("", "lacks the key 'models'"),
        ("[models]\n[targets]\n", "expected `object` of length >= 1"),
        ('[models.a]\nsource = "a"\n[models.a]\n', "is not valid TOML"),
    ],
)
def test_it_is_no_project(tmp_path: Path, text: str, says: str) -> None:
    path = projects.write(tmp_path, text)
    with pytest.raises(ProjectError) as caught:
        load_project(path)
    assert str(path) in caught.value.message
    assert says in caught.value.message


def test_it_is_not_text(tmp_path: Path) -> None:
    (tmp_path / "edgekit.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ProjectError, match="is not valid TOML"):
        load_project(tmp_path / "edgekit.toml")
    with pytest.raises(ProjectError, match="cannot read"):
        load_project(tmp_path / "absent.toml")


def test_two_bundles_of_one_name(folder: Path) -> None:
    text = """
[models.a]
source = "a.onnx"
[models.a-b]
source = "b.onnx"
[targets.c]
device = "board"
[targets.b-c]
device = "board"
"""
    with pytest.raises(
        ProjectError, match=r":4: a-b for c and a for b-c would both be named a-b-c"
    ):
        load_project(projects.write(folder, text))


def test_the_schema_that_ships_is_that_of_the_types() -> None:
    assert project.SCHEMA.read_bytes() == project.schema()


def test_the_schema_says_no_to_what_is_not_known() -> None:
    found = msgspec.json.decode(project.SCHEMA.read_bytes())
    declaration = found["$defs"]["Declaration"]
    assert declaration["additionalProperties"] is False
    assert set(declaration["required"]) == {"models", "targets"}
    assert set(declaration["properties"]) == {"fleet", *tomllib.loads(WHOLE)}


def test_the_precisions_are_those_of_the_command_line() -> None:
    assert get_args(project.Precision) == PRECISIONS
