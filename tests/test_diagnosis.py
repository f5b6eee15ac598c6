"""What a format is not known to take, and what could be done, from what was found."""

from __future__ import annotations

from importlib.metadata import version

import pytest

from edgekit.diagnosis import obstacles
from edgekit.domain import Format, ModelSummary, NodeSummary
from edgekit.formats import support

LITERT, ONNXRUNTIME = Format.LITERT, Format.ONNXRUNTIME
DIAGNOSED = support.KNOWN


def summary(*nodes: tuple[str, str], opset: int = 17) -> ModelSummary:
    return ModelSummary(
        sha256="0",
        name="m",
        opset=opset,
        inputs=(),
        outputs=(),
        nodes=tuple(
            NodeSummary(f"block.{i}/{op}", op, 0, 0, 0, 1, 1, (1,), input_type=kind)
            for i, (op, kind) in enumerate(nodes)
        ),
        parameters=0,
        parameter_bytes=0,
        macs=0,
        activation_peak_bytes=0,
        quantized=False,
    )


COMMON = ["Conv", "Relu", "Add", "Mul", "MaxPool", "GlobalAveragePool", "Gemm", "MatMul"]
COMMON += ["Softmax", "Reshape", "Transpose", "Concat", "Sigmoid", "BatchNormalization", "Clip"]


@pytest.mark.parametrize("format_", DIAGNOSED)
def test_common_layers_are_known_to_be_taken(format_: Format) -> None:
    assert obstacles(summary(*((op, "float32") for op in COMMON)), format_) == ()


def untaken(format_: Format, other: Format) -> tuple[str, str]:
    """An operator, and a type, of which no test passes in one format and one does in another."""
    found = support.table(other).operators
    return next(
        (operator, type_)
        for operator, row in support.table(format_).operators.items()
        for type_, tried in row.items()
        if type_ == "float32" and not tried.passed and found[operator][type_].passed
    )


def test_an_obstacle_names_operator_layer_reason_and_remedy() -> None:
    operator, type_ = untaken(LITERT, ONNXRUNTIME)
    (found,) = obstacles(summary(("Relu", "float32"), (operator, type_)), LITERT)
    assert (found.operator, found.node, found.certain) == (operator, f"block.1/{operator}", True)
    assert f"tests of {operator} in float32 passes" in found.why
    assert "another format: onnxruntime takes it" in found.remedies
    assert obstacles(summary((operator, type_)), ONNXRUNTIME) == ()


def test_what_was_never_tried_is_not_called_impossible() -> None:
    (found,) = obstacles(summary(("Conv", "bfloat16")), LITERT)
    assert not found.certain
    assert "no test of Conv in bfloat16" in found.why
    assert "another type: litert takes it in float32" in found.remedies
    assert any(one.startswith("a build") for one in found.remedies)


def test_an_operator_of_a_later_opset_can_be_written_out() -> None:
    operator = next(
        name
        for name in ("RMSNormalization", "RotaryEmbedding", "Attention", "Swish", "CumProd")
        if not any(t.passed for t in support.table(LITERT).operators.get(name, {}).values())
    )
    (found,) = obstacles(summary((operator, "float32"), opset=24), LITERT)
    assert any("another opset: exported in 2" in one for one in found.remedies)


def test_an_operator_that_nobody_knows_has_a_remedy_too() -> None:
    for format_ in DIAGNOSED:
        (found,) = obstacles(summary(("Magic", "float32")), format_)
        assert not found.certain
        assert found.remedies[0].startswith("a build")


def test_what_no_format_takes_needs_another_layer() -> None:
    (found,) = obstacles(summary(("CastLike", "float32"), opset=14), ONNXRUNTIME)
    assert found.certain
    assert any("another layer" in one for one in found.remedies)


@pytest.mark.parametrize("format_", DIAGNOSED)
def test_tables_say_with_which_tools_they_were_made(format_: Format) -> None:
    table = support.table(format_)
    assert {"onnx", "onnx2tf", "onnxruntime"} <= set(table.tools)
    assert len(table.operators) > 150
    assert all(0 <= t.passed <= t.tried for row in table.operators.values() for t in row.values())


@pytest.mark.parametrize("format_", DIAGNOSED)
def test_tables_are_of_the_versions_that_are_pinned(format_: Format) -> None:
    """After an upgrade `python benchmarks/conformance.py --write` makes them anew.

    Core ML's is made by `coreml_conformance.py`.
    """
    tools = support.table(format_).tools
    for name in ("ai-edge-litert", "onnx", "onnxruntime", "onnxsim"):
        assert tools[name] == version(name)


def test_what_a_build_writes_out_is_said_first() -> None:
    """ONNX gives RMSNormalization a body, and CumSum none."""
    written, plain = obstacles(
        summary(("RMSNormalization", "float32"), ("CumSum", "float32"), opset=23), LITERT
    )
    assert written.remedies[0].startswith("a rewrite: a build writes it out")
    assert not any("a rewrite" in one for one in plain.remedies)
