"""ONNX Runtime: the contract, the variants of int8, and what mobile builds need."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from edgekit.datasets import Dataset
from edgekit.domain import Format
from edgekit.formats import FormatSpec
from edgekit.formats.onnxruntime_quantizer import quantize
from edgekit.sources import SourceModel
from tests.formats.contract import SHARE, STATIC, VARIANTS, FormatContract


def zero_points(path: Path, operator: str) -> list[np.ndarray]:
    model = onnx.load(path)
    constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    return [constants[n.input[2]] for n in model.graph.node if n.op_type == operator]


class TestONNXRuntime(FormatContract):
    format = Format.ONNXRUNTIME
    # Its dynamic quantization leaves the convolutions as they are.
    shares = SHARE | {"int8-dynamic": 0.7}

    @pytest.mark.parametrize("activations", ["int8", "uint8"])
    def test_activations_have_the_type_asked_for(
        self,
        spec: FormatSpec,
        source: SourceModel,
        calibration: Dataset,
        cache: Path,
        tmp_path: Path,
        activations: str,
    ) -> None:
        variant = msgspec.structs.replace(STATIC, activations=activations)
        spec.make(self.job(source, tmp_path, cache, quantization=variant, calibration=calibration))
        types = {
            point.dtype.name for point in zero_points(tmp_path / "model.onnx", "QuantizeLinear")
        }
        assert types == {activations}

    def test_symmetric_has_no_zero_points_and_float_biases(
        self,
        spec: FormatSpec,
        source: SourceModel,
        calibration: Dataset,
        cache: Path,
        tmp_path: Path,
    ) -> None:
        variant = msgspec.structs.replace(STATIC, symmetric_activations=True)
        spec.make(self.job(source, tmp_path, cache, quantization=variant, calibration=calibration))
        path = tmp_path / "model.onnx"
        points = [*zero_points(path, "QuantizeLinear"), *zero_points(path, "DequantizeLinear")]
        assert points
        assert not any(point.any() for point in points)
        assert not any(point.dtype == np.int32 for point in points)

    def test_weights_have_a_scale_per_channel(
        self,
        spec: FormatSpec,
        source: SourceModel,
        calibration: Dataset,
        cache: Path,
        tmp_path: Path,
    ) -> None:
        spec.make(self.job(source, tmp_path, cache, quantization=STATIC, calibration=calibration))
        sizes = {p.size for p in zero_points(tmp_path / "model.onnx", "DequantizeLinear")}
        assert {16, 32} <= sizes, "conv1 has 16 output channels, conv2 32"

    def test_reduced_range_uses_seven_bits(
        self,
        spec: FormatSpec,
        source: SourceModel,
        calibration: Dataset,
        cache: Path,
        tmp_path: Path,
    ) -> None:
        variant = msgspec.structs.replace(STATIC, activations="uint8", reduced_range=True)
        spec.make(self.job(source, tmp_path, cache, quantization=variant, calibration=calibration))
        model = onnx.load(tmp_path / "model.onnx")
        weights = [
            numpy_helper.to_array(t)
            for t in model.graph.initializer
            if t.data_type == onnx.TensorProto.INT8 and len(t.dims) > 1
        ]
        assert weights
        assert max(int(np.abs(w.astype(int)).max()) for w in weights) <= 64

    @pytest.mark.parametrize("precision", ["float32", "int8-static"])
    def test_mobile_gets_ort_and_its_operators(
        self,
        spec: FormatSpec,
        source: SourceModel,
        calibration: Dataset,
        cache: Path,
        tmp_path: Path,
        precision: str,
    ) -> None:
        job = self.job(
            source, tmp_path, cache, quantization=VARIANTS[precision], calibration=calibration
        )
        artifact = spec.make(msgspec.structs.replace(job, mobile=True))
        assert artifact.extra_files == ("model.ort", "model.required_operators.config")
        assert "Conv" in (tmp_path / "model.required_operators.config").read_text()
        assert (tmp_path / "model.ort").read_bytes()[4:8] == b"ORTM"


def test_softmax_in_half_precision_stays_one_operator(tmp_path: Path) -> None:
    """In half precision ONNX Runtime has no kernel for it, and falls back to five operators."""
    weight = np.random.default_rng(0).standard_normal((8, 10)).astype(np.float32)
    given, made = (
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, width])
        for name, width in (("x", 8), ("y", 10))
    )
    nodes = [
        onnx.helper.make_node("MatMul", ["x", "w"], ["z"]),
        onnx.helper.make_node("Softmax", ["z"], ["y"]),
    ]
    graph = onnx.helper.make_graph(
        nodes, "g", [given], [made], [numpy_helper.from_array(weight, "w")]
    )
    opsets = [onnx.helper.make_opsetid("", 17)]
    plain, half = tmp_path / "plain.onnx", tmp_path / "half.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8), plain)
    quantize(plain, half, VARIANTS["float16"], None)
    (stored,) = onnx.load(half).graph.initializer
    assert stored.data_type == onnx.TensorProto.FLOAT16

    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "run.onnx")
    session = onnxruntime.InferenceSession(str(half), options)
    run = {node.op_type for node in onnx.load(tmp_path / "run.onnx").graph.node}
    assert run <= {"MatMul", "FusedMatMul", "Softmax", "Cast"}
    x = np.ones((1, 8), np.float32)
    (expected,) = onnxruntime.InferenceSession(str(plain)).run(None, {"x": x})
    (got,) = session.run(None, {"x": x})
    assert np.allclose(got, expected, atol=2e-3)
