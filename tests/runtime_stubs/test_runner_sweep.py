"""The runner timing many models: what counts, and what does not end it."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.paths import DIGITS_MODEL
from tests.runtime_stubs.harness import RUNNER, TIMEOUT_S, Event, parsed


@pytest.fixture(scope="module")
def runner() -> ModuleType:
    spec = importlib.util.spec_from_file_location("edgekit_runner", RUNNER)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _swept(folder: Path, names: list[str], *options: str) -> dict[str, Event]:
    listed = folder / "models.json"
    listed.write_text(json.dumps(names))
    argv = [sys.executable, RUNNER, "sweep", str(listed), "--runtime", "onnxruntime"]
    argv += ["--module", "onnxruntime", "--window", "0.002", "--lock", str(folder / "lock")]
    process = subprocess.Popen([*argv, *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout
    with process:
        events = parsed(process.stdout.read())
        # Its standard input stays open until it has ended: it goes when whoever started it has.
        assert process.wait(TIMEOUT_S) == 0
    assert events[-1] == {"event": "done"}
    return {event["model"]: event for event in events[:-1]}


def test_a_model_that_does_not_run_ends_nothing(tmp_path: Path) -> None:
    shutil.copyfile(DIGITS_MODEL, tmp_path / "good.onnx")
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    found = _swept(tmp_path, ["bad.onnx", "good.onnx"], "--rounds", "2")
    assert found["bad.onnx"]["windows_ns"] == []
    assert "bad.onnx" in found["bad.onnx"]["error"]
    good = found["good.onnx"]
    assert good["error"] is None
    assert 1 <= len(good["windows_ns"]) <= 8
    assert all(ns > 1000 for ns in good["windows_ns"])
    assert len(good["counting_ns"]) == len(good["windows_ns"])


def test_the_first_round_is_whole_whatever_the_time(tmp_path: Path) -> None:
    names = [f"{number}.onnx" for number in range(3)]
    for name in names:
        shutil.copyfile(DIGITS_MODEL, tmp_path / name)
    found = _swept(tmp_path, names, "--rounds", "5", "--seconds", "0")
    assert [len(found[name]["windows_ns"]) for name in names] == [1, 1, 1]


def test_windows_beside_which_counting_was_slow_do_not_count(runner: ModuleType) -> None:
    quiet = [runner.Window(1000 + number, 100 + number) for number in range(5)]
    busy = [runner.Window(1600, 160), runner.Window(900, 170)]
    usual_ns = runner.undisturbed({"a": quiet, "b": busy})
    assert usual_ns == 100
    assert runner.calm([*quiet, *busy], usual_ns) == quiet
    assert runner.calm(busy, usual_ns) == []


def test_one_lucky_moment_makes_nothing_else_disturbed(runner: ModuleType) -> None:
    seen = [runner.Window(1000, 60), *[runner.Window(1000, 100)] * 19]
    assert len(runner.calm(seen, runner.undisturbed({"a": seen}))) == 20
