"""Several calls at a time: none disturbs another, and whatever ends them leaves nothing behind."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from edgekit.errors import DataError, EdgekitError, SystemRefused, ToolCrashed
from edgekit.observer import silent_rows
from edgekit.toolchain import workers
from edgekit.toolchain.workers import Call
from tests.paths import ROOT
from tests.toolchain import functions


@pytest.fixture(autouse=True)
def _child_finds_the_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def each(calls: list[Call[Any]], at_once: int, on_row: Any = silent_rows) -> dict[str, Any]:
    results: dict[str, Any] = {}
    workers.each(calls, at_once, on_row, lambda call, result: results.update({call.name: result}))
    return results


def calls(function: Any, folder: Path, *names: str, **more: object) -> list[Call[Any]]:
    return [Call(name, function, {"folder": folder, "name": name, **more}) for name in names]


def test_they_run_side_by_side_and_say_what_they_do(tmp_path: Path) -> None:
    told: list[tuple[str, ...]] = []
    met = calls(functions.meet, tmp_path, "a", "b", "c", others=2)
    results = each(met, 3, lambda *row: told.append(row))
    assert len({os.getpid(), *results.values()}) == 4
    assert sorted(told) == [(name, "met", name) for name in "abc"]


def test_no_more_at_a_time_than_asked_for(tmp_path: Path) -> None:
    results = each(calls(functions.in_and_out, tmp_path, *"abcde"), 2)
    assert len(results) == 5
    assert max(results.values()) <= 2


def test_one_that_fails_stops_no_other(tmp_path: Path) -> None:
    fallen = [Call(how, functions.fall, {"how": how}) for how in ("crash", "data", "system")]
    results = each([*fallen, *calls(functions.in_and_out, tmp_path, "whole")], 2)
    assert results["whole"] == 1
    assert isinstance(results["data"], DataError)
    assert (results["data"].message, results["data"].hint) == ("odd data", "give others")
    assert isinstance(results["system"], SystemRefused)
    assert results["system"].message == "/some/file: No space left on device"
    assert isinstance(results["crash"], ToolCrashed)
    assert "crash crashed (SIGSEGV)" in results["crash"].message
    assert "the last words" in results["crash"].hint


def test_what_they_log_is_logged_here(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        each([Call("one", functions.log, {"word": "swordfish"})], 1)
    assert "the word is swordfish" in caplog.text
    caplog.clear()
    each([Call("one", functions.log, {"word": "swordfish"})], 1)
    assert "swordfish" not in caplog.text


def alive(session: int) -> list[str]:
    """What runs, of a worker or of its tools: they are the worker's children."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            pid, _, (state, parent, *_) = _stat(path.read_text())
        except (OSError, ValueError):
            continue
        if session in (pid, int(parent)) and state != "Z":
            found.append(path.parent.name)
    return found


def _stat(text: str) -> tuple[int, str, list[str]]:
    before, _, after = text.rpartition(")")
    pid, _, name = before.partition(" (")
    return int(pid), name, after.split()


def gone(folder: Path) -> bool:
    """Whether all who said in ``folder`` who they are have ended, and their tools with them."""
    pids = [int(path.read_text()) for path in folder.iterdir()]
    deadline = time.monotonic() + 15
    while any(map(alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not any(map(alive, pids))


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
class TestEnding:
    def test_what_interrupts_it_ends_all(self, tmp_path: Path) -> None:
        waiting: list[str] = []

        def interrupt(name: str, stage: str, detail: str) -> None:
            waiting.append(name)
            if len(waiting) == 2:
                pids = [int(path.read_text()) for path in tmp_path.iterdir()]
                while any(len(alive(pid)) < 2 for pid in pids):  # the tool, too
                    time.sleep(0.01)
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            each(calls(functions.use_a_tool, tmp_path, "a", "b", "c"), 2, interrupt)
        assert len(list(tmp_path.iterdir())) == 2
        assert not any(alive(int(path.read_text())) for path in tmp_path.iterdir())

    def test_workers_whose_parent_was_killed_end(self, tmp_path: Path) -> None:
        script = f"""
from pathlib import Path
from edgekit.toolchain import workers
from tests.toolchain import functions
call = workers.Call("a", functions.use_a_tool, {{"folder": Path({str(tmp_path)!r}), "name": "a"}})
workers.each([call], 1, lambda *_: print("told", flush=True), print)
"""
        with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as parent:
            assert parent.stdout is not None
            assert parent.stdout.readline() == b"told\n"
            parent.send_signal(signal.SIGKILL)
        assert gone(tmp_path)


def test_errors_are_of_edgekits_kind(tmp_path: Path) -> None:
    (result,) = each([Call("odd", functions.meet, {"folder": 3})], 1).values()
    assert isinstance(result, EdgekitError)
