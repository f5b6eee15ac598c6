"""The runner's passes beside the latency: placement, profile, energy and the long run."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.runtime_stubs import bundles
from tests.runtime_stubs.bundles import Contents, Tensor
from tests.runtime_stubs.harness import QUICK, Event, bench, kinds, only
from tests.runtime_stubs.litert_models import INT8, golden_of, needs

LARGE, SMALL = 400, 2


@pytest.fixture
def uneven(tmp_path: Path) -> Path:
    """A bundle of two products, of which one is two hundred times the work of the other."""
    sizes = (LARGE, LARGE, SMALL)
    weights = [np.full(pair, 0.01, np.float32) for pair in pairwise(sizes)]
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w0"], ["h"], name="large"),
            helper.make_node("Tanh", ["h"], ["t"], name="between"),
            helper.make_node("MatMul", ["t", "w1"], ["y"], name="small"),
        ],
        "uneven",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [LARGE, LARGE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [LARGE, SMALL])],
        [numpy_helper.from_array(weight, f"w{i}") for i, weight in enumerate(weights)],
    )
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), tmp_path / "m.onnx")
    x = np.random.default_rng(0).normal(size=(1, LARGE, LARGE)).astype(np.float32)
    y = np.tanh(x @ weights[0]) @ weights[1]
    contents = Contents(
        tmp_path / "m.onnx", "onnxruntime", ["onnxruntime"], [Tensor("x", x)], [Tensor("y", y)]
    )
    return bundles.write(tmp_path / "uneven", contents)


def passes(bundle: Path, *names: str, **options: Any) -> list[Event]:
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    status, events = bench(bundle, *QUICK, "--passes", ",".join(names), *words)
    assert status == 0, events
    return events


def test_only_what_is_asked_for(bundle: Path) -> None:
    assert "memory" not in kinds(passes(bundle))
    said = kinds(passes(bundle, "profile", "memory", "energy"))
    assert said[-5:] == ["memory", "energy", "profile", "environment", "done"]


class TestPlacement:
    def test_onnxruntime(self, uneven: Path) -> None:
        placement = only(passes(uneven), "placement")
        assert placement["compute_units"] == "CPUExecutionProvider"
        assert placement["operations"] == {"CPUExecutionProvider": 3}
        assert placement["partitions"] == {"CPUExecutionProvider": 1}

    @needs(INT8)
    def test_litert(self, tmp_path: Path) -> None:
        """What it says of the model's nodes adds up: each is in one place."""
        events = passes(bundles.write(tmp_path / "bundle", golden_of(INT8)))
        placement = only(events, "placement")
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        plain = Interpreter(
            str(INT8),
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        )
        plain.allocate_tensors()
        assert sum(placement["operations"].values()) == len(plain._get_ops_details())
        assert placement["operations"]["xnnpack"] >= placement["partitions"]["xnnpack"] >= 1


class TestProfile:
    def test_the_heavy_operation_is_found(self, uneven: Path) -> None:
        found = only(passes(uneven, "profile"), "profile")
        assert found["runs"] >= 10
        times = {one["name"]: one["median_ns"] for one in found["operations"]}
        assert list(times) == ["large", "between", "small"], "in the order of execution"
        assert times["large"] == max(times.values())
        assert {one["where"] for one in found["operations"]} == {"CPUExecutionProvider"}
        assert [one["kind"] for one in found["operations"]] == ["MatMul", "Tanh", "MatMul"]

    @needs(INT8)
    def test_a_runtime_without_one_says_so(self, tmp_path: Path) -> None:
        events = passes(bundles.write(tmp_path / "bundle", golden_of(INT8)), "profile")
        assert "litert has no profile" in only(events, "profile")["why"]


class TestSustained:
    def test_the_curve_covers_the_time(self, bundle: Path) -> None:
        found = only(passes(bundle, "sustain", **{"sustain-seconds": 1.2}), "sustained")
        windows = found["windows"]
        assert 20 <= len(windows) <= 60
        starts = [window["at_s"] for window in windows]
        assert starts == sorted(starts)
        assert starts[0] < 0.1
        assert 1.0 < starts[-1] < 1.2
        assert all(window["runs"] >= 1 and window["median_ns"] > 0 for window in windows)

    def test_an_inference_longer_than_a_window_is_one(self, uneven: Path) -> None:
        found = only(passes(uneven, "sustain", **{"sustain-seconds": 0.001}), "sustained")
        assert [window["runs"] for window in found["windows"]] == [1]


TENSORRT = """
import os, pathlib
from onnxruntime import *
from onnxruntime import InferenceSession as Real
NAME = "TensorrtExecutionProvider"
def get_available_providers():
    return [NAME, "CPUExecutionProvider"]
class InferenceSession(Real):
    def __init__(self, path, options, providers):
        (name, chosen), *rest = providers
        assert name == NAME and rest == ["CPUExecutionProvider"]
        engine = pathlib.Path(chosen["trt_engine_cache_path"]) / "graph_sm87.engine"
        if chosen["trt_engine_cache_enable"] and not engine.exists():
            os.write(2, f"building at level {options.log_severity_level}".encode())
            engine.write_bytes(b"engine")
        super().__init__(path, options, providers=rest)
    def get_providers(self):
        return [NAME, "CPUExecutionProvider"]
"""


def test_an_engine_is_built_once_and_its_log_is_kept(
    contents: Contents, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no TensorRT here: ONNX Runtime's CPU computes, under a provider of that name."""
    (tmp_path / "with_tensorrt.py").write_text(TENSORRT)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    wanting = contents.but(modules=["with_tensorrt"], delegate="TensorrtExecutionProvider")
    made = bundles.write(tmp_path / "bundle", wanting)
    passes(made, engines=tmp_path / "engines")
    (versions,) = (tmp_path / "engines").iterdir()
    assert versions.name.startswith("onnxruntime-")
    (model,) = versions.iterdir()
    log = model / "build.log"
    assert log.read_bytes().count(b"building at level 0") == 1, "by the first process only"
    before = log.stat().st_mtime_ns
    passes(made, engines=tmp_path / "engines")
    assert log.stat().st_mtime_ns == before


def test_without_a_sensor_there_is_no_energy(bundle: Path) -> None:
    found = only(passes(bundle, "energy"), "energy")
    if "why" not in found:
        pytest.skip("this machine has a sensor")
    assert found["why"]
    assert found.keys() == {"event", "why"}
