"""The runner's bench: what it compares, what it measures, and what it survives."""

from __future__ import annotations

import json
import os
import signal
import stat
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.runtime_stubs import bundles
from tests.runtime_stubs.bundles import Contents, Tensor
from tests.runtime_stubs.harness import (
    QUICK,
    Event,
    bench,
    benching,
    interpreters,
    kinds,
    next_event,
    only,
    processes_of,
)
from tests.runtime_stubs.litert_models import INT8, SIGNED, golden_of, needs

COMPLETE = ["golden", "placement", "process", "process", "memory", "environment", "done"]
LONG = ("--seconds", "60", "--processes", "1")


def has_proc() -> bool:
    return Path("/proc/self/status").exists()


class TestMeasuring:
    def test_a_right_bundle(self, bundle: Path) -> None:
        status, events = bench(bundle)
        assert status == 0
        assert kinds(events) == COMPLETE
        golden, memory, environment = (only(events, k) for k in ("golden", "memory", "environment"))
        first, second = (event for event in events if event["event"] == "process")
        assert golden["passed"]
        assert golden["max_error"] < 1e-5
        assert golden["sample_count"] == 4
        assert min(len(first["samples_ns"]), len(second["samples_ns"])) >= 5
        assert first["first_load_ns"] > 0
        assert (memory["peak_memory_bytes"] is not None) == has_proc()
        assert environment["clock"]

    @pytest.mark.parametrize("model", [pytest.param(m, marks=needs(m)) for m in (INT8, SIGNED)])
    def test_litert(self, model: Path, tmp_path: Path) -> None:
        status, events = bench(bundles.write(tmp_path / "bundle", golden_of(model)))
        assert status == 0
        assert kinds(events) == COMPLETE
        assert events[0]["runtime"]["name"] == "litert"

    def test_both_minimums_hold(self, bundle: Path) -> None:
        warm = ("--processes", "1", "--warmup-runs", "0", "--warmup-seconds", "0")
        _, events = bench(bundle, "--runs", "5000", "--seconds", "0", *warm)
        assert len(only(events, "process")["samples_ns"]) == 5000
        _, events = bench(bundle, "--runs", "1", "--seconds", "0.2", *warm)
        assert len(only(events, "process")["samples_ns"]) > 100

    def test_how_fast_the_device_was_is_told_beside_how_fast_it_had_been(
        self, bundle: Path, tmp_path: Path
    ) -> None:
        place = tmp_path / "counting.json"
        options = (*QUICK, "--lock", str(tmp_path / "lock"))
        first = only(bench(bundle, *options)[1], "environment")
        assert first["counting_ns"] == first["least_counting_ns"] > 1000
        [(key, known)] = json.loads(place.read_text()).items()
        assert known == [first["counting_ns"]]
        place.write_text(json.dumps({key: [1, *[10**9] * 48], "another": [7]}))
        second = only(bench(bundle, *options)[1], "environment")
        assert second["counting_ns"] > second["least_counting_ns"] == 1
        third = only(bench(bundle, *options)[1], "environment")
        assert third["least_counting_ns"] > 1  # fifty are remembered
        kept = json.loads(place.read_text())
        assert (len(kept[key]), kept["another"]) == (50, [7])

    @pytest.mark.parametrize("kept", ["", "{", "[]", '{"a": 1}', '{"a": ["b"]}', "[" * 5000])
    def test_what_was_kept_makes_no_sense(self, bundle: Path, tmp_path: Path, kept: str) -> None:
        (tmp_path / "counting.json").write_text(kept)
        status, events = bench(bundle, *QUICK, "--lock", str(tmp_path / "lock"))
        assert status == 0
        told = only(events, "environment")
        assert told["counting_ns"] == told["least_counting_ns"]

    def test_tensors_are_matched_by_name(self, contents: Contents, tmp_path: Path) -> None:
        turned = contents.but(outputs=contents.outputs[::-1])
        assert bench(bundles.write(tmp_path / "bundle", turned))[0] == 0

    @pytest.mark.parametrize("python", interpreters())
    def test_other_pythons(self, bundle: Path, python: str) -> None:
        status, events = bench(bundle, python=python)
        if status:
            # Without NumPy or the runtime there: said as such, and nothing else.
            assert [event["kind"] for event in events] == ["runtime-missing"]
        else:
            assert kinds(events) == COMPLETE


class TestGolden:
    def refused(self, bundle: Path, kind: str = "golden") -> Event:
        status, events = bench(bundle)
        assert status == 1
        assert "process" not in kinds(events)
        assert events[-1]["kind"] == kind
        return events[0]

    def test_a_mismatch_gives_no_number(self, contents: Contents, tmp_path: Path) -> None:
        y, total = contents.outputs
        off = total.golden.copy()
        off[2] += 0.5
        wrong = contents.but(outputs=[y, Tensor("total", off)])
        golden = self.refused(bundles.write(tmp_path / "bundle", wrong))
        assert golden["worst_output"] == "total"
        assert golden["max_error"] == pytest.approx(0.5, abs=1e-5)
        assert not golden["passed"]

    @pytest.mark.parametrize("sample", [0, 3])
    def test_nan_never_passes(self, contents: Contents, tmp_path: Path, sample: int) -> None:
        x, (y, total) = contents.inputs[0].golden.copy(), contents.outputs
        x[sample], y.golden[sample], total.golden[sample] = np.nan, np.nan, np.nan
        wrong = contents.but(inputs=[Tensor("x", x)], tolerance=1e30)
        golden = self.refused(bundles.write(tmp_path / "bundle", wrong))
        assert golden["max_error"] is None

    @needs(INT8)
    @pytest.mark.parametrize(("steps", "passes"), [(1.5, True), (0.5, False)])
    def test_tolerances_are_in_real_units(self, tmp_path: Path, steps: float, passes: bool) -> None:
        right = golden_of(INT8)
        (output,) = right.outputs
        assert output.quantization
        near = np.where(output.golden < 0, output.golden + 1, output.golden - 1).astype(np.int8)
        off = right.but(
            outputs=[Tensor(output.name, near, output.quantization)],
            tolerance=steps * output.quantization[0],
        )
        assert bench(bundles.write(tmp_path / "bundle", off))[1][0]["passed"] is passes

    def test_another_shape(self, contents: Contents, tmp_path: Path) -> None:
        y, total = contents.outputs
        wrong = contents.but(outputs=[Tensor("y", y.golden[:, :, :1]), total])
        self.refused(bundles.write(tmp_path / "bundle", wrong))

    @pytest.mark.parametrize("name", ["artifact.onnx", "golden/output_1.npy"])
    def test_a_changed_byte_is_refused(self, bundle: Path, name: str) -> None:
        content = bytearray((bundle / name).read_bytes())
        content[-1] ^= 1
        (bundle / name).write_bytes(content)
        error = self.refused(bundle, "bundle")
        assert name in error["message"]


class TestRuntimes:
    def test_none_of_the_modules(self, contents: Contents, tmp_path: Path) -> None:
        missing = contents.but(modules=["no_such_runtime", "nor_this"])
        status, (error,) = bench(bundles.write(tmp_path / "bundle", missing))
        assert (status, error["kind"]) == (1, "runtime-missing")
        assert "no_such_runtime: No module named" in error["message"]

    def test_a_provider_that_is_not_there(self, contents: Contents, tmp_path: Path) -> None:
        wanting = bundles.write(tmp_path / "bundle", contents.but(delegate="TeapotProvider"))
        status, (error,) = bench(wanting)
        assert (status, error["kind"]) == (1, "runtime-missing")
        assert "CPUExecutionProvider" in error["message"]
        assert "--cpu" in error["hint"]
        assert bench(wanting, "--cpu", *QUICK)[0] == 0

    @needs(INT8)
    @pytest.mark.parametrize("delegate", ["edgetpu", "gpu", "unheard-of"])
    def test_a_delegate_that_is_not_there(self, tmp_path: Path, delegate: str) -> None:
        wanting = golden_of(INT8).but(delegate=delegate)
        status, (error,) = bench(bundles.write(tmp_path / "bundle", wanting))
        assert (status, error["kind"]) == (1, "runtime-missing")
        assert delegate in error["message"]


PREAMBLE = """
import ctypes, os, signal, sys, time
from onnxruntime import *
from onnxruntime import InferenceSession as Real
"""
LOADING = PREAMBLE + "def InferenceSession(*_, **__):\n    {}\n"
RUNNING = (
    PREAMBLE
    + """
class InferenceSession(Real):
    def run(self, *arguments):
        {}
        return super().run(*arguments)
"""
)
EVERYWHERE = (
    PREAMBLE
    + """
for fd in range(3, 10):
    try:
        {}
    except OSError:
        pass
"""
)


class TestMisbehaviour:
    """Runtimes that crash, hang and flood: reported with a name, never with a number."""

    @pytest.fixture
    def misbehaving(self, contents: Contents, tmp_path: Path) -> Any:
        def make(source: str, *options: str) -> tuple[int, list[Event]]:
            (tmp_path / "broken_runtime.py").write_text(source)
            broken = bundles.write(tmp_path / "bundle", contents.but(modules=["broken_runtime"]))
            return bench(broken, *QUICK, *options, env={"PYTHONPATH": str(tmp_path)})

        return make

    @pytest.mark.parametrize(
        ("statement", "name"),
        [
            ("ctypes.string_at(0)", "SIGSEGV"),
            ("os.abort()", "SIGABRT"),
            ("os.kill(os.getpid(), signal.SIGKILL)", "SIGKILL"),
        ],
    )
    @pytest.mark.parametrize(
        ("source", "phase"),
        [(LOADING, "loading the model"), (RUNNING, "running the golden inputs")],
    )
    def test_a_signal_is_named_with_its_phase(
        self, misbehaving: Any, source: str, phase: str, statement: str, name: str
    ) -> None:
        status, (error,) = misbehaving(source.format(statement))
        assert (status, error["kind"]) == (1, "crashed")
        assert f"{name} while {phase}" in error["message"]
        assert ("out of memory" in error["message"]) == (name == "SIGKILL")

    def test_the_end_of_standard_error_is_kept(self, misbehaving: Any) -> None:
        noise = "print('x' * 100000, 'last words', file=sys.stderr, flush=True); os.abort()"
        _, (error,) = misbehaving(LOADING.format(noise))
        assert error["hint"].rstrip().endswith("last words")
        assert len(error["hint"]) < 3000

    @pytest.mark.parametrize("hang", ["time.sleep(60)", "ctypes.PyDLL(None).sleep(60)"])
    def test_a_hang_is_killed(self, misbehaving: Any, tmp_path: Path, hang: str) -> None:
        start = time.monotonic()
        status, (error,) = misbehaving(RUNNING.format(hang), "--deadline", "2")
        assert (status, error["kind"]) == (1, "hung")
        assert "running the golden inputs" in error["message"]
        assert time.monotonic() - start < 10
        assert gone(tmp_path / "bundle")

    def test_what_a_runtime_prints_stays_off_standard_output(self, misbehaving: Any) -> None:
        status, events = misbehaving(RUNNING.format("print('hello'); os.write(1, b'there')"))
        assert status == 0
        assert kinds(events) == COMPLETE

    def test_a_gigabyte_is_not_kept(self, misbehaving: Any) -> None:
        # The supervisor and its child may have 400 MiB of address space each.
        limit = "import resource; resource.setrlimit(resource.RLIMIT_AS, (400 << 20,) * 2)\n"
        flood = "[os.write(1, bytes(1 << 20)) for _ in range(1024)]; os.abort()"
        _, (error,) = misbehaving(limit + LOADING.format(flood))
        assert error["kind"] == "crashed"

    def test_a_flood_of_answers_is_cut(self, misbehaving: Any) -> None:
        status, (error,) = misbehaving(
            EVERYWHERE.format("while os.write(fd, bytes(1 << 20)): pass")
        )
        assert (status, error["kind"]) == (1, "flooded")

    def test_a_forged_answer_without_sense(self, misbehaving: Any) -> None:
        status, (error,) = misbehaving(EVERYWHERE.format("os.write(fd, b'7\\n')"))
        assert (status, error["kind"]) == (1, "garbled")

    def test_an_error_in_the_middle(self, misbehaving: Any) -> None:
        status, (error,) = misbehaving(RUNNING.format("raise RuntimeError('no such kernel')"))
        assert (status, error["kind"]) == (1, "run")
        assert "no such kernel" in error["message"]


@pytest.mark.skipif(not has_proc(), reason="looks for processes in /proc")
class TestEnding:
    def test_it_ends_when_its_standard_input_closes(self, bundle: Path) -> None:
        with benching(bundle, *LONG) as process:
            assert next_event(process)["event"] == "golden"
            assert process.stdin
            start = time.monotonic()
            process.stdin.close()
            process.wait(10)
            assert time.monotonic() - start < 2
            assert gone(bundle)

    def test_it_ends_when_signs_of_life_stop(self, bundle: Path) -> None:
        """A cable that is pulled closes nothing."""
        with benching(bundle, *LONG) as process:
            next_event(process)
            time.sleep(11)
            assert process.poll() is None  # who never gave any is not waited for
            assert process.stdin
            process.stdin.write(b"\n")
            process.stdin.flush()
            assert process.wait(20) == 75
            assert gone(bundle)

    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
    def test_a_signal_takes_the_children_along(self, bundle: Path, number: signal.Signals) -> None:
        with benching(bundle, *LONG) as process:
            next_event(process)
            process.send_signal(number)
            process.wait(10)
            assert gone(bundle)

    def test_even_a_child_that_holds_the_interpreter(
        self, contents: Contents, tmp_path: Path
    ) -> None:
        (tmp_path / "broken_runtime.py").write_text(RUNNING.format("ctypes.PyDLL(None).sleep(60)"))
        bundle = bundles.write(tmp_path / "bundle", contents.but(modules=["broken_runtime"]))
        with benching(bundle, env={"PYTHONPATH": str(tmp_path)}) as process:
            time.sleep(1)
            assert processes_of(bundle)
            assert process.stdin
            process.stdin.close()
            process.wait(10)
            assert gone(bundle)


def working(folder: Path) -> tuple[str, str]:
    """The options that name a working folder."""
    folder.mkdir()
    return ("--lock", str(folder / "lock"))


class TestTraces:
    """What a runtime writes down lies in the working folder, and only for as long as it is read."""

    @pytest.mark.parametrize("ending", ["closed", signal.SIGTERM])
    def test_none_is_left_when_it_is_ended(
        self, contents: Contents, tmp_path: Path, ending: Any
    ) -> None:
        (tmp_path / "broken_runtime.py").write_text(RUNNING.format("ctypes.PyDLL(None).sleep(60)"))
        bundle = bundles.write(tmp_path / "bundle", contents.but(modules=["broken_runtime"]))
        work = tmp_path / "work"
        path = {"PYTHONPATH": str(tmp_path)}
        with benching(bundle, *QUICK, *working(work), env=path) as process:
            deadline = time.monotonic() + 20
            while not list(work.glob("staging/trace-*/onnxruntime*")):
                assert time.monotonic() < deadline
                time.sleep(0.02)
            if ending == "closed":
                assert process.stdin
                process.stdin.close()
            else:
                process.send_signal(ending)
            process.wait(10)
        assert not any((work / "staging").iterdir())

    def test_none_is_left_in_the_end(self, bundle: Path, tmp_path: Path) -> None:
        status, events = bench(
            bundle, *QUICK, *working(tmp_path / "work"), "--passes", "profile",
            env={"TMPDIR": str(tmp_path)},
        )  # fmt: skip
        assert status == 0
        assert only(events, "placement")
        assert only(events, "profile")["operations"]
        assert not any((tmp_path / "work/staging").iterdir())
        assert not list(tmp_path.glob("edgekit-*"))

    def test_where_none_can_be_written(self, bundle: Path, tmp_path: Path) -> None:
        options = working(tmp_path / "work")
        (tmp_path / "work/staging").touch()
        status, events = bench(bundle, *QUICK, *options, "--passes", "profile")
        assert status == 0
        assert "placement" not in kinds(events)
        assert only(events, "golden")["passed"]
        assert "no folder on the device" in only(events, "profile")["why"]

    @needs(INT8)
    def test_a_runtime_that_writes_none_needs_no_folder(self, tmp_path: Path) -> None:
        options = working(tmp_path / "work")
        (tmp_path / "work/staging").touch()
        bundle = bundles.write(tmp_path / "bundle", golden_of(INT8))
        status, events = bench(bundle, *QUICK, *options)
        assert (status, kinds(events)) == (0, COMPLETE)


class TestLock:
    def test_a_second_bench_does_not_measure_beside_the_first(
        self, bundle: Path, tmp_path: Path
    ) -> None:
        lock = ("--lock", str(tmp_path / "lock"))
        with benching(bundle, *LONG, *lock) as first:
            next_event(first)
            status, (waiting, error) = bench(bundle, *QUICK, *lock, "--lock-wait", "0.2")
            assert "waiting: another benchmark" in waiting["name"]
            assert (status, error["kind"]) == (1, "busy")
            first.kill()
            first.wait(10)
            assert bench(bundle, *QUICK, *lock, "--lock-wait", "5")[0] == 0

    def test_a_second_bench_waits_for_the_first(self, bundle: Path, tmp_path: Path) -> None:
        lock = ("--lock", str(tmp_path / "lock"))
        with benching(bundle, *QUICK, *lock):
            assert bench(bundle, *QUICK, *lock, "--lock-wait", "30")[0] == 0

    def test_one_device_measures_for_one_folder_at_a_time(
        self, bundle: Path, tmp_path: Path, device_lock: Path
    ) -> None:
        with benching(bundle, *LONG, *working(tmp_path / "one")) as first:
            next_event(first)
            second = (*QUICK, *working(tmp_path / "two"))
            status, (_, error) = bench(bundle, *second, "--lock-wait", "0.2")
            assert (status, error["kind"]) == (1, "busy")
            first.kill()
            first.wait(10)
            status, events = bench(bundle, *second)
            assert (status, only(events, "environment")["device_lock"]) == (0, str(device_lock))

    def test_every_user_can_hold_the_devices_lock(self, bundle: Path, tmp_path: Path) -> None:
        """Its owner's file mode creation mask, and that it is another's, do not matter."""
        path = tmp_path / "device.lock"
        env = {"EDGEKIT_DEVICE_LOCK": str(path)}
        mask = os.umask(0o077)
        try:
            bench(bundle, *QUICK, *working(tmp_path / "one"), env=env)
        finally:
            os.umask(mask)
        assert stat.S_IMODE(path.stat().st_mode) == 0o444
        if os.geteuid() == 0:
            os.chown(path, 12345, 12345)
        status, events = bench(bundle, *QUICK, *working(tmp_path / "two"), env=env)
        assert (status, only(events, "environment")["device_lock"]) == (0, str(path))

    @pytest.mark.parametrize("kind", ["nowhere", "link"])
    def test_where_the_device_has_none_it_is_said(
        self, bundle: Path, tmp_path: Path, kind: str
    ) -> None:
        path = tmp_path / "device.lock" if kind == "link" else tmp_path / "nowhere" / "lock"
        if kind == "link":
            path.symlink_to(tmp_path / "elsewhere")
        env = {"EDGEKIT_DEVICE_LOCK": str(path)}
        status, events = bench(bundle, *QUICK, *working(tmp_path / "work"), env=env)
        assert status == 0
        assert any("are not kept from measuring" in event.get("name", "") for event in events)
        assert only(events, "environment")["device_lock"] is None
        assert not (tmp_path / "elsewhere").exists()

    def test_a_link_is_no_lock(self, bundle: Path, tmp_path: Path) -> None:
        (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
        status, (error,) = bench(bundle, *QUICK, "--lock", str(tmp_path / "lock"))
        assert (status, error["kind"]) == (1, "device")
        assert not (tmp_path / "elsewhere").exists()


def gone(bundle: Path, within_s: float = 2.0) -> bool:
    """Whether nothing that was started on a bundle is left."""
    deadline = time.monotonic() + within_s
    while processes_of(bundle):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
