"""A tool's environment is complete or absent, whoever builds it and however that ends."""

import hashlib
import subprocess
import sys
import zipfile
from base64 import urlsafe_b64encode
from pathlib import Path

import pytest
from msgspec import structs

from edgekit import store
from edgekit.errors import ToolError, ToolMissing, UsageError
from edgekit.toolchain import environments
from edgekit.toolchain.environments import ONNX2TF, Installer
from edgekit.toolchain.process import Limits
from tests.toolchain.functions import FakeTool

ROOT = Path(__file__).parents[2]
SAYS = """
import os, random, sys
import faketool
sys.exit(" ".join([str(hash("text")), sys.prefix, *sys.argv[1:]]))
"""


@pytest.fixture(autouse=True)
def _own_folders(tmp_path, monkeypatch):
    """No environment, no cache and no network of the machine's."""
    for name in ("EDGEKIT_INSTALLER", "UV_INDEX", "UV_DEFAULT_INDEX", "UV_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("EDGEKIT_TOOLCHAIN", str(tmp_path / "toolchain"))
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv-cache"))
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("PIP_NO_INDEX", "1")


@pytest.fixture
def wheels(tmp_path):
    """A folder with the smallest wheel there is."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    info = "faketool-1.0.dist-info"
    files = {
        "faketool/__init__.py": b"",
        "faketool/__main__.py": SAYS.encode(),
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: faketool\nVersion: 1.0\n",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{name},sha256={_digest(raw)},{len(raw)}\n" for name, raw in files.items())
    files[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    with zipfile.ZipFile(folder / "faketool-1.0-py3-none-any.whl", "w") as wheel:
        for name, raw in files.items():
            wheel.writestr(name, raw)
    return folder


def _digest(raw):
    return urlsafe_b64encode(hashlib.sha256(raw).digest()).decode().rstrip("=")


@pytest.fixture
def tool(tmp_path):
    pins = tmp_path / "faketool.txt"
    pins.write_text("faketool==1.0\n")
    return FakeTool(name="faketool", version="1.0", module="faketool", purpose="none", pins=pins)


def said(tool, *arguments):
    """What the tool's module has to say; it ends with a failure so that it is told."""
    with pytest.raises(ToolError) as caught:
        environments.run(tool, arguments)
    return caught.value.hint.split()


def test_an_unknown_tool_is_refused():
    assert environments.find("onnx2tf") is ONNX2TF
    with pytest.raises(UsageError) as caught:
        environments.find("onnx2tff")
    assert "'onnx2tff'" in caught.value.message
    assert "onnx2tf" in caught.value.hint


@pytest.mark.parametrize("installer", Installer)
def test_without_a_network_nothing_is_installed_and_the_command_is_named(installer):
    with pytest.raises(ToolMissing) as caught:
        environments.install(ONNX2TF, installer=installer)
    assert f"onnx2tf 2.6.9 could not be built with {installer.value}: " in caught.value.message
    assert "`edgekit toolchain install onnx2tf`" in caught.value.hint
    assert not ONNX2TF.installed
    assert not ONNX2TF.folder.exists()


@pytest.mark.parametrize("installer", Installer)
def test_two_processes_at_once_give_one_environment(tool, wheels, installer):
    script = f"""
from pathlib import Path
from edgekit.toolchain import environments
from tests.toolchain.functions import FakeTool
tool = FakeTool(name="faketool", version="1.0", module="faketool", purpose="none",
                pins=Path({str(tool.pins)!r}))
python = environments.install(
    tool, installer=environments.Installer({installer.value!r}), wheels=Path({str(wheels)!r}))
print(python, tool.folder.stat().st_ino, (tool.folder / "edgekit-complete").stat().st_mtime_ns)
"""
    both = [
        subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    one, two = (process.communicate(timeout=120)[0] for process in both)
    assert [process.returncode for process in both] == [0, 0]
    assert one == two, "the second one built it again"
    assert one.split()[0].decode() == str(tool.python)
    assert tool.installed
    assert said(tool, "a", "b")[1:] == [str(tool.folder), "a", "b"]


def test_what_is_installed_is_not_built_again(tool, wheels):
    python = environments.install(tool, installer=Installer.UV, wheels=wheels)
    (tool.folder / "kept").touch()
    assert environments.install(tool, installer=Installer.UV) == python
    assert (tool.folder / "kept").exists()


def test_an_interrupted_one_is_built_again(tool, wheels):
    environments.install(tool, installer=Installer.UV, wheels=wheels)
    (tool.folder / "edgekit-complete").unlink()
    (tool.folder / "half-written").touch()
    assert not tool.installed
    environments.install(tool, installer=Installer.UV, wheels=wheels)
    assert tool.installed
    assert not (tool.folder / "half-written").exists()


def test_one_whose_python_has_gone_is_built_again(tool, wheels, tmp_path):
    environments.install(tool, installer=Installer.UV, wheels=wheels)
    tool.python.unlink()
    tool.python.symlink_to(tmp_path / "uninstalled")
    assert not tool.installed
    environments.install(tool, installer=Installer.UV, wheels=wheels)
    assert said(tool)


def test_an_installer_that_is_missing_a_wheel_leaves_what_was_there_of_others(tool, wheels):
    environments.install(tool, installer=Installer.UV, wheels=wheels)
    first = tool.folder
    tool.pins.write_text("faketool==2.0\n")
    assert tool.folder != first
    with pytest.raises(ToolMissing, match=r"no version of faketool==2\.0 and .*unsatisfiable"):
        environments.install(tool, installer=Installer.UV, wheels=wheels)
    assert not tool.installed
    tool.pins.write_text("faketool==1.0\n")
    assert tool.folder == first
    assert tool.installed


def test_a_tool_runs_in_its_environment_alone(tool, wheels, tmp_path, monkeypatch):
    environments.install(tool, installer=Installer.UV, wheels=wheels)
    first = said(tool)
    for place in ("cwd", "path"):
        (tmp_path / place).mkdir()
        for name in ("faketool", "random"):
            (tmp_path / place / f"{name}.py").write_text("raise SystemExit('a stranger')")
    monkeypatch.chdir(tmp_path / "cwd")
    assert said(tool) == first
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "path"))
    monkeypatch.setenv("PYTHONHASHSEED", "12345")
    assert said(tool) == first


def test_a_run_without_an_environment_says_what_to_do(monkeypatch):
    monkeypatch.setenv("EDGEKIT_INSTALLER", "uv")
    with pytest.raises(ToolMissing, match="could not be built with uv"):
        environments.run(ONNX2TF, ["--version"])


def test_a_place_that_cannot_be_written_is_named(tool, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("EDGEKIT_TOOLCHAIN", str(tmp_path / "file" / "below"))
    with pytest.raises(ToolMissing) as caught:
        environments.install(tool, installer=Installer.UV)
    assert str(tmp_path / "file" / "below") in caught.value.message
    assert "EDGEKIT_TOOLCHAIN" in caught.value.hint


def test_an_unknown_installer_is_refused(tool, monkeypatch):
    monkeypatch.setenv("EDGEKIT_INSTALLER", "conda")
    with pytest.raises(UsageError) as caught:
        environments.install(tool)
    assert "'conda'" in caught.value.message
    assert "uv or pip" in caught.value.hint


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"PIP_INDEX_URL": "https://example.org/simple"}, Installer.PIP),
        ({"PIP_INDEX_URL": "https://a/simple", "UV_INDEX": "https://a/simple"}, Installer.UV),
        ({"EDGEKIT_INSTALLER": "pip"}, Installer.PIP),
        ({}, Installer.UV),
    ],
)
def test_pip_is_chosen_where_it_alone_knows_the_index(variables, expected, monkeypatch):
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.delenv("PIP_NO_INDEX")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert environments._configured_installer() is expected


# Calling edgekit's own functions beside a tool's modules

LIMITS = Limits(seconds=60)


def given(tool, **fields):
    return structs.replace(tool, **fields)


def pretended(tool):
    """Installed, as it seems: this Python under another name, which tells what it was given."""
    tool.python.parent.mkdir(parents=True)
    tool.python.write_text(
        f'#!/bin/sh\nenv > "{tool.folder}/environment"\nls "$PYTHONPATH" > "{tool.folder}/path"\n'
        f'exec "{sys.executable}" "$@"\n'
    )
    tool.python.chmod(0o755)
    (tool.folder / "edgekit-complete").touch()


def test_where_this_python_has_the_extra_nothing_is_built(tool, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    here = given(tool, extra=("json", "numpy"), environment={"EDGEKIT_CACHE": "/a/place"})
    assert environments.ready(here)
    assert environments.call(here, store.default_root, LIMITS) == Path("/a/place")
    assert not tool.folder.parent.exists()


def test_a_part_of_the_extra_is_not_enough(tool, monkeypatch):
    monkeypatch.setenv("EDGEKIT_INSTALLER", "uv")
    partly = given(tool, extra=("json", "no_such_module"))
    assert not environments.ready(partly)
    with pytest.raises(ToolMissing, match="could not be built with uv"):
        environments.call(partly, store.default_root, LIMITS)


def test_without_the_extra_it_is_the_environments_python_with_edgekit_alone(tool, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/strangers")
    monkeypatch.setenv("PYTHONHASHSEED", "12345")
    named = given(tool, environment={"EDGEKIT_CACHE": "/a/place"})
    assert not environments.ready(named)
    pretended(named)
    assert environments.ready(named)
    assert environments.call(named, store.default_root, LIMITS) == Path("/a/place")
    told = (tool.folder / "environment").read_text().splitlines()
    (path,) = [line.partition("=")[2] for line in told if line.startswith("PYTHONPATH=")]
    assert "PYTHONHASHSEED=0" in told
    assert (tool.folder / "path").read_text().split() == ["edgekit"]
    assert not Path(path).exists()
