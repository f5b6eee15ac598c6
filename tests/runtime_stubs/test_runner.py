"""The runner looking around, verifying and inferring, with real runtimes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from numpy.lib.format import open_memmap
from onnx import TensorProto, helper, save

from tests.runtime_stubs.bundles import Array, Contents
from tests.runtime_stubs.harness import RUNNER, ask, interpreters, kinds, parsed
from tests.runtime_stubs.litert_models import INT8, OPEN, SIGNED, golden_of, needs


class TestFacts:
    def test_it_knows_this_machine(self) -> None:
        status, (facts,) = ask("facts")
        assert status == 0
        assert facts["python"] == sys.executable
        assert facts["numpy_version"] == np.__version__
        assert facts["cores"] == os.cpu_count()
        modules = {runtime["module"]: runtime["version"] for runtime in facts["runtimes"]}
        assert modules["onnxruntime"] == onnxruntime.__version__
        assert "ai_edge_litert" in modules

    def test_the_same_machine_has_the_same_fingerprint(self) -> None:
        assert ask("facts")[1][0]["fingerprint"] == ask("facts")[1][0]["fingerprint"]

    @pytest.mark.parametrize("python", interpreters())
    def test_from_standard_input_in_any_python(self, python: str) -> None:
        with Path(RUNNER).open("rb") as runner:
            done = subprocess.run(
                [python, "-", "facts"], stdin=runner, capture_output=True, timeout=30, check=True
            )
        (facts,) = parsed(done.stdout)
        assert facts["python_version"].startswith("3.")
        assert facts["runtimes"] == [] or facts["numpy_version"]


class TestVerify:
    def test_a_whole_bundle(self, bundle: Path) -> None:
        assert ask("verify", bundle) == (0, [{"event": "verified", "files": 6}])

    @pytest.mark.parametrize("python", interpreters())
    def test_in_any_python_without_numpy(self, bundle: Path, python: str) -> None:
        assert ask("verify", bundle, python=python)[0] == 0

    def test_a_changed_byte(self, bundle: Path) -> None:
        path = bundle / "golden" / "input_0.npy"
        path.write_bytes(path.read_bytes()[:-1] + b"!")
        self.refused(bundle, "golden/input_0.npy is not what was bundled")

    def test_something_extra(self, bundle: Path) -> None:
        (bundle / "golden" / "more").write_bytes(b"")
        self.refused(bundle, "holds 'golden/more'")

    def test_something_missing(self, bundle: Path) -> None:
        (bundle / "golden" / "input_0.npy").unlink()
        self.refused(bundle, "lacks the file 'golden/input_0.npy'")

    def test_a_link_is_no_file(self, bundle: Path, tmp_path: Path) -> None:
        path = bundle / "artifact.onnx"
        path.rename(tmp_path / "elsewhere")
        path.symlink_to(tmp_path / "elsewhere")
        self.refused(bundle, "lacks the file 'artifact.onnx'")

    @pytest.mark.parametrize("text", ["", "[]", "{}", '{"digests": {"../x": "0"}}', "\0"])
    def test_a_manifest_without_sense(self, bundle: Path, text: str) -> None:
        (bundle / "manifest.json").write_text(text)
        self.refused(bundle, "manifest.json")

    def refused(self, bundle: Path, why: str) -> None:
        status, (error,) = ask("verify", bundle)
        assert status == 1
        assert error["kind"] == "bundle"
        assert why in error["message"]


class TestInfer:
    def test_onnxruntime(self, model: Path, contents: Contents, tmp_path: Path) -> None:
        np.save(tmp_path / "x.npy", contents.inputs[0].golden)
        options = ("--runtime", "onnxruntime", "--input", tmp_path / "x.npy")
        status, (event,) = ask("infer", model, *options, "--output-dir", tmp_path / "out")
        assert status == 0
        assert event["outputs"] == ["y", "total"]
        assert event["runtime"]["version"] == onnxruntime.__version__
        assert event["input_details"] == [
            {"name": "x", "shape": [1, 3], "dtype": "float32", "scale": None, "zero_point": None}
        ]
        for index, tensor in enumerate(contents.outputs):
            written = np.load(tmp_path / "out" / f"output_{index}.npy")
            assert written.dtype == np.float32
            np.testing.assert_allclose(written, tensor.golden, rtol=1e-5)

    @needs(INT8)
    def test_litert_keeps_the_artifacts_own_types(self, tmp_path: Path) -> None:
        expected = golden_of(INT8)
        np.save(tmp_path / "x.npy", expected.inputs[0].golden)
        options = ("--runtime", "litert", "--input", tmp_path / "x.npy")
        status, (event,) = ask("infer", INT8, *options, "--output-dir", tmp_path / "out")
        assert status == 0
        written = np.load(tmp_path / "out" / "output_0.npy")
        np.testing.assert_array_equal(written, expected.outputs[0].golden)
        assert event["input_details"][0]["scale"] == pytest.approx(0.5847, abs=1e-4)
        assert event["input_details"][0]["zero_point"] == 83

    @needs(SIGNED)
    def test_a_signature_gives_the_names(self) -> None:
        _, (event,) = ask("describe", SIGNED, "--runtime", "litert")
        assert [detail["name"] for detail in event["input_details"]] == ["fixed_input"]
        assert [detail["name"] for detail in event["output_details"]] == ["sequential"]

    @needs(INT8)
    def test_an_open_batch_is_resized_and_a_fixed_size_is_not(self, tmp_path: Path) -> None:
        options = ("--runtime", "litert", "--output-dir", tmp_path, "--input", tmp_path / "x.npy")
        np.save(tmp_path / "x.npy", np.zeros((3, 2, 96, 96, 3), np.int8))
        if OPEN.exists():
            assert ask("infer", OPEN, *options)[0] == 0
            assert np.load(tmp_path / "output_0.npy").shape == (3, 2, 2)
        np.save(tmp_path / "x.npy", np.zeros((3, 1, 48, 10, 1), np.int8))
        status, (error,) = ask("infer", INT8, *options)
        assert (status, error["kind"]) == (1, "run")

    @pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
    def test_memory_does_not_grow_with_the_samples(self, tmp_path: Path) -> None:
        graph = helper.make_graph(
            [helper.make_node("ReduceMax", ["x"], ["y"], keepdims=1)],
            "wide",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 100_000])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1])],
        )
        opset = [helper.make_opsetid("", 17)]
        save(helper.make_model(graph, opset_imports=opset, ir_version=9), tmp_path / "wide.onnx")
        # 400 MB of samples; a hole in the file until they are read.
        open_memmap(tmp_path / "x.npy", mode="w+", dtype=np.float32, shape=(1000, 1, 100_000))
        done = subprocess.run(
            [
                *(sys.executable, "-c", _PEAK, RUNNER, "infer", tmp_path / "wide.onnx"),
                *("--runtime", "onnxruntime", "--input", tmp_path / "x.npy"),
                *("--output-dir", tmp_path),
            ],
            capture_output=True,
            check=True,
        )
        assert int(done.stderr.split()[-1]) < 200_000

    @pytest.mark.parametrize(
        ("array", "why"),
        [
            (np.zeros((2, 1, 3), np.int8), "takes float32 [1, 3], got int8 [1, 3]"),
            (np.zeros((2, 3), np.float32), "takes float32 [1, 3], got float32 [3]"),
            (np.zeros((0, 1, 3), np.float32), "x.npy"),
            (np.asfortranarray(np.ones((2, 2, 3), np.float32)), "Fortran"),
            (np.zeros((2, 1, 3), ">f4"), "byte order"),
            (np.float32(1), "x.npy"),
        ],
    )
    def test_samples_that_do_not_fit(
        self, model: Path, tmp_path: Path, array: Array, why: str
    ) -> None:
        np.save(tmp_path / "x.npy", array)
        options = ("--runtime", "onnxruntime", "--input", tmp_path / "x.npy")
        status, (error,) = ask("infer", model, *options, "--output-dir", tmp_path)
        assert (status, error["kind"]) == (1, "input")
        assert why in error["message"]

    @pytest.mark.parametrize("runtime", ["onnxruntime", "litert"])
    @pytest.mark.parametrize("content", [b"", b"\x18\0\0\0TFL3", b"ONNX" * 100])
    def test_what_is_no_model(self, tmp_path: Path, runtime: str, content: bytes) -> None:
        (tmp_path / "model").write_bytes(content)
        status, events = ask("describe", tmp_path / "model", "--runtime", runtime)
        # A runtime may end the whole process on some of these: then there is no line at all.
        assert status != 0
        assert kinds(events) in ([], ["error"])

    def test_usage_is_an_error_event_too(self) -> None:
        status, (error,) = ask("infer")
        assert (status, error["kind"]) == (1, "usage")
        assert "usage: edgekit_runner infer" in error["hint"]


_PEAK = """
import re, runpy, sys
del sys.argv[0]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
except SystemExit as end:
    status = end.code
print(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1], file=sys.stderr)
sys.exit(status)
"""
