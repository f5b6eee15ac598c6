"""Operators that LiteRT's kernels and quantizer do better: the same values, where it applies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import flatbuffers
import numpy as np
import onnx
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from onnx import TensorProto, helper, numpy_helper

from edgekit import sources
from edgekit.domain import Format, Mode, Quantization, Recipe
from edgekit.formats import FORMATS, Job, litert
from edgekit.formats.litert_rewriting import rewritten

OPTIONS = {
    "ADD": schema.AddOptionsT,
    "BATCH_MATMUL": schema.BatchMatMulOptionsT,
    "DIV": schema.DivOptionsT,
}
Made = tuple[str, Sequence[str], dict[str, object]]
"""An operator, what it takes, and its options; it gives the tensor of its number."""


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


def built(
    folder: Path,
    operators: Sequence[Made],
    shapes: dict[str, Sequence[int]],
    constants: dict[str, np.ndarray],
    outputs: Sequence[str],
) -> Path:
    """A ``.tflite`` of these operators; its inputs are the tensors that nobody gives."""
    model, graph = schema.ModelT(), schema.SubGraphT()
    model.version, model.subgraphs, model.buffers = 3, [graph], [schema.BufferT()]
    model.operatorCodes, graph.operators, graph.tensors = [], [], []
    given = [str(number) for number in range(len(operators))]
    names = [*shapes, *constants]
    for name in names:
        tensor = schema.TensorT()
        tensor.name, tensor.buffer = name, 0
        tensor.shape = list(shapes.get(name, np.shape(constants.get(name))))
        if name in constants:
            model.buffers.append(schema.BufferT())
            model.buffers[-1].data = np.frombuffer(constants[name].tobytes(), np.uint8)
            tensor.buffer = len(model.buffers) - 1
        graph.tensors.append(tensor)
    for number, (kind, inputs, options) in enumerate(operators):
        code, operator = schema.OperatorCodeT(), schema.OperatorT()
        code.builtinCode = getattr(schema.BuiltinOperator, kind)
        code.deprecatedBuiltinCode, code.version = code.builtinCode, 1
        model.operatorCodes.append(code)
        operator.opcodeIndex = number
        operator.inputs = [names.index(name) for name in inputs]
        operator.outputs = [names.index(str(number))]
        if kind in OPTIONS:
            operator.builtinOptions = OPTIONS[kind]()
            name = OPTIONS[kind].__name__.removesuffix("T")
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, name)
            for key, value in options.items():
                setattr(operator.builtinOptions, key, value)
        graph.operators.append(operator)
    graph.inputs = [names.index(name) for name in shapes if name not in given]
    graph.outputs = [names.index(name) for name in outputs]
    builder = flatbuffers.Builder(0)
    builder.Finish(model.Pack(builder), b"TFL3")
    (folder / "made.tflite").write_bytes(builder.Output())
    return folder / "made.tflite"


def ran(path: Path) -> list[np.ndarray]:
    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    for detail in interpreter.get_input_details():
        interpreter.set_tensor(detail["index"], np.abs(random(*detail["shape"])) + 0.1)
    interpreter.invoke()
    return [interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()]


def same(before: Path, after: Path) -> None:
    for one, other in zip(ran(before), ran(after), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("lies", [False, True])
@pytest.mark.parametrize("shape", [(4, 6), (2, 4, 6), (1, 2, 4, 6)])
def test_a_product_by_constant_weights_becomes_dense_with_its_bias_and_activation(
    tmp_path: Path, shape: tuple[int, ...], lies: bool
) -> None:
    given = (*shape[:-1], 5)
    weights = random(5, 6) if lies else random(6, 5)
    path = built(
        tmp_path,
        [
            ("BATCH_MATMUL", ["x", "w"], {"adjY": lies}),
            ("ADD", ["b", "0"], {}),
            ("RELU", ["1"], {}),
        ],
        {"x": shape, "0": given, "1": given, "2": given},
        {"w": weights, "b": random(1, 5)},
        ["2"],
    )
    assert rewritten(path, tmp_path / "better.tflite") == 3
    assert litert.operators(tmp_path / "better.tflite") == {"FULLY_CONNECTED": 1}
    same(path, tmp_path / "better.tflite")
    # Nothing is left of the weights as they were.
    assert (tmp_path / "better.tflite").stat().st_size < path.stat().st_size + 200


def test_weights_that_two_products_share_are_kept_once(tmp_path: Path) -> None:
    path = built(
        tmp_path,
        [("BATCH_MATMUL", ["x", "w"], {}), ("BATCH_MATMUL", ["0", "w"], {})],
        {"x": (3, 64), "0": (3, 64), "1": (3, 64)},
        {"w": random(64, 64)},
        ["1"],
    )
    assert rewritten(path, tmp_path / "better.tflite") == 2
    same(path, tmp_path / "better.tflite")
    assert (tmp_path / "better.tflite").stat().st_size < 1.3 * 64 * 64 * 4


@pytest.mark.parametrize("root", ["0", "1"])
def test_one_over_a_root_is_one_operator_unless_the_root_is_wanted_too(
    tmp_path: Path, root: str
) -> None:
    path = built(
        tmp_path,
        [("SQRT", ["x"], {}), ("DIV", ["one", "0"], {})],
        {"x": (2, 3), "0": (2, 3), "1": (2, 3)},
        {"one": np.ones(1, np.float32)},
        ["1"] if root == "1" else ["0", "1"],
    )
    better = tmp_path / "better.tflite"
    if root == "0":
        assert rewritten(path, better) == 0
        assert not better.exists()
    else:
        assert rewritten(path, better) == 1
        assert litert.operators(better) == {"RSQRT": 1}
        same(path, better)


@pytest.mark.parametrize(
    ("operators", "constants"),
    [
        ([("BATCH_MATMUL", ["x", "w"], {"adjX": True})], {"w": random(4, 4)}),
        ([("BATCH_MATMUL", ["x", "w"], {})], {"w": random(2, 4, 4)}),
        ([("BATCH_MATMUL", ["x", "x"], {})], {}),
        ([("BATCH_MATMUL", ["w", "x"], {})], {"w": random(4, 4)}),
        ([("DIV", ["two", "x"], {})], {"two": np.full(1, 2, np.float32)}),
        ([("SQRT", ["x"], {}), ("DIV", ["one", "0"], {})], {"one": np.ones((1,) * 4, np.float32)}),
    ],
)
def test_what_is_something_else_stays(
    tmp_path: Path, operators: list[Made], constants: dict[str, np.ndarray]
) -> None:
    names = [str(number) for number in range(len(operators))]
    shapes = dict.fromkeys(["x", *names], (2, 4, 4))
    path = built(tmp_path, operators, shapes, constants, names[-1:])
    assert rewritten(path, tmp_path / "better.tflite") == 0


def test_a_sum_that_is_no_bias_stays(tmp_path: Path) -> None:
    path = built(
        tmp_path,
        [("BATCH_MATMUL", ["x", "w"], {}), ("ADD", ["0", "b"], {})],
        {"x": (3, 6), "0": (3, 5), "1": (3, 5)},
        {"w": random(6, 5), "b": random(3, 5)},
        ["1"],
    )
    assert rewritten(path, tmp_path / "better.tflite") == 1
    assert litert.operators(tmp_path / "better.tflite") == {"FULLY_CONNECTED": 1, "ADD": 1}
    same(path, tmp_path / "better.tflite")


def test_dense_layers_over_frames_keep_what_each_channel_says(tmp_path: Path) -> None:
    """Weights whose channels differ by a thousand: one scale for all of them keeps few."""
    weights = random(32, 32) * np.geomspace(1e-3, 1, 32).astype(np.float32)
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "frames",
        [value("x", TensorProto.FLOAT, [1, 10, 32])],
        [value("y", TensorProto.FLOAT, [1, 10, 32])],
        [numpy_helper.from_array(weights, "w")],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8),
        tmp_path / "frames.onnx",
    )
    quantization = Quantization(mode=Mode.WEIGHT_ONLY, weights="int8", activations="float32")
    job = Job(
        source=sources.load(tmp_path / "frames.onnx", tmp_path),
        recipe=Recipe(format=Format.LITERT, runtime="litert", quantization=quantization),
        folder=tmp_path,
    )
    artifact = FORMATS[Format.LITERT].make(job)
    assert artifact.notes[1:] == ("operators rewritten to those that quantize better",)
    (got,) = ran(tmp_path / artifact.path)
    expected = (np.abs(random(1, 10, 32)) + np.float32(0.1)) @ weights
    error = np.abs(got - expected).max((0, 1)) / np.abs(expected).max((0, 1))
    assert error.max() < 0.02
