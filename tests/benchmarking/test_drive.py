"""The drive against the real runner here, and against devices that say what they like."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console, RenderableType

from edgekit import devices
from edgekit.benchmarking import Settings, as_json, benchmark, load, save
from edgekit.devices.transport import Completed, Transport
from edgekit.domain import BenchmarkResult, Target
from edgekit.errors import (
    DeviceError,
    DeviceRuntimeMissing,
    EdgekitError,
    GoldenMismatch,
    InputError,
    RunnerFailed,
    UsageError,
)
from edgekit.report import measurements
from tests.benchmarking.deployed import RUNTIME, Deployed, deploy, replaced
from tests.runtime_stubs import trtexec

QUICK = Settings(runs=20, seconds=0.05, warmup_runs=1, warmup_seconds=0.01, processes=2)


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Transport]:
    workdir = tmp_path / "work"
    workdir.mkdir()
    with devices.connect(devices.parse(f"local:{workdir}")) as transport:
        yield transport


def measured(transport: Any, deployed: Deployed, settings: Settings = QUICK) -> BenchmarkResult:
    return benchmark(
        transport, deployed.bundle, deployed.deployment, deployed.facts, RUNTIME, settings
    )


def said(shown: RenderableType) -> str:
    """What a person reads, each cell on one line."""
    console = Console(width=400, file=StringIO(), record=True)
    console.print(shown)
    return console.export_text()


class TestHere:
    """The runner itself, on this machine."""

    def test_a_result_carries_all_it_takes_to_compare_it(
        self, local: Transport, tmp_path: Path
    ) -> None:
        deployed = deploy(tmp_path)
        result = measured(local, deployed)
        assert result.bundle_sha256 == deployed.bundle.sha256
        assert result.artifact_sha256 == deployed.bundle.manifest.artifact.sha256
        assert result.runtime == RUNTIME
        assert result.golden.passed
        assert result.golden.sample_count == 5
        assert result.golden.max_error < 1e-5
        assert len(result.processes) == 2
        assert all(len(process.samples_ns) >= 20 for process in result.processes)
        assert result.pushed_bytes == 123
        assert result.environment["clock"]

    def test_a_slow_moment_of_the_device_is_told(self, local: Transport, tmp_path: Path) -> None:
        deployed = deploy(tmp_path)
        measured(local, deployed)
        place = tmp_path / "work" / "counting.json"
        place.write_text(json.dumps({key: [1000] for key in json.loads(place.read_text())}))
        document = as_json(measured(local, deployed))
        assert document["environment"]["least_counting_ns"] == 1000
        assert document["latency_ms"]["unstable"]
        shown = said(measurements.measured(document))
        assert document["latency_ms"]["unstable_why"] in " ".join(shown.split())

    def test_the_recipes_threads_are_capped_by_the_devices_cores(
        self, local: Transport, tmp_path: Path
    ) -> None:
        deployed = deploy(tmp_path, cores=2)
        assert measured(local, deployed).threads == 2
        assert measured(local, deployed, msgspec.structs.replace(QUICK, threads=1)).threads == 1

    def test_every_pass_is_kept_and_survives_the_file(
        self, local: Transport, tmp_path: Path
    ) -> None:
        asked = msgspec.structs.replace(QUICK, profile=True, sustained_s=0.3)
        result = measured(local, deploy(tmp_path), asked)
        assert result.placement
        assert result.placement.operations == {"CPUExecutionProvider": 2}
        assert result.profile
        assert [one.kind for one in result.profile.operations] == ["MatMul", "Relu"]
        assert result.sustained
        assert len(result.sustained.windows) > 1
        assert result.energy
        save(result, tmp_path / "result.json")
        assert load(tmp_path / "result.json") == result
        document = as_json(result)
        assert document["sustained_ms"]["first"] > 0
        assert (document["energy_figures"] is None) == bool(result.energy.why)

    def test_nvidias_own_tool_has_figures_of_its_own(
        self, local: Transport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PATH", trtexec.install(tmp_path / "bin"))
        asked = msgspec.structs.replace(QUICK, trtexec=True, memory=False, energy=False)
        result = measured(local, deploy(tmp_path), asked)
        assert result.trtexec
        assert result.trtexec.version == "10.3.0"
        save(result, tmp_path / "result.json")
        assert load(tmp_path / "result.json") == result
        document = as_json(result)
        assert document["trtexec_ms"]["n"] == 100
        assert document["trtexec_ms"]["p50"] == pytest.approx(1.0095)
        assert document["latency_ms"]["n"] == len(result.samples_ns)
        shown = said(measurements.measured(document))
        assert "1.01 ms (95 %: 1.0" in shown
        assert "TensorRT 10.3.0, its own engine built in" in shown
        monkeypatch.setenv("TRTEXEC_FAULT", "wrong")
        document = as_json(measured(local, deploy(tmp_path / "again"), asked))
        assert document["trtexec_ms"] is None
        assert "no figure is reported" in said(measurements.measured(document))

    def test_what_nobody_asked_for_is_not_done(self, local: Transport, tmp_path: Path) -> None:
        bare = msgspec.structs.replace(QUICK, memory=False, energy=False)
        result = measured(local, deploy(tmp_path), bare)
        assert (result.peak_memory_bytes, result.energy, result.profile) == (None, None, None)
        assert as_json(result)["sustained_ms"] is None
        assert (result.trtexec, as_json(result)["trtexec_ms"]) == (None, None)

    def test_progress_is_told(self, local: Transport, tmp_path: Path) -> None:
        said: list[str] = []
        made = deploy(tmp_path)
        benchmark(local, made.bundle, made.deployment, made.facts, RUNTIME, QUICK, said.append)
        assert said[0].startswith("golden vectors agree")
        assert said[1:3] == ["process 1 of 2 measured", "process 2 of 2 measured"]

    def test_a_golden_mismatch_names_error_and_tolerance(
        self, local: Transport, tmp_path: Path
    ) -> None:
        with pytest.raises(GoldenMismatch) as caught:
            measured(local, deploy(tmp_path, golden_error=0.5))
        assert "'y' is off by 0.5 where 0.0001 is allowed; no figure" in caught.value.message

    def test_a_byte_changed_on_the_device_is_refused(
        self, local: Transport, tmp_path: Path
    ) -> None:
        deployed = deploy(tmp_path)
        model = deployed.bundle.root / "model.onnx"
        content = bytearray(model.read_bytes())
        content[len(content) // 2] ^= 1
        model.write_bytes(content)
        with pytest.raises(DeviceError, match=r"model\.onnx is not what was bundled"):
            measured(local, deployed)

    def test_an_interpreter_without_the_runtime_is_named(
        self, local: Transport, tmp_path: Path
    ) -> None:
        deployed = deploy(tmp_path)
        absent = msgspec.structs.replace(RUNTIME, module="no_such_runtime")
        with pytest.raises(DeviceRuntimeMissing, match="no_such_runtime"):
            benchmark(local, deployed.bundle, deployed.deployment, deployed.facts, absent, QUICK)

    def test_no_such_interpreter(self, local: Transport, tmp_path: Path) -> None:
        deployed = replaced(deploy(tmp_path), python="/nowhere/python3")
        with pytest.raises(RunnerFailed, match="status 127"):
            measured(local, deployed)

    def test_json_round_trip(self, local: Transport, tmp_path: Path) -> None:
        result = measured(local, deploy(tmp_path))
        save(result, tmp_path / "result.json")
        assert load(tmp_path / "result.json") == result
        promised = {
            "bundle_sha256", "artifact_sha256", "device", "runtime", "golden", "latency_ms",
            "throughput_per_s", "first_load_ms", "first_inference_ms", "peak_memory_bytes",
            "energy_mj", "pushed_bytes", "valid", "why_invalid", "processes",
        }  # fmt: skip
        saved = json.loads((tmp_path / "result.json").read_bytes())
        assert promised <= saved.keys()
        assert saved["latency_ms"].keys() >= {"n", "p50", "p90", "p99", "mean", "mad"}
        assert saved["latency_ms"]["p50"] == as_json(result)["latency_ms"]["p50"]


def test_what_is_no_result_is_not_loaded(tmp_path: Path) -> None:
    (tmp_path / "odd.json").write_text('{"latency_ms": 3}')
    for name in ("odd.json", "absent.json"):
        with pytest.raises(InputError):
            load(tmp_path / name)


@pytest.mark.parametrize(
    "change",
    [
        {"sustained_s": 0.0},
        {"sustained_s": 1e9},
        {"sustained_s": float("nan")},
        {"runs": 0},
        {"processes": 0},
        {"seconds": -1.0},
        {"seconds": float("nan")},
        {"threads": 0},
    ],
)
def test_settings_without_sense_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        Settings(**change)


@dataclass
class Scripted:
    """A transport to a device that says what it was told to, whatever it is asked."""

    said: Sequence[str]
    end: Completed = field(default_factory=lambda: Completed(exit_status=0))
    workdir: str = "/work"
    target: Target = field(default_factory=lambda: Target(transport="local"))

    @contextmanager
    def stream(self, argv: Sequence[str], *, timeout_s: float) -> Iterator[Scripted]:
        yield self

    def lines(self) -> Iterator[str]:
        yield from self.said

    def beat(self) -> None:
        """It listens to nobody."""

    def completed(self) -> Completed:
        return self.end


def line(event: str, **fields: Any) -> str:
    return json.dumps({"event": event, **fields})


def golden(**changes: Any) -> str:
    runtime = {"name": "onnxruntime", "module": "onnxruntime", "version": "1.31.1"}
    fields = {
        "passed": True, "max_error": 0.0, "worst_output": "y", "worst_error": 0.0,
        "tolerance": 0.1, "sample_count": 5, "runtime": runtime,
    }  # fmt: skip
    return line("golden", **{**fields, **changes})


def process(samples: Sequence[int] = (1000,) * 20) -> str:
    return line("process", first_load_ns=9, first_inference_ns=9, samples_ns=samples)


def windows(*begins: float) -> list[dict[str, float]]:
    return [{"at_s": at_s, "runs": 1, "median_ns": 1000} for at_s in begins]


MEMORY = line("memory", peak_memory_bytes=1)
ENERGY = line("energy", why="there is no sensor")
ENVIRONMENT = line("environment", before={}, after={})
DONE = line("done")
GOOD = (golden(), process(), process(), MEMORY, ENERGY, ENVIRONMENT, DONE)


class TestWhatADeviceMaySay:
    """Only the whole and right sequence becomes a result."""

    @pytest.fixture
    def deployed(self, tmp_path: Path) -> Deployed:
        return deploy(tmp_path)

    def test_the_right_sequence(self, deployed: Deployed) -> None:
        assert measured(Scripted(GOOD), deployed).samples_ns == (1000,) * 40

    @pytest.mark.parametrize("missing", range(len(GOOD)))
    def test_nothing_may_be_missing(self, deployed: Deployed, missing: int) -> None:
        with pytest.raises(RunnerFailed):
            measured(Scripted([*GOOD[:missing], *GOOD[missing + 1 :]]), deployed)

    @pytest.mark.parametrize("twice", range(len(GOOD)))
    def test_nothing_may_come_twice(self, deployed: Deployed, twice: int) -> None:
        with pytest.raises(RunnerFailed):
            measured(Scripted([*GOOD[: twice + 1], *GOOD[twice:]]), deployed)

    @pytest.mark.parametrize(
        "odd",
        [
            "",
            "Last login: today",
            "null",
            "[]",
            '{"event": "result"}',
            process([]),
            process([1.5] * 20),  # type: ignore[list-item]
            process([-1] * 20),
            process([10**30] * 20),
            process([1000] * 19),
            golden(max_error="small"),
            golden(sample_count=0),
            golden(worst_output="\x1b[2J"),
            line("environment", before={"governor": "\x1b]0;title\x07"}, after={}),
            line("memory", peak_memory_bytes=-1),
            line("energy", source="\x1b[2J"),
            line(
                "energy",
                source="rapl",
                idle={"seconds": 0, "watts": 1, "deviation_w": 0, "readings": 9},
            ),
            line("sustained", before={}, windows=[]),
            line("sustained", before={}, windows=[{"at_s": 0, "runs": 1, "median_ns": 0}]),
            line("sustained", before={}, windows=windows(5, 6)),
            line("sustained", before={}, windows=windows(0, 5, 4)),
            line("sustained", before={}, windows=windows(0, 1e300)),
            line("profile", operations=[{"name": "a", "kind": "b", "where": "c", "median_ns": -1}]),
            line("placement", compute_units="\x07", operations=None),
        ],
    )
    def test_an_odd_line_is_refused(self, deployed: Deployed, odd: str) -> None:
        with pytest.raises(RunnerFailed) as caught:
            measured(Scripted([golden(), odd, *GOOD[1:]]), deployed)
        assert "\x1b" not in str(caught.value)

    def test_two_windows_may_begin_in_one_millisecond(self, deployed: Deployed) -> None:
        said = line("sustained", before={}, windows=windows(0.001, 0.001, 0.002))
        assert measured(Scripted([golden(), said, *GOOD[1:]]), deployed).sustained

    def test_energy_is_beyond_idling(self, deployed: Deployed) -> None:
        idle = {"seconds": 10, "watts": 2.0, "deviation_w": 0.1, "readings": 100}
        seen = line(
            "energy", source="rapl", rail="package-0", resolution_w=1e-6, runs=500,
            idle=idle, busy={**idle, "watts": 5.0},
        )  # fmt: skip
        result = measured(Scripted([*GOOD[:4], seen, *GOOD[5:]]), deployed)
        assert result.energy_mj == pytest.approx(60)
        assert as_json(result)["energy_figures"]["idle_watts"] == 2

    def test_names_of_operations_are_disarmed(self, deployed: Deployed) -> None:
        """They come from the model, which comes from anywhere."""
        asked = msgspec.structs.replace(QUICK, profile=True)
        odd = {"name": "a\x1b[31mb" + "x" * 900, "kind": "c\n", "where": "d", "median_ns": 1}
        said = [*GOOD[:5], line("profile", runs=3, operations=[odd]), *GOOD[5:]]
        result = measured(Scripted(said), deployed, asked)
        assert result.profile
        (one,) = result.profile.operations
        assert "\x1b" not in one.name
        assert len(one.name) < 300

    def test_figures_after_a_failed_comparison_are_not_looked_at(self, deployed: Deployed) -> None:
        failed = golden(passed=False, max_error=None, worst_error=None)
        with pytest.raises(GoldenMismatch, match="not a number"):
            measured(Scripted([failed, *GOOD[1:]]), deployed)

    @pytest.mark.parametrize(
        ("kind", "expected"),
        [
            ("golden", GoldenMismatch),
            ("runtime-missing", DeviceRuntimeMissing),
            ("busy", DeviceError),
            ("bundle", DeviceError),
            ("crashed", RunnerFailed),
            ("hung", RunnerFailed),
            ("never heard of", RunnerFailed),
        ],
    )
    def test_errors_are_typed_and_their_texts_cleaned(
        self, deployed: Deployed, kind: str, expected: type[EdgekitError]
    ) -> None:
        error = line("error", kind=kind, message="it \x1b[31mfell\x1b[0m over", hint="\x07get up")
        with pytest.raises(expected) as caught:
            measured(Scripted([golden(), error]), deployed)
        assert type(caught.value) is expected
        assert caught.value.message == "local: it fell over"
        assert caught.value.hint == "get up"

    def test_a_runner_of_another_version_is_named(self, deployed: Deployed) -> None:
        error = line("error", kind="usage", message="unrecognized arguments: --new", hint="usage:")
        with pytest.raises(RunnerFailed, match="--new") as caught:
            measured(Scripted([error]), deployed)
        assert "build the bundle anew" in caught.value.hint

    @pytest.mark.parametrize(
        ("end", "said"),
        [
            (Completed(exit_status=None, signal="SIGKILL"), "SIGKILL"),
            (Completed(exit_status=3, stderr=b"x" * 9000 + b"\x1b[1mTraceback"), "Traceback"),
        ],
    )
    def test_an_end_without_a_word_is_named(
        self, deployed: Deployed, end: Completed, said: str
    ) -> None:
        with pytest.raises(RunnerFailed) as caught:
            measured(Scripted(GOOD[:2], end), deployed)
        assert said in caught.value.message
        assert "\x1b" not in caught.value.message
        assert len(caught.value.message) < 3000
