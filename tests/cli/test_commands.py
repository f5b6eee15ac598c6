"""Every command does its work, says so to people, and to programs in one JSON object."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import zipfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
from msgspec import structs
from onnx import TensorProto, helper, numpy_helper

from edgekit import calibrations
from edgekit.planning import rates
from tests.cli.conftest import DATA, Edgekit
from tests.paths import DIGITS_MODEL

pytestmark = pytest.mark.xdist_group("digits-bundle")
REFERENCE = rates._reference()[0]
COMMANDS = (
    "devices",
    "inspect",
    "plan",
    "init",
    "build",
    "verify",
    "check",
    "push",
    "bench",
    "compare",
    "toolchain",
)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(edgekit: Edgekit, command: str) -> None:
    ran = edgekit(command, "--help")
    assert ran.code == 0
    assert f"example: edgekit {command}" in " ".join(ran.stdout.split())
    assert "--json" in ran.stdout


def test_devices(edgekit: Edgekit) -> None:
    listed = edgekit("devices", "--json").json["devices"]
    assert len(listed) >= 24
    assert "raspberry-pi-5" in edgekit("devices").stdout
    one = edgekit("devices", "jetson-orin-nano", "--json").json
    assert one["memory"]["total_mib"] == 8192


def test_a_device_is_asked_what_it_is_and_becomes_a_profile(
    edgekit: Edgekit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    told = edgekit("devices", "probe", "--on", "local", "--json").json
    assert told["clusters"][0]["cores"] >= 1
    assert told["pythons"][0]["runtimes"]
    assert "cores" in edgekit("devices", "probe").stdout

    added = edgekit("devices", "add", "this-one", "--on", "local", "--json").json
    assert Path(added["path"]) == tmp_path / "edgekit/devices/this-one.toml"
    assert "power" in added["estimates"]
    assert edgekit("devices", "this-one", "--json").json == added["profile"]
    assert edgekit("plan", DIGITS_MODEL, "--device", "this-one").code == 0

    again = edgekit("devices", "add", "this-one", "--json")
    assert (again.code, again.error["kind"]) == (2, "profile")
    assert edgekit("devices", "add", "this-one", "--force").code == 0


def test_inspect(edgekit: Edgekit) -> None:
    found = edgekit("inspect", DIGITS_MODEL, "--json").json
    assert found["parameters"] == 9930
    assert found["operators"]["Conv"] == 2
    assert found["inputs"] == [{"name": "image", "shape": [1, 1, 8, 8], "dtype": "float32"}]
    before, after = found["clean_up"]["before"], found["clean_up"]["after"]
    assert after["nodes"] == len(found["nodes"]) <= before["nodes"]
    assert after["macs"] == before["macs"] == found["macs"]
    assert {one["name"] for one in found["clean_up"]["passes"]} >= {"fold", "fuse", "transpose"}
    shown = edgekit("inspect", DIGITS_MODEL).stdout
    assert "conv2" in shown
    assert "transposes" in shown


def test_plan(edgekit: Edgekit) -> None:
    ran = edgekit("plan", DIGITS_MODEL, "--device", "pixel-8", "--json")
    document = ran.json
    assert document["device"] == "pixel-8"
    first = document["candidates"][0]
    for figure in ("latency_ms", "peak_memory_bytes", "size_bytes", "energy_mj"):
        span = first["prediction"][figure]
        assert 0 < span["low"] <= span["mid"] <= span["high"]
    assert all(rejection["reason"] for rejection in document["rejected"])


def test_plan_explains_itself(edgekit: Edgekit) -> None:
    words = ("plan", DIGITS_MODEL, "--device", "jetson-orin-nano", "--power-mode", "7w")
    told = edgekit(*words, "--json").json
    assert any(candidate["pareto"] for candidate in told["candidates"])
    explanation = told["explanation"]
    assert explanation["limits"][0].startswith("7 W in 7w")
    assert explanation["layers"][0]["name"] in ("conv1", "conv2")
    assert all(other["latency"] > 0 for other in explanation["alternatives"])
    said = " ".join(edgekit(*words).stdout.split())
    for sentence in ("7 W in 7w", "Where its time goes:", "Memory: ", "conv2", "in the 7w mode"):
        assert sentence in said
    wrong = edgekit(*words[:-1], "9w", "--json")
    assert (wrong.code, wrong.error["hint"]) == (2, "it has 15w, 7w")


def test_plan_leaves_a_calibration_of_another_machine_alone(
    edgekit: Edgekit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    found = structs.replace(REFERENCE, device="raspberry-pi-5", fingerprint="another")
    calibrations.save(found)
    words = ("plan", DIGITS_MODEL, "--device", "raspberry-pi-5", "--json")
    assert edgekit(*words).json["basis"].startswith(f"calibrated on {found.made}")
    said = edgekit(*words, "--on", f"local:{tmp_path}/device").json["basis"]
    assert "is not used: it is of another machine" in said


def test_build_measures_when_asked(edgekit: Edgekit, tmp_path: Path) -> None:
    out = tmp_path / "best.edgekit"
    words = ("build", DIGITS_MODEL, "--device", "generic-x86-64", *DATA, "-o", out)
    pointless = edgekit(*words, "--on", "local", "--json")
    assert (pointless.code, pointless.error["kind"]) == (2, "usage")
    narrow = ("--format", "onnxruntime", "--precision", "float32")
    ran = edgekit(*words, *narrow, "--measure", "--on", f"local:{tmp_path / 'device'}", "--json")
    (measured,) = ran.json["measured"]
    assert measured["outcome"] == "chosen"
    assert measured["latency_ms"]["mid"] > 0
    assert measured["prediction"]["latency_ms"]["mid"] > 0
    assert "measure: float32 on onnxruntime (cpu), round 1" in ran.stderr
    assert edgekit("verify", out).code == 0


def test_build_says_what_it_made(edgekit: Edgekit, digits_bundle: Path, tmp_path: Path) -> None:
    """The second build is the first one's bytes, from the cache."""
    again = tmp_path / "again.edgekit"
    ran = edgekit("build", DIGITS_MODEL, "--device", "raspberry-pi-5", *DATA, "-o", again, "--json")
    document = ran.json
    assert document["cached"] is True
    assert again.read_bytes() == digits_bundle.read_bytes()
    assert document["validation"]["passed"] is True
    assert document["validation"]["sample_count"] == 597
    with zipfile.ZipFile(again) as archive:
        artifact = archive.read(document["artifact"]["path"])
    assert hashlib.sha256(artifact).hexdigest() == document["artifact"]["sha256"]
    assert len(artifact) == document["artifact"]["size_bytes"]


def test_a_build_without_the_cache_gives_the_same_bytes(
    edgekit: Edgekit, digits_bundle: Path, tmp_path: Path
) -> None:
    fresh = tmp_path / "fresh.edgekit"
    words = ("build", DIGITS_MODEL, "--device", "raspberry-pi-5", *DATA, "-o", fresh, "--no-cache")
    document = edgekit(*words, "--json").json
    assert document["cached"] is False
    assert fresh.read_bytes() == digits_bundle.read_bytes()


def test_progress_goes_to_standard_error(edgekit: Edgekit, tmp_path: Path) -> None:
    words = ("build", DIGITS_MODEL, "--device", "generic-x86-64", *DATA, "--no-cache", "--json")
    ran = edgekit(*words, "--format", "onnxruntime", "-o", tmp_path / "x.edgekit")
    assert ran.code == 0
    json.loads(ran.stdout)
    for stage in ("source", "inspect", "plan", "reference", "convert", "validate", "bundle"):
        assert f"{stage}: " in ran.stderr


def test_verify(edgekit: Edgekit, digits_bundle: Path) -> None:
    ran = edgekit("verify", digits_bundle, "--json")
    assert ran.json["verified"] is True
    told = " ".join(edgekit("verify", digits_bundle).stdout.split())
    assert "every digest is right" in told


def test_push_and_bench_here(edgekit: Edgekit, digits_bundle: Path, tmp_path: Path) -> None:
    on = f"local:{tmp_path / 'device'}"
    pushed = edgekit("push", digits_bundle, "--on", on, "--json").json
    assert pushed["pushed_bytes"] > 0
    result = tmp_path / "result.json"
    quick = ("--runs", 20, "--seconds", 0.05, "--processes", 2)
    ran = edgekit("bench", digits_bundle, "--on", on, *quick, "-o", result, "--json")
    document = ran.json
    assert document["pushed_bytes"] == 0
    assert document["golden"]["passed"] is True
    assert document["latency_ms"]["n"] >= 40
    assert document["latency_ms"]["p50"] > 0
    assert document["throughput_per_s"] > 0
    assert document["first_load_ms"] > 0
    assert document["first_inference_ms"] > 0
    assert document["bundle_sha256"] == pushed["bundle_sha256"]
    assert document["energy"]["source"] or document["energy_mj"] is None
    assert json.loads(result.read_text())["latency_ms"] == document["latency_ms"]


def test_bench_takes_its_time_and_looks_inside(
    edgekit: Edgekit, digits_bundle: Path, tmp_path: Path
) -> None:
    on = ("--on", f"local:{tmp_path / 'device'}", "--no-energy")
    narrow = ("--runs", 5, "--seconds", 0.01, "--processes", 1)
    long = ("--sustained", 0.005, "--profile")
    document = edgekit("bench", digits_bundle, *on, *narrow, *long, "--json").json
    assert document["energy"] is None
    found = document["sustained_ms"]
    assert found["minutes"] == pytest.approx(0.005, rel=0.5)
    assert found["slowdown"] == pytest.approx(found["settled"] / found["first"])
    assert sum(document["placement"]["operations"].values()) > 0
    said = edgekit("bench", digits_bundle, *on, *narrow, *long).stdout
    assert "The long run" in said
    assert "operation" in said
    forever = edgekit("bench", digits_bundle, *on, "--sustained", "-1", "--json")
    assert (forever.code, forever.error["kind"]) == (2, "usage")


def test_compare_says_which_is_faster(
    edgekit: Edgekit, digits_bundle: Path, tmp_path: Path
) -> None:
    """Two networks in two runtimes: the one computes a thousand times as much as the other."""
    narrow = ("--device", "raspberry-pi-5", "--format", "onnxruntime", "--precision", "float32")
    slow = tmp_path / "slow.edgekit"
    onnx.save(_chain(8), tmp_path / "chain.onnx")
    assert edgekit("build", tmp_path / "chain.onnx", *narrow, "-o", slow).code == 0
    here = ("--on", f"local:{tmp_path / 'device'}", "--pairs", "5", "--seconds", "0.05")
    found = edgekit("compare", digits_bundle, slow, *here, "--json").json
    assert found["verdict"] == "slower"
    assert found["ratio"]["low"] > 2
    assert found["ratio"]["pairs"] == 5
    assert [row["bundle"] for row in found["rows"]] == [str(digits_bundle), str(slow)]
    assert [row["runtime"]["name"] for row in found["rows"]] == ["litert", "onnxruntime"]
    assert found["rows"][0]["latency_ms"]["p50"] < found["rows"][1]["latency_ms"]["p50"]
    few = edgekit("compare", digits_bundle, slow, "--pairs", "4", "--json")
    assert (few.code, few.error["kind"]) == (2, "usage")


def _chain(depth: int) -> onnx.ModelProto:
    """Convolutions one after another: what takes eight times as long is slower on any machine."""
    weight = np.random.default_rng(0).normal(0, 0.1, (32, 32, 3, 3)).astype(np.float32)
    names = [f"t{number}" for number in range(depth + 1)]
    nodes = [
        helper.make_node("Conv", [one, "w"], [other], pads=[1] * 4)
        for one, other in pairwise(names)
    ]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 32, 16, 16])
        for name in (names[0], names[-1])
    ]
    graph = helper.make_graph(
        nodes, "chain", ends[:1], ends[1:], [numpy_helper.from_array(weight, "w")]
    )
    opsets = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def test_toolchain_lists_what_it_runs(edgekit: Edgekit) -> None:
    tools = edgekit("toolchain", "list", "--json").json["tools"]
    assert {tool["name"]: tool["version"] for tool in tools} == {
        "onnx2tf": "2.6.9",
        "tensorflow": "2.21.0",
    }


def test_what_was_not_tried_is_said(edgekit: Edgekit, tmp_path: Path) -> None:
    words = ("build", DIGITS_MODEL, "--device", "generic-x86-64", "-o", tmp_path / "x.edgekit")
    document = edgekit(*words, "--format", "onnxruntime", "--no-cache", "--json").json
    assert any("calibration" in note and "int8-static" in note for note in document["notes"])
    assert document["validation"]["data"] == "random"


def test_a_hang_up_that_is_ignored_stays_ignored() -> None:
    """`nohup edgekit build ...` outlives its terminal."""
    code = (
        "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "from edgekit.cli import main; main(['devices'])\n"
        "assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
