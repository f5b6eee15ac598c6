"""The runner's duel: whose turn it is, and what it survives."""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import edgekit_runner as runner
import numpy as np
import pytest

from tests.runtime_stubs import bundles
from tests.runtime_stubs.bundles import Contents, Tensor
from tests.runtime_stubs.harness import Event, ask, benching, kinds, only, parsed, processes_of
from tests.runtime_stubs.test_runner_bench import PREAMBLE, RUNNING, gone

PAIR = ("--processes", "1", "--seconds", "0.05", "--runs", "20", "--passes", "")
WARM = ("--warmup-runs", "1", "--warmup-seconds", "0")
TURNS = 4
ABOUT_ONE = ["turn", "golden", "placement"]
OF_ONE = ["turn", "process"]
LOGGING = (
    PREAMBLE
    + """
class InferenceSession(Real):
    def run(self, *arguments):
        begun = time.monotonic_ns()
        done = super().run(*arguments)
        with open({!r}, "a") as log:
            log.write("%d %s %d %d\\n" % (os.getpid(), sys.argv[3], begun, time.monotonic_ns()))
        return done
"""
)


def duel(
    one: Path, other: Path, *options: str, env: dict[str, str] | None = None
) -> tuple[int, list[Event]]:
    """A whole duel, of one pair unless ``options`` say otherwise."""
    words = (str(other), *PAIR, *WARM, *options)
    with benching(one, *words, env=env, command="duel") as process:
        stdout = process.stdout.read() if process.stdout else b""
        return process.wait(60), parsed(stdout)


def test_both_are_compared_first_and_then_measured(bundle: Path) -> None:
    status, events = duel(bundle, bundle, "--processes", "2")
    assert status == 0
    assert kinds(events) == [*ABOUT_ONE * 2, *OF_ONE * 4, "environment", "done"]
    assert [event["of"] for event in events if event["event"] == "turn"] == [0, 1] * 3
    for process in (event for event in events if event["event"] == "process"):
        assert len(process["windows_ns"]) == TURNS
        assert len(process["samples_ns"]) >= 20
        assert process["first_load_ns"] > 0
        samples = sorted(process["samples_ns"])
        assert min(process["windows_ns"]) >= samples[0]
        assert min(process["windows_ns"]) <= statistics.median(samples)


def test_they_take_turns_and_never_compute_at_once(contents: Contents, tmp_path: Path) -> None:
    log = tmp_path / "log"
    (tmp_path / "logging_runtime.py").write_text(LOGGING.format(str(log)))
    logging = contents.but(modules=["logging_runtime"])
    both = [bundles.write(tmp_path / name, logging) for name in "AB"]
    status, _ = duel(*both, "--processes", "2", env={"PYTHONPATH": str(tmp_path)})
    assert status == 0
    runs = [line.split() for line in log.read_text().splitlines()]
    assert all(int(before[-1]) <= int(after[-2]) for before, after in pairwise(runs))
    order = [Path(bundle).name for (_, bundle), _ in groupby(runs, lambda run: run[:2])]
    golden, warm, turns = "AB", "AB", "ABABA"  # A, B and B, A and A, B and B, A
    others = str.maketrans("AB", "BA")
    assert "".join(order) == golden + warm + turns + (warm + turns).translate(others)


@pytest.mark.parametrize("which", [0, 1])
def test_whose_vectors_do_not_agree_is_said_and_nothing_measured(
    contents: Contents, tmp_path: Path, which: int
) -> None:
    y, total = contents.outputs
    wrong = contents.but(outputs=[y, Tensor("total", total.golden + np.float32(0.5))])
    both = [bundles.write(tmp_path / str(i), wrong if i == which else contents) for i in (0, 1)]
    status, events = duel(*both)
    assert (status, events[-1]["kind"]) == (1, "golden")
    assert "process" not in kinds(events)
    assert spoken_of(events) == which


def test_a_changed_byte_is_refused(contents: Contents, tmp_path: Path) -> None:
    both = [bundles.write(tmp_path / name, contents) for name in "ab"]
    content = bytearray((both[1] / "artifact.onnx").read_bytes())
    content[-1] ^= 1
    (both[1] / "artifact.onnx").write_bytes(content)
    status, events = duel(*both)
    assert (status, events[-1]["kind"], spoken_of(events)) == (1, "bundle", 1)


def test_a_missing_runtime_is_of_the_one_that_wants_it(contents: Contents, tmp_path: Path) -> None:
    wanting = bundles.write(tmp_path / "other", contents.but(modules=["no_such_runtime"]))
    status, events = duel(bundles.write(tmp_path / "one", contents), wanting)
    assert (status, events[-1]["kind"], spoken_of(events)) == (1, "runtime-missing", 1)


class TestMisbehaviour:
    """Four golden inferences, the first run and the warm-up are well; the turns are not."""

    @pytest.fixture
    def broken(self, contents: Contents, tmp_path: Path) -> Any:
        def make(statement: str) -> tuple[Path, Path, dict[str, str]]:
            late = (
                f"self.runs = getattr(self, 'runs', 0) + 1\n        if self.runs > 20: {statement}"
            )
            (tmp_path / "broken_runtime.py").write_text(RUNNING.format(late))
            other = bundles.write(tmp_path / "other", contents.but(modules=["broken_runtime"]))
            return bundles.write(tmp_path / "one", contents), other, {"PYTHONPATH": str(tmp_path)}

        return make

    def test_a_crash_in_a_turn_is_named_with_its_signal(self, broken: Any) -> None:
        one, other, env = broken("os.abort()")
        status, events = duel(one, other, env=env)
        assert (status, events[-1]["kind"], spoken_of(events)) == (1, "crashed", 1)
        assert "SIGABRT while measuring" in events[-1]["message"]
        assert "process" not in kinds(events)
        assert gone(one)
        assert gone(other)

    def test_an_error_in_a_turn_is_its_own(self, broken: Any) -> None:
        one, other, env = broken("raise RuntimeError('no such kernel')")
        status, events = duel(one, other, env=env)
        assert (status, spoken_of(events)) == (1, 1)
        assert "no such kernel" in events[-1]["message"]

    def test_a_hang_in_a_turn_is_killed(self, broken: Any) -> None:
        one, other, env = broken("time.sleep(60)")
        start = time.monotonic()
        status, events = duel(one, other, "--deadline", "8", env=env)
        assert (status, events[-1]["kind"], spoken_of(events)) == (1, "hung", 1)
        assert time.monotonic() - start < 24
        assert gone(one)
        assert gone(other)


class TestEnding:
    @pytest.fixture
    def measuring(self, bundle: Path, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
        """A duel that would take a minute, in its first pair."""
        lock = ("--lock", str(tmp_path / "lock"))
        words = (str(bundle), *PAIR, *WARM, "--seconds", "60", *lock)
        with benching(bundle, *words, command="duel") as process:
            deadline = time.monotonic() + 30
            while len(processes_of(bundle)) < 3 and time.monotonic() < deadline:
                time.sleep(0.02)
            yield process

    def test_both_end_with_the_client(
        self, bundle: Path, measuring: subprocess.Popen[bytes]
    ) -> None:
        assert measuring.stdin
        measuring.stdin.close()
        measuring.wait(10)
        assert gone(bundle)

    def test_a_kill_takes_both_along(
        self, bundle: Path, measuring: subprocess.Popen[bytes]
    ) -> None:
        measuring.kill()
        measuring.wait(10)
        assert gone(bundle)

    def test_nobody_else_measures_meanwhile(
        self, bundle: Path, measuring: subprocess.Popen[bytes], tmp_path: Path
    ) -> None:
        lock = ("--lock", str(tmp_path / "lock"), "--lock-wait", "0.2")
        status, events = duel(bundle, bundle, *lock)
        assert (status, only(events, "error")["kind"]) == (1, "busy")


@pytest.mark.parametrize(("window", "best"), [([7], 7), ([5, 1, 9], 1), (range(100, 0, -1), 11)])
def test_what_was_interrupted_does_not_count(window: Sequence[int], best: int) -> None:
    assert runner.at_best(window) == best


def test_one_bundle_is_no_duel(bundle: Path) -> None:
    status, (error,) = ask("duel", bundle)
    assert (status, error["kind"]) == (1, "usage")


def spoken_of(events: list[Event]) -> int:
    """Whom the last thing said is about."""
    of: int = [event["of"] for event in events if event["event"] == "turn"][-1]
    return of
