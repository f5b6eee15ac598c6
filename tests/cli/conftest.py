"""The command line as a user runs it: a process, its output, its exit code."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct

from tests.paths import CALIBRATION, DIGITS_MODEL, EVALUATION

DATA = ("--calibration", str(CALIBRATION), "--evaluate", str(EVALUATION))


class Ran(Struct, frozen=True):
    """A command that ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.stdout)

    @property
    def error(self) -> dict[str, str]:
        return self.json["error"]


Edgekit = Callable[..., Ran]


@pytest.fixture(scope="session")
def edgekit() -> Edgekit:
    """Run ``edgekit`` with these words, in a folder of one's own."""

    def run(*words: object, cwd: Path | None = None) -> Ran:
        argv = [sys.executable, "-m", "edgekit", *map(str, words)]
        done = subprocess.run(
            argv, capture_output=True, text=True, timeout=300, cwd=cwd, check=False
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture(scope="session")
def digits_bundle(edgekit: Edgekit, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example, built for a Raspberry Pi 5."""
    path = tmp_path_factory.mktemp("built") / "digits.edgekit"
    ran = edgekit("build", DIGITS_MODEL, "--device", "raspberry-pi-5", *DATA, "-o", path)
    assert ran.code == 0, ran.stderr
    return path
