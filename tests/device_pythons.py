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
    "nothing": ("3.11", ()),
    "bare": (sys.executable, (*_CONSTRAINTS, "numpy")),
}


def device_bin(name: str) -> Path:
    """The ``bin`` folder of an environment, built when it is first needed.

    Skips the test where the Python that the runtime needs is not installed.
    """
    python, packages = _ENVIRONMENTS[name]
    command = str(uv.find_uv_bin())
    found = subprocess.run(
        [command, "python", "find", "--no-python-downloads", python],
        capture_output=True,
        text=True,
        check=False,
    )
    if found.returncode != 0:
        pytest.skip(f"needs Python {python} for {name}")
    folder = _HOME / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        complete = folder / "complete"
        wanted = " ".join((found.stdout.strip(), *packages))
        if not complete.is_file() or complete.read_text() != wanted:
            interpreter = found.stdout.strip()
            _run(command, "venv", "--quiet", "--clear", "--python", interpreter, str(folder))
            into = ("--python", str(folder / "bin" / "python"))
            if packages:
                _run(command, "pip", "install", "--quiet", *into, *packages)
            complete.write_text(wanted)
    return folder / "bin"


def _run(*argv: str) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
