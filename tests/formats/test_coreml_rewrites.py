"""Every rewrite, run by ONNX Runtime before and after: the same values, only known operators."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxsim.coreml_export import SUPPORTED_ONNX_OPS

from edgekit.formats.coreml_rewrites import REWRITES
from edgekit.formats.coreml_rewriting import Refusal, rewritten
from tests.models import integers, model, node, tensor, weights

SUPPORTED = frozenset(SUPPORTED_ONNX_OPS)
X = weights(2, 3, 4)
POSITIVE = np.abs(X) + 0.5
INSIDE = np.tanh(X) * 0.9
IMAGE = weights(1, 4, 6, 6)
BOOLS = X > 0
EXTREME = np.array([[-80, -1, 0, 1e-3, 80, 30]], np.float32)
INFINITE = np.array([[1, np.inf, -np.inf, 0]], np.float32)
TIES = np.array([[1, 3, 3, 2], [5, 5, 5, 5]], np.float32)
Case = tuple[str, tuple[Any, ...], dict[str, Any]]


class Fixed:
    """An operand that the model holds as a constant."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array


def fixed(*values: int) -> Fixed:
    return Fixed(integers(*values))


def lstm(op: str, gates: int, *, directions: int = 1, **attributes: Any) -> Case:
    w, r = weights(directions, gates * 4, 3), weights(directions, gates * 4, 4, seed=1)
    b = weights(directions, gates * 8, seed=2)
    return op, (weights(5, 2, 3), Fixed(w), Fixed(r), Fixed(b)), {"hidden_size": 4} | attributes


CASES: list[Case] = [
    ("Acosh", (POSITIVE + 1,), {}),
    ("ArgMax", (TIES,), {"axis": 1}),
    ("ArgMax", (X,), {"axis": -2, "keepdims": 0}),
    ("ArgMin", (TIES,), {"axis": 1, "select_last_index": 1}),
    ("Asinh", (EXTREME,), {}),
    ("Atanh", (INSIDE,), {}),
    ("CastLike", (X * 3, np.arange(2)), {}),
    ("Ceil", (X * 3,), {}),
    ("Celu", (EXTREME,), {"alpha": 2.0}),
    ("Clip", (X, np.array(-0.5, np.float32)), {}),
    ("Clip", (np.arange(-4, 4, dtype=np.int32), Fixed(np.int32(-2)), Fixed(np.int32(3))), {}),
    ("ConstantOfShape", (fixed(2, 3),), {"value": numpy_helper.from_array(np.array([7.0]))}),
    (
        "ConvTranspose",
        (IMAGE, Fixed(weights(4, 2, 3, 3)), Fixed(weights(2))),
        {"strides": [2, 2], "output_padding": [1, 1]},
    ),
    (
        "ConvTranspose",
        (IMAGE, Fixed(weights(4, 2, 3, 3))),
        {"strides": [2, 2], "auto_pad": "SAME_UPPER"},
    ),
    (
        "ConvTranspose",
        (IMAGE, Fixed(weights(4, 2, 3, 3))),
        {"strides": [3, 2], "output_shape": [20, 14]},
    ),
    ("Cosh", (X,), {}),
    ("CumSum", (X, fixed(1)), {}),
    ("CumSum", (X, fixed(2)), {"exclusive": 1, "reverse": 1}),
    ("CumSum", (X[0, 0], fixed(0)), {"reverse": 1}),
    ("DepthToSpace", (weights(2, 8, 2, 3),), {"blocksize": 2}),
    ("DepthToSpace", (weights(2, 8, 2, 3),), {"blocksize": 2, "mode": "CRD"}),
    ("Dropout", (X,), {}),
    ("Elu", (EXTREME,), {"alpha": 0.7}),
    ("Equal", (BOOLS, X > 1), {}),
    ("Expand", (BOOLS[:, :1], fixed(2, 3, 4)), {}),
    ("Expand", (X, fixed(1, 1, 4)), {}),
    ("EyeLike", (X[0],), {"k": 1}),
    ("Flatten", (X,), {"axis": 2}),
    ("Gather", (X, fixed(-1, 0)), {"axis": 2}),
    ("GatherElements", (X, np.array([[[0, -1, 2, 1]]])), {"axis": 2}),
    lstm("GRU", 3),
    lstm("GRU", 3, linear_before_reset=1, direction="reverse"),
    ("Hardmax", (TIES,), {}),
    ("HardSigmoid", (X * 4,), {"alpha": 0.3}),
    ("HardSwish", (X * 4,), {}),
    ("IsInf", (INFINITE,), {}),
    ("IsInf", (INFINITE,), {"detect_positive": 0}),
    ("LogSoftmax", (EXTREME,), {}),
    ("LpNormalization", (np.concatenate([X, 0 * X]),), {"axis": 2}),
    ("LpNormalization", (X,), {"axis": 1, "p": 1}),
    ("LRN", (IMAGE,), {"size": 3, "alpha": 0.5, "bias": 2.0}),
    (
        "LayerNormalization",
        (X, Fixed(weights(4)), Fixed(weights(4, seed=1))),
        {"epsilon": 0.1},
    ),
    ("LpPool", (IMAGE,), {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "p": 3}),
    lstm("LSTM", 4),
    lstm("LSTM", 4, directions=2, direction="bidirectional"),
    ("MatMul", (X, X[0, 0]), {}),
    ("MatMul", (X[0, 0], X.transpose(0, 2, 1)), {}),
    ("Max", (X, X[:1] * 2, X[:, :1]), {}),
    ("Max", (np.arange(4), np.array([2, 2, 2, 2])), {}),
    ("Mean", (X, X[:1], X[:, :1]), {}),
    ("Min", (X[:, :1], X[:, :, :1]), {}),
    ("Mish", (EXTREME,), {}),
    ("MaxPool", (IMAGE,), {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}),
    ("MaxPool", (IMAGE,), {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}),
    ("Mod", (X * 5, POSITIVE), {"fmod": 1}),
    (
        "OneHot",
        (np.array([[0, 2, -1]]), Fixed(np.array(4)), Fixed(np.array([0.5, 2.0], np.float32))),
        {"axis": 1},
    ),
    ("Or", (BOOLS, X > 1), {}),
    ("Pad", (IMAGE, fixed(1, 2, 3, 1), Fixed(np.float32(5)), fixed(3, 1)), {}),
    ("Pad", (IMAGE, fixed(0, 1, 0, 2, 0, 1, 2, 0)), {"mode": "reflect"}),
    ("Pad", (IMAGE, fixed(0, 0, -1, 2, 0, 0, 1, -2)), {"mode": "edge"}),
    ("Pad", (np.arange(6), fixed(2, -1)), {}),
    ("Pow", (POSITIVE, np.array([3], np.int64)), {}),
    ("PRelu", (IMAGE, Fixed(weights(4, 1, 1))), {}),
    ("Range", (fixed(1), fixed(9), fixed(3)), {}),
    ("Reciprocal", (POSITIVE,), {}),
    ("ReduceL1", (X, fixed(1)), {}),
    ("ReduceL2", (X, fixed(-1)), {"keepdims": 0}),
    ("ReduceLogSum", (POSITIVE, fixed(0, 2)), {}),
    ("ReduceLogSumExp", (EXTREME, fixed(1)), {"keepdims": 0}),
    ("ReduceMax", (X, fixed(-2)), {}),
    ("ReduceMean", (X, fixed(-1, -2)), {}),
    ("ReduceMin", (X,), {}),
    ("ReduceProd", (X, fixed(0)), {"keepdims": 0}),
    ("ReduceSum", (X,), {"noop_with_empty_axes": 1}),
    ("ReduceSumSquare", (X,), {"keepdims": 0}),
    ("Reshape", (X, fixed(0, -1)), {}),
    ("Resize", (IMAGE, "", Fixed(np.array([1, 1, 1.5, 2], np.float32))), {"mode": "linear"}),
    ("Resize", (IMAGE, "", "", fixed(1, 4, 3, 5)), {"mode": "cubic"}),
    (
        "Resize",
        (IMAGE, "", "", fixed(3, 3)),
        {"mode": "linear", "antialias": 1, "axes": [2, 3]},
    ),
    ("RMSNormalization", (X, weights(3, 4)), {"axis": -2, "epsilon": 0.1}),
    lstm("RNN", 1, direction="reverse"),
    ("ScatterElements", (X[0], Fixed(np.array([[1, -1], [0, 2]])), X[1, :2, :2]), {"axis": 1}),
    ("ScatterND", (X, Fixed(np.array([[1, 2], [0, -1], [1, 2]])), weights(3, 4)), {}),
    ("Selu", (EXTREME,), {}),
    ("Shape", (X,), {"start": 1}),
    ("Sign", (X - X[:1],), {}),
    ("Sinh", (X,), {}),
    ("Size", (X,), {}),
    ("Softplus", (EXTREME,), {}),
    ("SpaceToDepth", (weights(2, 3, 4, 6),), {"blocksize": 2}),
    ("Split", (X,), {"axis": 2, "num_outputs": 2}),
    ("Sum", (X, X[:1], X[:, :1]), {}),
    ("Tan", (INSIDE,), {}),
    ("ThresholdedRelu", (X,), {"alpha": 0.3}),
    ("TopK", (X, fixed(2)), {"largest": 0}),
    ("TopK", (X, fixed(1)), {"axis": 2, "sorted": 0}),
    ("Trilu", (X, fixed(1)), {}),
    ("Trilu", (BOOLS,), {"upper": 0}),
    ("Where", (BOOLS[:, :1], X[:1], Fixed(np.float32(3))), {}),
    ("Xor", (BOOLS, X > 1), {}),
]
OUTPUTS = {"LayerNormalization": 3, "LSTM": 3, "GRU": 2, "RNN": 2, "TopK": 2, "Split": 2}

NOTHING_TO_RUN = {"AveragePool", "BatchNormalization", "Conv", "Div"}
"""Rewrites that only refuse, or leave the node as it is."""


def built(case: Case) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    op, operands, attributes = case
    names, feeds, constants = [], {}, {}
    for index, operand in enumerate(operands):
        names.append("" if isinstance(operand, str) else f"x{index}")
        if isinstance(operand, Fixed):
            value = (
                operand.array.reshape(()) if op in ("CumSum", "Range", "Trilu") else operand.array
            )
            constants[names[-1]] = np.asarray(value)
        elif names[-1]:
            feeds[names[-1]] = np.asarray(operand)
    outputs = [f"y{i}" for i in range(OUTPUTS.get(op, 1))]
    made = model(
        [node(op, names, outputs, "layer", **attributes)],
        [tensor(n, a.shape, helper.np_dtype_to_tensor_dtype(a.dtype)) for n, a in feeds.items()],
        [onnx.ValueInfoProto(name=name) for name in outputs],
        constants,
        opset=23 if op == "RMSNormalization" else 18,
    )
    return onnx.shape_inference.infer_shapes(made, data_prop=True), feeds


def run(made: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        made.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, feeds)


def named(case: Case) -> str:
    return f"{case[0]}-{'-'.join(map(str, case[2].values()))}"[:60]


@pytest.mark.parametrize("case", CASES, ids=named)
def test_a_rewrite_changes_nothing(case: Case) -> None:
    made, feeds = built(case)
    expected = run(made, feeds)
    after = rewritten(made, SUPPORTED, REWRITES)
    assert {n.op_type for n in after.graph.node} <= SUPPORTED
    onnx.checker.check_model(after, full_check=True)
    kept = {value.name for value in after.graph.input}
    got = run(after, {name: array for name, array in feeds.items() if name in kept})
    for array, wanted in zip(got, expected, strict=True):
        assert array.shape == wanted.shape
        assert array.dtype == wanted.dtype
        np.testing.assert_allclose(array, wanted, rtol=2e-5, atol=2e-6)


def test_every_rewrite_is_tried() -> None:
    assert {case[0] for case in CASES} | NOTHING_TO_RUN == set(REWRITES)


@pytest.mark.parametrize(
    ("op", "operands", "attributes", "why"),
    [
        ("Div", (np.arange(4), np.arange(1, 5)), {}, "not exact"),
        ("Mod", (np.arange(4), np.arange(1, 5)), {}, "not exact"),
        ("Conv", (IMAGE, weights(2, 4, 3, 3)), {}, "its weight is computed"),
        ("MaxPool", (IMAGE,), {"kernel_shape": [2, 2], "dilations": [2, 2]}, "holes"),
        ("TopK", (X, np.array([2])), {}, "how many"),
        ("NonZero", (X,), {}, "depends on the data"),
        (
            "BitShift",
            (np.arange(4, dtype=np.uint8),) * 2,
            {"direction": "LEFT"},
            "no such operator",
        ),
        ("ScatterND", (X, np.array([[1, 2]]), weights(1, 4)), {}, "where it writes"),
        ("CumSum", (np.arange(4), fixed(0)), {}, "floats only"),
        ("Asin", (INSIDE,), {}, "no such operator"),
    ],
)
def test_what_cannot_be_is_refused_with_its_reason(
    op: str, operands: tuple[Any, ...], attributes: dict[str, Any], why: str
) -> None:
    made, _ = built((op, operands, attributes))
    with pytest.raises(Refusal, match=why) as caught:
        rewritten(made, SUPPORTED, REWRITES)
    assert caught.value.nodes["layer"][0] == op


def test_all_refusals_are_told_at_once() -> None:
    made = model(
        [node("Asin", ["x"], ["a"], "first"), node("Acos", ["x"], ["b"], "second")],
        [tensor("x", [2])],
        [tensor("a", [2]), tensor("b", [2])],
    )
    with pytest.raises(Refusal) as caught:
        rewritten(made, SUPPORTED, REWRITES)
    assert set(caught.value.nodes) == {"first", "second"}


def test_what_onnx_defines_by_others_is_expanded() -> None:
    made = model(
        [node("Softsign", ["x"], ["y"], "layer")], [tensor("x", [2, 3])], [tensor("y", [2, 3])]
    )
    feeds = {"x": weights(2, 3)}
    after = rewritten(made, SUPPORTED, REWRITES)
    assert {n.op_type for n in after.graph.node} <= SUPPORTED
    np.testing.assert_allclose(run(after, feeds)[0], run(made, feeds)[0], rtol=1e-6)


def test_a_definition_knows_the_attributes_that_are_left_out() -> None:
    made = model(
        [node("MeanVarianceNormalization", ["x"], ["y"], "layer")],
        [tensor("x", [2, 3, 4, 5])],
        [tensor("y", [2, 3, 4, 5])],
    )
    feeds = {"x": weights(2, 3, 4, 5)}
    after = rewritten(made, SUPPORTED, REWRITES)
    assert {n.op_type for n in after.graph.node} <= SUPPORTED
    np.testing.assert_allclose(run(after, feeds)[0], run(made, feeds)[0], rtol=1e-4, atol=1e-5)


def test_a_definition_may_lack_an_optional_operand() -> None:
    shapes = {"q": (1, 2, 3, 4), "k": (1, 2, 3, 4), "v": (1, 2, 3, 4)}
    shapes |= {"past_k": (1, 2, 2, 4), "past_v": (1, 2, 2, 4)}
    made = model(
        [node("Attention", ["q", "k", "v", "", "past_k", "past_v"], ["y"], "layer")],
        [tensor(name, shape) for name, shape in shapes.items()],
        [tensor("y", [1, 2, 3, 4])],
        opset=23,
        ir=10,
    )
    feeds = {name: weights(*shape, seed=i) for i, (name, shape) in enumerate(shapes.items())}
    after = rewritten(made, SUPPORTED, REWRITES)
    assert {n.op_type for n in after.graph.node} <= SUPPORTED
    # ONNX Runtime takes no past without its present, so by hand.
    keys, values = (np.concatenate([feeds[f"past_{n}"], feeds[n]], axis=2) for n in "kv")
    scores = np.exp(feeds["q"] @ keys.transpose(0, 1, 3, 2) / 2)
    expected = scores / scores.sum(axis=-1, keepdims=True) @ values
    np.testing.assert_allclose(run(after, feeds)[0], expected, rtol=1e-4, atol=1e-5)


def test_the_users_graph_is_not_touched() -> None:
    from edgekit.formats.coreml_converter import prepared

    made, _ = built(("Softplus", (X,), {}))
    before = made.SerializeToString(deterministic=True)
    prepared(made)
    assert made.SerializeToString(deterministic=True) == before


def test_float16_holds_where_the_textbook_form_overflows() -> None:
    """``log(1 + exp(80))`` is infinite in float16; the rewrite gives 80."""
    made = model(
        [node("Softplus", ["x"], ["y"], "layer")],
        [tensor("x", [1, 3], TensorProto.FLOAT16)],
        [tensor("y", [1, 3], TensorProto.FLOAT16)],
    )
    feeds = {"x": np.array([[-80, 0, 80]], np.float16)}
    after = rewritten(made, SUPPORTED, REWRITES)
    np.testing.assert_allclose(run(after, feeds)[0], [[0, 0.6934, 80]], atol=1e-3)
