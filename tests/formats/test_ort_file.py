"""Two conversions of one model to ``.ort`` give the same bytes, and still the same outputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnxruntime.quantization import quantize_dynamic

from edgekit.formats import ort_file
from edgekit.formats.onnxruntime import _mobile_files
from edgekit.toolchain import isolation
from edgekit.toolchain.process import Limits
from tests import models
from tests.paths import DIGITS_MODEL

TIMES = 3
"""ONNX Runtime's order is one of many: so often the same by chance is not to be feared."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Kernels of many kinds: quantized ones among them, from more than one domain."""
    path = tmp_path_factory.mktemp("ort") / "model.onnx"
    quantize_dynamic(DIGITS_MODEL, path)
    return path


def converted(model: Path, folder: Path) -> tuple[bytes, str]:
    """What a process of its own makes of it."""
    folder.mkdir()
    (folder / "model.onnx").write_bytes(model.read_bytes())
    graph, needed = isolation.call(_mobile_files, Limits(seconds=120), folder / "model.onnx")
    return (folder / graph).read_bytes(), (folder / needed).read_text()


def test_conversions_are_equal(model: Path, tmp_path: Path) -> None:
    made = {converted(model, tmp_path / str(number)) for number in range(TIMES)}
    assert len(made) == 1
    (_, needed) = made.pop()
    assert "Conv" in needed
    assert "edgekit-ort" not in needed


def test_it_runs_as_before(model: Path, tmp_path: Path) -> None:
    encoded, _ = converted(model, tmp_path / "made")
    x = {"image": np.random.default_rng(0).random((1, 1, 8, 8), np.float32)}
    wanted = onnxruntime.InferenceSession(model).run(None, x)
    got = onnxruntime.InferenceSession(encoded).run(None, x)
    np.testing.assert_allclose(got[0], wanted[0], rtol=1e-5)
    assert ort_file.sorted_bytes(encoded) == encoded


@pytest.mark.parametrize("size", [1, 13])
def test_weights_stay_aligned(size: int, tmp_path: Path) -> None:
    """Whatever the length of a name, and with it the padding in front."""
    made = models.model(
        [models.node("MatMul", ["x", "w" * size], ["y"], "n" * size)],
        [models.tensor("x", [1, size])],
        [models.tensor("y", [1, 3])],
        {"w" * size: models.weights(size, 3)},
    )
    path = tmp_path / "model.onnx"
    onnx.save(made, path)
    encoded, _ = converted(path, tmp_path / "made")
    x = {"x": np.ones((1, size), np.float32)}
    wanted = onnxruntime.InferenceSession(path).run(None, x)
    got = onnxruntime.InferenceSession(encoded).run(None, x)
    np.testing.assert_allclose(got[0], wanted[0], rtol=1e-5)
