"""NVIDIA's own tool beside the runtime: what it says is believed only as far as it makes sense.

There is no such GPU here. The outputs are written after NVIDIA's sources and what the tool's users
publish; where it is run it is ``trtexec.py`` beside this file.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.runtime_stubs import bundles, trtexec
from tests.runtime_stubs.bundles import Contents
from tests.runtime_stubs.harness import (
    QUICK,
    Event,
    bench,
    benching,
    next_event,
    only,
    processes_of,
)

LABEL = "TensorRT.trtexec"
PARSE = """&&&& RUNNING TensorRT.trtexec [TensorRT v100300] # trtexec --onnx=m.onnx
[09/02/2024-17:35:22] [I] TensorRT version: 10.3.0
[09/02/2024-17:35:22] [W] [TRT] ModelImporter.cpp:1: a warning
[09/02/2024-17:35:22] [E] [TRT] ModelImporter.cpp:948: While parsing node number 7 [Tile -> "y"]:
[09/02/2024-17:35:22] [E] [TRT] ModelImporter.cpp:951: --- End node ---
[09/02/2024-17:35:22] [E] [TRT] ModelImporter.cpp:954: ERROR: ModelImporter.cpp:195 In function parseNode:
[6] Invalid Node - /Tile
[09/02/2024-17:35:22] [E] Failed to parse onnx file
[09/02/2024-17:35:22] [E] Engine set up failed
&&&& FAILED TensorRT.trtexec [TensorRT v100300] # trtexec --onnx=m.onnx
"""  # noqa: E501


# What it says: pure


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("&&&& PASSED TensorRT.trtexec [TensorRT v8601] # trtexec", ""),
        ("=== Help ===\n  --help, -h", ""),
        (PARSE, '[TRT] ModelImporter.cpp:948: While parsing node number 7 [Tile -> "y"]:'),
        (
            "[E] Error[10]: Could not find any implementation for node A.\n"
            "&&&& FAILED TensorRT.trtexec [TensorRT v8600] # trtexec",
            "Error[10]: Could not find any implementation for node A.",
        ),
        ("&&&& FAILED TensorRT.trtexec # trtexec", "&&&& FAILED TensorRT.trtexec # trtexec"),
        ("[I] Starting inference\nKilled", "Killed"),
        ("", "it said nothing"),
        # A model's name may say anything, but not at the beginning of a line.
        ("[I] Model: &&&& PASSED TensorRT.trtexec\nKilled", "Killed"),
    ],
)
def test_why_it_has_not_passed(runner: ModuleType, said: str, why: str) -> None:
    assert runner.trtexec_error(said) == why


@pytest.mark.parametrize(
    ("digits", "version"),
    [("8205", "8.2.5"), ("8601", "8.6.1"), ("100300", "10.3.0"), ("110201", "11.2.1")],
)
def test_the_version(runner: ModuleType, digits: str, version: str) -> None:
    said = f"&&&& RUNNING {LABEL} [TensorRT v{digits}] # trtexec --help\n"
    assert runner.trtexec_version(said) == version


def test_a_version_before_8_is_not_told(runner: ModuleType) -> None:
    with pytest.raises(runner.Failure, match="does not tell its version"):
        runner.trtexec_version(f"&&&& RUNNING {LABEL} # trtexec --help\n")


@pytest.mark.parametrize(
    ("version", "mode", "flags"),
    [
        ("10.3.0", "float16", ["--stronglyTyped"]),
        ("8.6.1", "float16", ["--fp16"]),
        ("8.6.1", "static", ["--int8"]),
        ("8.6.1", None, []),
        ("8.2.1", "static", ["--int8", "--workspace=1024"]),
    ],
)
def test_the_types_are_the_graphs_own(
    runner: ModuleType, version: str, mode: str | None, flags: list[str]
) -> None:
    recipe = {"quantization": mode and {"mode": mode}}
    assert runner.trtexec_types(version, recipe) == flags


def row(start: float, latency: float, **more: Any) -> Event:
    """A query, with the keys of releases 8.2 to 10 that are not looked at."""
    return {"startEnqMs": start, "startComputeMs": start, "latencyMs": latency, **more}


TRACE = [row(150.0, 9.0), row(200.0, 2.0), row(203.5, 2.2), row(206.0, 2.1, endToEndMs=4.0)]
SUMMARY_8_2 = """[I] === Performance summary ===
[I] Throughput: 481.898 qps
[I] Latency: min = 2 ms, max = 2.2 ms, mean = 2.1 ms, median = 2.1 ms, percentile(99%) = 2.2 ms
[I] End-to-End Host Latency: min = 3 ms, max = 4 ms, mean = 4 ms, median = 4 ms, percentile(99%) = 4 ms
"""  # noqa: E501
SUMMARY_10 = """[09/07/2024-21:35:18] [I] === Performance summary ===
[09/07/2024-21:35:18] [I] Latency: min = 2 ms, max = 2.2 ms, mean = 2.1 ms, median = 2.1 ms, percentile(90%) = 2.1 ms, percentile(95%) = 2.2 ms, percentile(99%) = 2.2 ms
[09/07/2024-21:35:18] [I] H2D Latency: min = 1 ms, max = 1 ms, mean = 1 ms, median = 1 ms, percentile(90%) = 1 ms, percentile(95%) = 1 ms, percentile(99%) = 1 ms
"""  # noqa: E501


@pytest.mark.parametrize("summary", [SUMMARY_8_2, SUMMARY_10])
def test_its_runs_without_those_of_warming_up(runner: ModuleType, summary: str) -> None:
    taken = runner.trtexec_samples(json.dumps(TRACE), summary, 200)
    assert taken == [2_000_000, 2_200_000, 2_100_000]


@pytest.mark.parametrize(
    ("trace", "summary", "why"),
    [
        ("", SUMMARY_10, "make no sense"),
        ("{}", SUMMARY_10, "no latency"),
        ('[{"latencyUs": 2}]', SUMMARY_10, "make no sense"),
        (json.dumps([row(200, float("nan"))]), SUMMARY_10, "make no sense"),
        (json.dumps([row(200, 0.0)]), SUMMARY_10, "no latency"),
        (json.dumps(TRACE[:1]), SUMMARY_10, "no latency"),
        (json.dumps(TRACE), "", "no latency"),
        (json.dumps(TRACE), SUMMARY_10.replace(" ms", " us"), "no latency in milliseconds"),
        (json.dumps([row(200, 2100.0)] * 3), SUMMARY_10, "contradicts itself"),
    ],
)
def test_runs_without_sense(runner: ModuleType, trace: str, summary: str, why: str) -> None:
    with pytest.raises(runner.Failure, match=why):
        runner.trtexec_samples(trace, summary, 200)


def test_its_outputs(runner: ModuleType) -> None:
    text = """[
  { "name" : "inf, nan"
  , "dimensions" : "1x3"
  , "values" : [ 1.5, -inf, nan ]
  }
, { "name" : "y", "dimensions" : "1", "values" : [ -3 ]
  }
]"""
    found = runner.trtexec_outputs(text)
    assert found["y"] == [-3.0]
    assert str(found["inf, nan"]) == "[1.5, -inf, nan]"
    for odd in ("", "[1]", '[{"name": "y"}]', '[{"name": "y", "values": ["a"]}]'):
        with pytest.raises(runner.Failure, match="make no sense"):
            runner.trtexec_outputs(odd)


# Beside a bench

Benched = Callable[..., tuple[Event, list[Event]]]


@pytest.fixture
def benched(contents: Contents, tmp_path: Path) -> Benched:
    """Benches a bundle where there is a trtexec; what was told of that, and all."""
    found, work = trtexec.install(tmp_path / "bin"), tmp_path / "work"
    work.mkdir()
    bundle = bundles.write(tmp_path / "bundle", contents)

    def run(*, path: str = found, **env: str) -> tuple[Event, list[Event]]:
        options = ("--lock", str(work / "lock"), "--engines", str(work / "engines"))
        status, events = bench(
            bundle, *QUICK, *options, "--passes", "trtexec", env={"PATH": path, **env}
        )
        assert status == 0
        assert not any((work / "staging").iterdir())
        return only(events, "trtexec"), events

    return run


@pytest.mark.parametrize(("number", "version"), [("8205", "8.2.5"), ("100300", "10.3.0")])
def test_it_measures_an_engine_that_agrees(
    benched: Benched, tmp_path: Path, number: str, version: str
) -> None:
    told, events = benched(TRTEXEC_VERSION=number)
    assert told["version"] == version
    assert told["built_s"] > 0
    assert told["max_error"] < 1e-5
    assert [process[:2] for process in told["processes_ns"]] == [[1_000_000, 1_001_000]] * 5
    assert only(events, "golden")["passed"]
    assert "PASSED" in Path(told["log"]).read_text()
    assert Path(told["log"]).parents[2] == tmp_path / "work/engines"
    again, _ = benched(TRTEXEC_VERSION=number)
    assert again["built_s"] is None
    newer, _ = benched(TRTEXEC_VERSION="100400")
    assert newer["built_s"] > 0


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ("build", "trtexec failed: [TRT] ModelImporter.cpp:195"),
        ("crash", "trtexec ended by SIGABRT; all that it said is in "),
        ("no engine", "wrote no engine"),
        ("no program", "Exec format error"),
        ("no verdict", "trtexec failed: "),
        ("wrong", "is off by 1 where 0.001 is allowed; no figure is reported"),
        ("nan", "is off by inf"),
        ("no latency", "told no latency"),
        ("microseconds", "told no latency in milliseconds"),
        ("contradiction", "contradicts itself"),
    ],
)
def test_why_there_is_no_figure(benched: Benched, tmp_path: Path, fault: str, why: str) -> None:
    if fault == "no program":
        (tmp_path / "bin/trtexec").write_bytes(b"\x7fELF")
    told, events = benched(TRTEXEC_FAULT=fault)
    assert why in told["why"]
    assert "processes_ns" not in told
    assert only(events, "environment"), "the runtime's own figures are not lost for it"


def test_an_engine_that_was_not_finished_is_built_anew(benched: Benched) -> None:
    benched(TRTEXEC_FAULT="no verdict")
    told, _ = benched()
    assert told["built_s"] > 0


def test_where_there_is_none(benched: Benched, tmp_path: Path) -> None:
    told, _ = benched(path=str(tmp_path))
    assert "no trtexec, neither on the PATH nor as /usr/src/tensorrt/bin" in told["why"]


def test_it_ends_with_whoever_started_it(contents: Contents, tmp_path: Path) -> None:
    env = {"PATH": trtexec.install(tmp_path / "bin"), "TRTEXEC_FAULT": "hang"}
    bundle = bundles.write(tmp_path / "bundle", contents)
    options = ("--lock", str(tmp_path / "lock"), "--passes", "trtexec")
    with benching(bundle, *QUICK, *options, env=env) as process:
        while "trtexec pass" not in next_event(process).get("name", ""):
            pass
        deadline = time.monotonic() + 20
        while not any(b"trtexec" in argv and b"--onnx" in argv for argv in commands(bundle)):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.kill()
        deadline = time.monotonic() + 5
        while processes_of(bundle):
            assert time.monotonic() < deadline
            time.sleep(0.05)


def commands(bundle: Path) -> list[bytes]:
    """What is running on a bundle; one that has just ended says nothing."""
    found = []
    for pid in processes_of(bundle):
        with suppress(OSError):
            found.append(Path(f"/proc/{pid}/cmdline").read_bytes())
    return found
