"""Each element by itself, against NumPy in float64 and PyTorch's or IEEE's definitions."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from tests.mil.programs import Case, cases, check, floats, folded, ints, mb

X = floats(2, 3, 4)
Y = floats(3, 1, seed=1)
POSITIVE = floats(2, 3, low=0.1, high=3)
UNIT = floats(2, 3, low=-0.9, high=0.9)
WIDE = floats(4, 5, low=-90, high=90)
INTS, ONES = ints(3, 4), ints(3, 4, low=1, high=5, seed=1)
P, Q = ints(6, low=0, high=2).astype(bool), ints(6, low=0, high=2, seed=3).astype(bool)
IMAGE = floats(2, 3, 4, 5)
ALPHA, BETA = floats(3, seed=5), floats(3, seed=6, low=0.5, high=2)

_erf = np.vectorize(math.erf)


def _unary(name, x, expected, **parameters):
    def build(x):
        return getattr(mb, name)(x=x, **parameters)

    wide = x.astype(np.float64) if x.dtype == np.float32 else x
    return Case(name, build, {"x": x}, expected(wide))


def _binary(name, x, y, expected):
    def build(x, y):
        return getattr(mb, name)(x=x, y=y)

    return Case(f"{name}-{x.dtype}", build, {"x": x, "y": y}, expected(x, y))


UNARY = [
    _unary("abs", X, np.abs),
    _unary("abs", INTS, np.abs),
    _unary("acos", UNIT, np.arccos),
    _unary("asin", UNIT, np.arcsin),
    _unary("atan", X, np.arctan),
    _unary("atanh", UNIT, np.arctanh),
    _unary("ceil", X, np.ceil),
    _unary("cos", X, np.cos),
    _unary("cosh", X, np.cosh),
    _unary("erf", X, _erf),
    _unary("exp", X, np.exp),
    _unary("exp2", X, np.exp2),
    _unary("floor", X, np.floor),
    _unary("inverse", POSITIVE, lambda x: 1 / (x + 1e-4)),
    _unary("inverse", POSITIVE, lambda x: 1 / (x + 0.5), epsilon=0.5),
    _unary("log", POSITIVE, np.log),
    _unary("log", POSITIVE, lambda x: np.log(x + 0.5), epsilon=0.5),
    _unary("round", np.float32([-2.5, -1.5, -0.4, 0.5, 1.5, 2.6]), np.round),
    _unary("rsqrt", POSITIVE, lambda x: 1 / np.sqrt(x)),
    _unary("sign", X, np.sign),
    _unary("sin", X, np.sin),
    _unary("sinh", X, np.sinh),
    _unary("sqrt", POSITIVE, np.sqrt),
    _unary("square", X, np.square),
    _unary("tan", X, np.tan),
    _unary("tanh", X, np.tanh),
    _unary("threshold", X, lambda x: np.maximum(x, 0.25), alpha=0.25),
    _unary("clip", X, lambda x: np.clip(x, -1, 0.5), alpha=-1.0, beta=0.5),
    _unary("relu", X, lambda x: np.maximum(x, 0)),
    _unary("relu6", WIDE, lambda x: np.clip(x, 0, 6)),
    _unary("sigmoid", WIDE, lambda x: 1 / (1 + np.exp(-x))),
    _unary("silu", X, lambda x: x / (1 + np.exp(-x))),
    _unary("softplus", WIDE, lambda x: np.logaddexp(0, x)),
    _unary("softsign", X, lambda x: x / (1 + np.abs(x))),
    _unary("gelu", X, lambda x: x / 2 * (1 + _erf(x / np.sqrt(2))), mode="EXACT"),
    _unary(
        "gelu",
        X,
        lambda x: x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
        mode="TANH_APPROXIMATION",
    ),
    _unary("gelu", X, lambda x: x / (1 + np.exp(-1.702 * x)), mode="SIGMOID_APPROXIMATION"),
    _unary("elu", X, lambda x: np.where(x > 0, x, 0.3 * np.expm1(x)), alpha=0.3),
    _unary("leaky_relu", X, lambda x: np.where(x > 0, x, 0.3 * x), alpha=0.3),
    _unary(
        "clamped_relu", X, lambda x: np.where(x > 0, x, 0.3 * x).clip(None, 1), alpha=0.3, beta=1.0
    ),
    _unary("linear_activation", X, lambda x: 0.3 * x + 2, alpha=0.3, beta=2.0),
    _unary("scaled_tanh", X, lambda x: 0.3 * np.tanh(2 * x), alpha=0.3, beta=2.0),
    _unary("sigmoid_hard", X, lambda x: np.clip(0.3 * x + 0.5, 0, 1), alpha=0.3, beta=0.5),
    _unary("thresholded_relu", X, lambda x: np.where(x >= 0.5, x, 0), alpha=0.5),
    _unary("prelu", IMAGE, lambda x: np.where(x > 0, x, x * ALPHA[:, None, None]), alpha=ALPHA),
    _unary(
        "softplus_parametric",
        IMAGE,
        lambda x: ALPHA[:, None, None] * np.log1p(np.exp(BETA[:, None, None] * x)),
        alpha=ALPHA,
        beta=BETA,
    ),
    _unary("cast", np.float32([-1.7, 0.0, 2.9]), lambda x: np.int32([-1, 0, 2]), dtype="int32"),
    _unary("cast", np.float32([-1.7, 0.0, 2.9]), lambda x: [True, False, True], dtype="bool"),
    _unary("cast", np.float32([1 / 3]), lambda x: np.float16([1 / 3]), dtype="fp16"),
    _unary("logical_not", P, np.logical_not),
    _unary("identity", X, lambda x: x),
]
BINARY = [
    _binary("add", X, Y, np.add),
    _binary("sub", X, Y, np.subtract),
    _binary("mul", X, Y, np.multiply),
    _binary("real_div", X, Y, np.divide),
    _binary("floor_div", X, Y, np.floor_divide),
    _binary("floor_div", INTS, ONES, np.floor_divide),
    _binary("mod", INTS, ONES, np.mod),
    _binary("mod", X, Y, np.mod),
    _binary("pow", POSITIVE, floats(3, seed=2), np.power),
    _binary("maximum", X, Y, np.maximum),
    _binary("minimum", X, Y, np.minimum),
    _binary("add", INTS, ONES, np.add),
    _binary("equal", INTS, ONES, np.equal),
    _binary("not_equal", INTS, ONES, np.not_equal),
    _binary("greater", X, Y, np.greater),
    _binary("greater_equal", INTS, ONES, np.greater_equal),
    _binary("less", X, Y, np.less),
    _binary("less_equal", INTS, ONES, np.less_equal),
    _binary("logical_and", P, Q, np.logical_and),
    _binary("logical_or", P, Q, np.logical_or),
    _binary("logical_xor", P, Q, np.logical_xor),
]
# In Core ML a boolean cannot be an input: it is made from integers.
_BOOLEAN = {"logical_not", "logical_and-bool", "logical_or-bool", "logical_xor-bool"}


def _from_integers(case: Case) -> Case:
    def build(*values):
        made = case.build(*(mb.cast(x=value, dtype="bool") for value in values))
        return mb.cast(x=made, dtype="int32")

    inputs = {name: value.astype(np.int32) for name, value in case.inputs.items()}
    return Case(case.name, build, inputs, np.asarray(case.expected).astype(np.int32))


def _to_integers(case: Case) -> Case:
    if np.asarray(case.expected).dtype != np.bool_ or case.name in _BOOLEAN:
        return _from_integers(case) if case.name in _BOOLEAN else case

    def build(*values):
        return mb.cast(x=case.build(*values), dtype="int32")

    return Case(case.name, build, case.inputs, np.asarray(case.expected).astype(np.int32))


ROWS = [_to_integers(case) for case in UNARY + BINARY]


@cases(*ROWS)
def test_it_gives_what_numpy_gives(case: Case, tmp_path: Path) -> None:
    check(case, tmp_path)


@cases(*(case for case in UNARY + BINARY if case.name != "silu"))
def test_coremltools_folds_constants_to_the_same(case: Case) -> None:
    values = folded(case)
    assert values is not None
    np.testing.assert_allclose(values[0], case.expected, 1e-4, 1e-5)


@pytest.mark.parametrize("axis", [None, 1])
def test_quantize_and_dequantize(tmp_path: Path, axis: int | None) -> None:
    x = floats(2, 3, 4, low=-3, high=3)
    scale = np.float32(0.02) if axis is None else np.float32([0.01, 0.02, 0.03])
    zero = np.int8(3) if axis is None else np.int8([3, 0, -7])

    def build(x):
        how = {"scale": scale, "zero_point": zero} | ({} if axis is None else {"axis": axis})
        return mb.dequantize(input=mb.quantize(input=x, output_dtype="int8", **how), **how)

    shape = () if axis is None else (3, 1)
    step, offset = scale.reshape(shape), zero.reshape(shape).astype(np.float64)
    quantized = np.clip(np.round(x / step) + offset, -128, 127)
    check(Case("qdq", build, {"x": x}, (quantized - offset) * step, "iOS17"), tmp_path)


def test_a_half_program_rounds_every_result_once(tmp_path: Path) -> None:
    x = floats(64).astype(np.float16)
    y = floats(64, seed=9).astype(np.float16)
    expected = ((x + y).astype(np.float16) * y).astype(np.float16)
    case = Case(
        "half", lambda x, y: mb.mul(x=mb.add(x=x, y=y), y=y), {"x": x, "y": y}, expected, "iOS16", 0
    )
    check(case, tmp_path)
    wide = (x.astype(np.float64) + y) * y
    assert not np.array_equal(expected, wide)
