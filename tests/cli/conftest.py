"""The command line as a user runs it: a process, its output, its exit code.

The processes are forked from one that has loaded what a command loads: the commands themselves
take a fraction of that. How a process of its own starts, and what it loads, is tested where
nothing is forked (``test_startup``, ``tests/test_package.py``).
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct

from edgekit import cli
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


_DEADLINE_S = 300
_FORKS = multiprocessing.get_context("forkserver")
_LOADED = ("cli.commands", "cli.projects", "report.layout", "contest", "project_bench", "trials")
_FORKS.set_forkserver_preload([__name__, *(f"edgekit.{name}" for name in _LOADED)])


@pytest.fixture(scope="session")
def edgekit() -> Edgekit:
    """Run ``edgekit`` with these words, in a folder of one's own."""

    def run(*words: object, cwd: Path | None = None) -> Ran:
        with tempfile.TemporaryDirectory(prefix="edgekit-cli-") as folder:
            said = [Path(folder) / name for name in ("stdout", "stderr")]
            given = ([*map(str, words)], cwd or Path.cwd(), dict(os.environ), *said)
            process = _FORKS.Process(target=_main, args=given, daemon=True)
            process.start()
            process.join(_DEADLINE_S)
            assert process.exitcode is not None, f"{words} did not end"
            return Ran(process.exitcode, *(path.read_text() for path in said))

    return run


def _main(
    words: list[str], cwd: Path, environment: Mapping[str, str], stdout: Path, stderr: Path
) -> None:
    """In the fork: what ``python -m edgekit`` does there."""
    for number, path in enumerate((stdout, stderr), 1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.exit(cli.main(words))


@pytest.fixture(scope="session")
def digits_bundle(edgekit: Edgekit, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example, built for a Raspberry Pi 5; its user is of the group ``digits-bundle``."""
    path = tmp_path_factory.mktemp("built") / "digits.edgekit"
    ran = edgekit("build", DIGITS_MODEL, "--device", "raspberry-pi-5", *DATA, "-o", path)
    assert ran.code == 0, ran.stderr
    return path
