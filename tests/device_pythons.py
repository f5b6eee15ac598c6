"""Pythons as devices have them: a runtime, NumPy, and nothing of edgekit."""

from __future__ import annotations

import fcntl
import subprocess
import sys
from pathlib import Path

import pytest
import uv
from platformdirs import user_cache_path

from tests.paths import ROOT

_HOME = user_cache_path("edgekit-tests") / "device-pythons"
"""Found out before a test moves HOME: the environments are built once."""

_CONSTRAINTS = ("--constraint", str(ROOT / "constraints.txt"))
_ENVIRONMENTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "tflite-runtime": ("3.11", ("tflite-runtime==2.14.0", "numpy==1.26.4")),
    "litert": (sys.executable, (*_CONSTRAINTS, "ai-edge-litert", "numpy")),
    "onnxruntime": (sys.executable, (*_CONSTRAINTS, "onnxruntime", "numpy")),
    "oldest": ("3.8", ("onnxruntime==1.19.2", "numpy==1.24.4")),
    "builder": (sys.executable, (*_CONSTRAINTS, "pip", "hatchling")),
    "nothing": ("3.11", ()),
    "bare": (sys.executable, (*_CONSTRAINTS, "numpy")),
}


def device_bin(name: str) -> Path:
    """The ``bin`` folder of an environment, built when it is first needed.

    Skips the test where the Python that the runtime needs is not installed.
    """
    python, packages = _ENVIRONMENTS[name]
    command = str(uv.find_uv_bin())
    interpreter = _interpreter(command, python)
    if interpreter is None:
        pytest.skip(f"needs Python {python} for {name}")
    folder = _HOME / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        complete = folder / "complete"
        wanted = " ".join((interpreter, *packages))
        if not complete.is_file() or complete.read_text() != wanted:
            _run(command, "venv", "--quiet", "--clear", "--python", interpreter, str(folder))
            into = ("--python", str(folder / "bin" / "python"))
            if packages:
                _run(command, "pip", "install", "--quiet", *into, *packages)
            complete.write_text(wanted)
    return folder / "bin"


def _interpreter(command: str, python: str) -> str | None:
    """A Python of that version; a version manager's shim may hide one that is installed."""
    managed = Path.home().glob(f".pyenv/versions/{python}.*/bin/python")
    for wanted in (python, *map(str, sorted(managed))):
        argv = [command, "python", "find", "--no-project", "--no-python-downloads", wanted]
        found = subprocess.run(argv, capture_output=True, text=True, check=False)
        if found.returncode == 0:
            return found.stdout.strip()
    return None


def _run(*argv: str) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
