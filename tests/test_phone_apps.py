"""``examples/android_app`` and ``ios_app``: made by their READMEs, and all of a piece."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml

from tests import kotlin
from tests.cli.conftest import Edgekit, edgekit
from tests.paths import DIGITS, ROOT
from tests.runtime_stubs import test_swift

__all__ = ["edgekit"]
pytestmark = pytest.mark.xdist_group("phone-apps")


def made(edgekit: Edgekit, folder: Path, name: str) -> Path:
    """An example's folder, after the commands of its README."""
    shutil.copytree(DIGITS, folder / "digits")
    app = Path(shutil.copytree(ROOT / "examples" / name, folder / name))
    lines = (app / "README.md").read_text().splitlines()
    commands = [line.split() for line in lines if line.startswith("edgekit ")]
    assert [words[1] for words in commands] == ["build", "export"]
    for words in commands:
        ran = edgekit(*words[1:], cwd=app)
        assert ran.code == 0, ran.stdout + ran.stderr
    return app


@pytest.fixture(scope="module")
def android(edgekit: Edgekit, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(edgekit, tmp_path_factory.mktemp("android"), "android_app")


@pytest.fixture(scope="module")
def ios(edgekit: Edgekit, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("coremltools", reason="the extra coreml is not installed")
    return made(edgekit, tmp_path_factory.mktemp("ios"), "ios_app")


def ignored(app: Path) -> set[str]:
    return {line.strip("/") for line in (app / ".gitignore").read_text().splitlines()}


def test_every_file_is_kotlin(android: Path) -> None:
    files = [*android.rglob("*.kt"), *android.rglob("*.kts")]
    assert len(files) > 15
    for path in files:
        assert kotlin.faults(path.read_bytes()) == [], path.name


def test_gradle_finds_every_module(android: Path) -> None:
    settings = (android / "settings.gradle.kts").read_text()
    included = re.findall(r'":(\w+)"', settings)
    assert included == ["app", "digits"]
    for module in included:
        assert (android / module / "build.gradle.kts").is_file()
    assert {"digits", "bundles", "edgekit.lock"} <= ignored(android)


def test_the_app_calls_what_there_is(android: Path) -> None:
    library = "".join(path.read_text() for path in (android / "digits").rglob("*.kt"))
    app = "".join(path.read_text() for path in (android / "app").rglob("*.kt"))
    for name in re.findall(r"^import dev\.edgekit\.digits\.(\w+)$", app, re.M):
        assert re.search(rf"^(?:\w+ )*class {name}\b", library, re.M), name
    for name in re.findall(r"\bDigitsModel\.(\w+)\(", app):
        assert re.search(rf"(?:fun|class) {name}\(", library), name


def test_the_gate_is_a_task_of_the_build(edgekit: Edgekit, android: Path) -> None:
    """What Gradle would run, with what the properties say."""
    build = (android / "digits" / "build.gradle.kts").read_text()
    assert 'tasks.named("preBuild") {\n    dependsOn(edgekitCheck)\n}' in build
    assert '"check", "--project", rootDir.resolve(project).path' in build
    told = dict(
        line.split("=", 1)
        for line in (android / "gradle.properties").read_text().splitlines()
        if not line.startswith("#")
    )
    project = android / told["edgekit.project"]
    assert edgekit("check", "--project", project).code == 0
    red = android / "red.toml"
    red.write_text(project.read_text().replace("max_size_mb = 0.02", "max_size_mb = 0.01"))
    ran = edgekit("check", "--project", red)
    assert ran.code == 1
    assert "over the budget of 0.01 MB" in ran.stdout


def test_every_file_is_swift(ios: Path) -> None:
    files = [*(ios / "Sources").rglob("*.swift"), *(ios / "digits").rglob("*.swift")]
    assert len(files) > 10
    for path in files:
        assert test_swift.faults(path.read_bytes()) == [], path.name


def test_xcode_finds_the_package_and_the_gate(edgekit: Edgekit, ios: Path) -> None:
    project = yaml.safe_load((ios / "project.yml").read_text())
    ((name, package),) = project["packages"].items()
    manifest = (ios / package["path"] / "Package.swift").read_text()
    assert f'.library(name: "{name}", targets: ["{name}"])' in manifest
    target = project["targets"]["DigitsApp"]
    assert target["dependencies"] == [{"package": name}]
    assert f"import {name}" in (ios / "Sources" / "Reader.swift").read_text()
    oldest = re.search(r'\.iOS\("([\d.]+)"\)', manifest)
    assert oldest is not None
    assert float(project["options"]["deploymentTarget"]["iOS"]) >= float(oldest[1])
    script = target["preBuildScripts"][0]["script"]
    assert script.startswith('sh "${SRCROOT}/')
    assert (ios / script.removeprefix('sh "${SRCROOT}/').rstrip('"')).is_file()
    assert edgekit("check", cwd=ios).code == 0
    assert {"digits", "bundles", "edgekit.lock", "DigitsApp.xcodeproj"} <= ignored(ios)


def test_the_model_names_its_classes(ios: Path, android: Path) -> None:
    labels = (ios / "labels.txt").read_text().split()
    for path in (*ios.rglob("DigitsModel.swift"), *android.rglob("DigitsModel.kt")):
        found = re.findall(r'^ +"(\w+)",$', path.read_text(), re.M)
        assert found == labels
    record = json.loads((android / "digits" / "edgekit-export.json").read_text())
    assert not [name for name in record["files"] if "mlpackage" in name or "swift" in name]
