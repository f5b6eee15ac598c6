"""The wheel: what ships with edgekit is in it, and works from it as from a clone."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from edgekit.toolchain.environments import TENSORFLOW
from tests.paths import DIGITS_MODEL, ROOT


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel's content, as pip would lay it out."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def run(unpacked: Path, *argv: str, cwd: Path) -> str:
    command = [sys.executable, *argv]
    env = {"PYTHONPATH": str(unpacked), "PATH": "/usr/bin:/bin", "HOME": str(cwd)}
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_profiles_and_the_runner_are_inside(unpacked: Path, tmp_path: Path) -> None:
    code = (
        "from edgekit import profiles, resources, __file__ as where\n"
        "print(where, resources.runner(), len(profiles.names()))"
    )
    where, runner, count = run(unpacked, "-c", code, cwd=tmp_path).split()
    assert Path(where).is_relative_to(unpacked)
    assert Path(runner).is_relative_to(unpacked)
    assert (
        Path(runner).read_bytes()
        == (ROOT / "runtime_stubs" / "python" / "edgekit_runner.py").read_bytes()
    )
    assert int(count) == len(list((ROOT / "device_profiles").glob("*.toml")))


def test_it_plans_from_a_wheel(unpacked: Path, tmp_path: Path) -> None:
    words = ("-m", "edgekit", "plan", str(DIGITS_MODEL), "--device", "pixel-8")
    assert "int8-static" in run(unpacked, *words, cwd=tmp_path)


def test_licences_and_typing_marker_ship(unpacked: Path) -> None:
    assert (unpacked / "edgekit" / "py.typed").is_file()
    assert list(unpacked.glob("*.dist-info/licenses/LICENSE"))
    assert (unpacked / "edgekit" / "_data" / "runtime_stubs" / "LICENSE").is_file()


def test_the_extra_is_tested_with_the_versions_of_the_tools_environment() -> None:
    """``edgekit[tensorflow]`` and the environment that edgekit builds are the same."""
    told = [
        {canonicalize_name(name): version for name, _, version in map(_pin, path.open())}
        for path in (ROOT / "constraints.txt", TENSORFLOW.requirements)
    ]
    assert told[1].items() <= told[0].items()


def _pin(line: str) -> tuple[str, str, str]:
    return line.strip().partition("==")
