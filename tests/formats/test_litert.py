"""LiteRT: the contract, and what onnx2tf does to axes."""

from __future__ import annotations

from pathlib import Path

import flatbuffers
import numpy as np
import onnx
import pytest
from ai_edge_litert import schema_py_generated as schema
from onnx import TensorProto, helper, numpy_helper

from edgekit import datasets, sources, validation
from edgekit.domain import Format, Mode, Quantization, Recipe
from edgekit.formats import FORMATS, Job, binding, host, litert
from edgekit.formats.contract import TOOL_LIMITS
from edgekit.toolchain import isolation
from tests.compression.networks import Net, depthwise
from tests.formats.contract import VARIANTS, FormatContract


class TestLiteRT(FormatContract):
    format = Format.LITERT

    @pytest.mark.parametrize("mode", [Mode.WEIGHT_ONLY, Mode.DYNAMIC])
    def test_four_bits_take_less_than_eight_and_run(
        self, mode: Mode, reference: validation.Reference, cache: Path, tmp_path: Path
    ) -> None:
        spec, made = FORMATS[self.format], {}
        for weights in ("int8", "int4"):
            (tmp_path / weights).mkdir()
            how = Quantization(mode=mode, weights=weights, activations="float32")
            job = self.job(reference.source, tmp_path / weights, cache, quantization=how)
            made[weights] = spec.make(job)
        assert made["int4"].size_bytes < 0.8 * made["int8"].size_bytes
        report, _ = validation.validate(
            reference,
            made["int4"],
            tmp_path / "int4",
            spec.host_runtime,
            metric=validation.METRICS["top1"],
            max_drop=0.02,
        )
        assert report.passed, report

    def test_what_has_no_four_bits_takes_eight(self, tmp_path: Path) -> None:
        """Depthwise filters: LiteRT's own tool would leave them in float."""
        net = Net(1, 3, 8, 8)
        onnx.save(net.model(depthwise(net)), tmp_path / "net.onnx")
        source = sources.load(tmp_path / "net.onnx", tmp_path)
        how = Quantization(mode=Mode.DYNAMIC, weights="int4", activations="float32")
        FORMATS[self.format].make(self.job(source, tmp_path, tmp_path, quantization=how))
        made = schema.ModelT.InitFromPackedBuf((tmp_path / "model.tflite").read_bytes(), 0)
        kinds = {
            code.builtinCode: made.subgraphs[0].tensors[operator.inputs[1]].type
            for operator in made.subgraphs[0].operators
            for code in [made.operatorCodes[operator.opcodeIndex]]
            if len(operator.inputs) == 3
        }
        assert kinds[schema.BuiltinOperator.DEPTHWISE_CONV_2D] == schema.TensorType.INT8
        assert kinds[schema.BuiltinOperator.CONV_2D] == schema.TensorType.INT4

    def test_a_file_of_before_signatures_is_quantized(
        self,
        reference: validation.Reference,
        calibration: datasets.Dataset,
        cache: Path,
        tmp_path: Path,
    ) -> None:
        """As tools wrote them before TensorFlow 2.4; ai-edge-quantizer takes newer ones only."""
        floats = FORMATS[self.format].make(self.job(reference.source, tmp_path, cache))
        old, made = tmp_path / "old.tflite", tmp_path / "int8.tflite"
        old.write_bytes(_of_old((tmp_path / floats.path).read_bytes()))
        taken = binding.rebound(floats.inputs, host.describe(old, "litert").input_details)
        how = VARIANTS["int8-static"]
        found = isolation.call(
            litert._quantize, TOOL_LIMITS, old, made, how, taken, calibration, (), None
        )
        assert [detail.shape for detail in found.input_details] == [(1, 8, 8, 1)]
        assert made.stat().st_size < 0.45 * old.stat().st_size
        assert set(_operators(made)) - set(_operators(old)) <= _QUANTIZE


_QUANTIZE = {schema.BuiltinOperator.QUANTIZE, schema.BuiltinOperator.DEQUANTIZE}


def _of_old(content: bytes) -> bytes:
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    assert model.signatureDefs
    model.signatureDefs = None
    for code in model.operatorCodes:
        code.deprecatedBuiltinCode, code.builtinCode = code.builtinCode, 0
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _operators(path: Path) -> list[int]:
    codes = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0).operatorCodes
    return [max(code.builtinCode, code.deprecatedBuiltinCode) for code in codes]


def _made(model: onnx.ModelProto, folder: Path):
    onnx.save(model, folder / "model.onnx")
    source = sources.load(folder / "model.onnx", folder)
    recipe = Recipe(format=Format.LITERT, runtime="litert")
    return FORMATS[Format.LITERT].make(Job(source=source, recipe=recipe, folder=folder))


def _model(nodes, inputs, outputs, constants) -> onnx.ModelProto:
    def value(name, shape):
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    graph = helper.make_graph(
        nodes,
        "test",
        [value(*pair) for pair in inputs],
        [value(*pair) for pair in outputs],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def _weights(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def test_channels_first_becomes_channels_last_and_says_so(tmp_path: Path) -> None:
    conv = helper.make_node("Conv", ["x", "w"], ["y"], pads=[1] * 4)
    model = _model(
        [conv], [("x", [1, 3, 8, 6])], [("y", [1, 4, 8, 6])], {"w": _weights(4, 3, 3, 3)}
    )
    artifact = _made(model, tmp_path)
    (image,), (result,) = artifact.inputs, artifact.outputs
    assert image.artifact.shape == (1, 8, 6, 3)
    assert image.permutation == (0, 2, 3, 1)
    assert image.layout == "NHWC"
    # The order of the output's axes is the converter's; whatever it is, it is recorded.
    assert tuple(result.source.shape[axis] for axis in result.permutation) == result.artifact.shape


def test_channels_last_stays_as_it_is(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["t", "w"], ["y"], pads=[1] * 4),
    ]
    model = _model(nodes, [("x", [1, 8, 6, 3])], [("y", [1, 4, 8, 6])], {"w": _weights(4, 3, 3, 3)})
    (image,) = _made(model, tmp_path).inputs
    assert image.artifact.shape == (1, 8, 6, 3)
    assert image.permutation == (0, 1, 2, 3)
    assert image.layout is None


def test_square_axes_are_told_apart_by_values(tmp_path: Path) -> None:
    """Of shape [1, 4, 4, 4] any order would fit; only running tells which is right."""
    conv = helper.make_node("Conv", ["x", "w"], ["y"], pads=[1] * 4)
    model = _model(
        [conv], [("x", [1, 4, 4, 4])], [("y", [1, 4, 4, 4])], {"w": _weights(4, 4, 3, 3)}
    )
    artifact = _made(model, tmp_path)
    assert artifact.inputs[0].permutation == (0, 2, 3, 1)
    assert artifact.outputs[0].permutation in {(0, 2, 3, 1), (0, 1, 2, 3)}


def test_two_inputs_keep_their_names(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["left", "w"], ["a"]),
        helper.make_node("Mul", ["a", "right"], ["product"]),
        helper.make_node("Add", ["a", "right"], ["sum"]),
    ]
    inputs, outputs = [("left", [1, 6]), ("right", [1, 4])], [("sum", [1, 4]), ("product", [1, 4])]
    artifact = _made(_model(nodes, inputs, outputs, {"w": _weights(6, 4)}), tmp_path)
    assert [b.source.name for b in artifact.inputs] == ["left", "right"]
    assert [b.source.name for b in artifact.outputs] == ["sum", "product"]
    assert [b.artifact.shape for b in artifact.inputs] == [(1, 6), (1, 4)]


@pytest.mark.parametrize("shape", [[1, 10, 6], [2, 5]])
def test_other_ranks_convert(tmp_path: Path, shape: list[int]) -> None:
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    model = _model([node], [("x", shape)], [("y", [*shape[:-1], 3])], {"w": _weights(shape[-1], 3)})
    artifact = _made(model, tmp_path)
    assert sorted(artifact.inputs[0].artifact.shape) == sorted(shape)
