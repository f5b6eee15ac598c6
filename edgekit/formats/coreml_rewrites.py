"""Operators that the Core ML exporter lacks or gets wrong, by operators that it has.

What computes element by element is here, the rest in the modules beside it; the table of
all is ``REWRITES``. Written to hold in float16: no exponential of a large number, no
difference of large ones.
"""

from __future__ import annotations

from functools import partial, reduce

import numpy as np

from edgekit.formats.coreml_rewrites_image import IMAGE
from edgekit.formats.coreml_rewrites_layout import LAYOUT
from edgekit.formats.coreml_rewrites_recurrent import RECURRENT
from edgekit.formats.coreml_rewrites_reduction import REDUCTION
from edgekit.formats.coreml_rewriting import Builder, Made, Refused, Rewrite

_SELU = {"alpha": 1.6732632423543772, "gamma": 1.0507009873554805}


def _reciprocal(b: Builder) -> Made:
    x = b.node.input[0]
    return b("Div", b.scalar(1, x), x)


def _softplus(b: Builder) -> Made:
    """``max(x, 0) + log(1 + exp(-|x|))``: never the exponential of a large number."""
    return _softplus_of(b, b.node.input[0])


def _softplus_of(b: Builder, x: str) -> str:
    tail = b("Exp", b("Neg", b("Abs", x)))
    return b("Add", b("Relu", x), b("Log", b("Add", tail, b.scalar(1, x))))


def _mish(b: Builder) -> Made:
    x = b.node.input[0]
    return b("Mul", x, b("Tanh", _softplus_of(b, x)))


def _exponential_unit(b: Builder, x: str, alpha: float, scale: float = 1) -> str:
    """``max(x, 0) + alpha * (exp(min(x, 0) / scale) - 1)``."""
    below = b("Neg", b("Relu", b("Neg", x)))
    if scale != 1:
        below = b("Div", below, b.scalar(scale, x))
    rise = b("Sub", b("Exp", below), b.scalar(1, x))
    return b("Add", b("Relu", x), b("Mul", rise, b.scalar(alpha, x)))


def _elu(b: Builder) -> Made:
    return _exponential_unit(b, b.node.input[0], b.attribute("alpha", 1.0))


def _celu(b: Builder) -> Made:
    alpha = b.attribute("alpha", 1.0)
    return _exponential_unit(b, b.node.input[0], alpha, alpha)


def _selu(b: Builder) -> Made:
    x = b.node.input[0]
    unit = _exponential_unit(b, x, b.attribute("alpha", _SELU["alpha"]))
    return b("Mul", unit, b.scalar(b.attribute("gamma", _SELU["gamma"]), x))


def _prelu(b: Builder) -> Made:
    """In the form that Core ML's compiler recognises as its own ``prelu``."""
    x, slope = b.node.input
    below = b("Relu", b("Mul", x, b.scalar(-1, x)))
    return b("Add", b("Mul", b("Neg", slope), below), b("Relu", x))


def _hard_sigmoid_of(b: Builder, x: str, alpha: float, beta: float) -> str:
    line = b("Add", b("Mul", x, b.scalar(alpha, x)), b.scalar(beta, x))
    return b("Clip", line, b.scalar(0, x), b.scalar(1, x))


def _hard_sigmoid(b: Builder) -> Made:
    alpha, beta = b.attribute("alpha", 0.2), b.attribute("beta", 0.5)
    return _hard_sigmoid_of(b, b.node.input[0], alpha, beta)


def _hard_swish(b: Builder) -> Made:
    x = b.node.input[0]
    return b("Mul", x, _hard_sigmoid_of(b, x, 1 / 6, 0.5))


def _thresholded_relu(b: Builder) -> Made:
    x = b.node.input[0]
    over = b("Greater", x, b.scalar(b.attribute("alpha", 1.0), x))
    return b("Where", over, x, b.scalar(0, x))


def _larger(op: str, b: Builder, left: str, right: str) -> str:
    """The one of two that compares; a NaN on the left stays, as ONNX has it."""
    return b("Where", b(op, left, right), left, right)


def _folded_pairs(pair: str, b: Builder) -> Made:
    """An operator of any number of inputs as a chain of pairs."""
    names = list(b.node.input)
    if pair == "Add":
        return reduce(partial(b, "Add"), names) if len(names) > 1 else b("Identity", names[0])
    chained = names[0]
    for name in names[1:]:
        # Shapes are looked up when the Where is rewritten in its turn.
        chained = _larger(pair, b, chained, name)
    return chained if len(names) > 1 else b("Identity", names[0])


def _mean(b: Builder) -> Made:
    names = list(b.node.input)
    total = reduce(partial(b, "Add"), names)
    return b("Div", total, b.scalar(len(names), names[0]))


def _sign(b: Builder) -> Made:
    x = b.node.input[0]
    zero, one, minus = (b.scalar(value, x) for value in (0, 1, -1))
    shaped = [b("Expand", c, b.integers(*b.shape(x))) for c in (zero, one, minus)]
    negative = b("Where", b("Less", x, zero), shaped[2], shaped[0])
    return b("Where", b("Greater", x, zero), shaped[1], negative)


def _ceil(b: Builder) -> Made:
    return b("Neg", b("Floor", b("Neg", b.node.input[0])))


def _tan(b: Builder) -> Made:
    x = b.node.input[0]
    return b("Div", b("Sin", x), b("Cos", x))


def _hyperbolic(op: str, b: Builder) -> Made:
    """``(e^x - e^-x) / 2`` for Sinh, ``(e^x + e^-x) / 2`` for Cosh."""
    x = b.node.input[0]
    both = b(op, b("Exp", x), b("Exp", b("Neg", x)))
    return b("Mul", both, b.scalar(0.5, x))


def _asinh(b: Builder) -> Made:
    """Odd: by ``log(|x| + sqrt(x^2 + 1))``, which does not cancel."""
    x = b.node.input[0]
    size = b("Abs", x)
    root = b("Sqrt", b("Add", b("Mul", x, x), b.scalar(1, x)))
    return b("Mul", b("Sign", x), b("Log", b("Add", size, root)))


def _acosh(b: Builder) -> Made:
    x = b.node.input[0]
    root = b("Sqrt", b("Sub", b("Mul", x, x), b.scalar(1, x)))
    return b("Log", b("Add", x, root))


def _atanh(b: Builder) -> Made:
    x = b.node.input[0]
    one = b.scalar(1, x)
    quotient = b("Div", b("Add", one, x), b("Sub", one, x))
    return b("Mul", b("Log", quotient), b.scalar(0.5, x))


def _cast_like(b: Builder) -> Made:
    x, like = b.node.input
    if like not in b.scene.types:
        raise Refused(f"the type of {like!r} is not known before the model runs")
    return b.cast(x, b.type(like))


def _or(b: Builder) -> Made:
    return b("Not", b("And", *(b("Not", name) for name in b.node.input)))


def _xor(b: Builder) -> Made:
    return b("Not", b("Equal", *(b.cast(name, np.int32) for name in b.node.input)))


def _equal(b: Builder) -> Made:
    """Core ML compares numbers only."""
    if b.type(b.node.input[0]) != np.bool_:
        return None
    return b("Equal", *(b.cast(name, np.int32) for name in b.node.input))


def _is_inf(b: Builder) -> Made:
    x = b.node.input[0]
    infinity = b.scalar(np.inf, x)
    positive, negative = b.attribute("detect_positive", 1), b.attribute("detect_negative", 1)
    if positive and negative:
        return b("Equal", b("Abs", x), infinity)
    if not positive and not negative:
        raise Refused("it detects nothing")
    return b("Equal", x if positive else b("Neg", x), infinity)


def _integer_division(b: Builder) -> Made:
    """Core ML divides integers through floats, which hold no more than 24 of their bits."""
    if b.type(b.node.input[0]).kind == "f":
        return None
    raise Refused("Core ML divides integers through floats, which is not exact")


def _mod(b: Builder) -> Made:
    """What is left of ``x / y``: with the sign of ``x`` (fmod), else of ``y``."""
    x, y = b.node.input
    if b.type(x).kind != "f":
        raise Refused("Core ML divides integers through floats, which is not exact")
    quotient = b("Div", x, y)
    if b.attribute("fmod", 0):
        whole, beyond = b("Mul", b("Sign", quotient), b("Floor", b("Abs", quotient))), x
    else:
        whole = b("Floor", quotient)
        apart = b("Less", b("Mul", b("Sign", x), b("Sign", y)), b.scalar(0, x))
        beyond = b("Where", apart, y, x)
    left = b("Sub", x, b("Mul", whole, y))
    return b("Where", b("Equal", b("Abs", y), b.scalar(np.inf, y)), beyond, left)


def _pow(b: Builder) -> Made:
    """Both of one type: ONNX lets the exponent differ."""
    x, y = b.node.input
    if b.type(x).kind != "f":
        raise Refused("Core ML raises floats to powers, not integers")
    return None if b.type(x) == b.type(y) else b("Pow", x, b.cast(y, b.type(x)))


def _clip(b: Builder) -> Made:
    """Bounds that are computed, or an integer tensor, through comparisons."""
    x, low, high = b.node.input[0], b.input(1), b.input(2)
    bounds = [b.scene.constants.get(name) for name in (low, high) if name]
    fixed = all(bound is not None for bound in bounds)
    crossed = fixed and len(bounds) > 1 and np.any(bounds[0] >= bounds[1])  # type: ignore[operator]
    if fixed and not crossed and b.type(x).kind == "f":
        return None
    # The upper bound last: where the bounds cross, it wins.
    made = b("Max", x, low) if low else x
    return b("Min", made, high) if high else b("Identity", made)


def _dropout(b: Builder) -> Made:
    if b.input(2) and np.any(b.fixed(2, "whether it trains")):
        raise Refused("it is in training mode: export the model for inference")
    mask = b.constant(np.ones(b.shape(b.node.input[0]), np.bool_))
    return (b.node.input[0], mask)


_ELEMENTWISE: dict[str, Rewrite] = {
    "Acosh": _acosh,
    "Asinh": _asinh,
    "Atanh": _atanh,
    "CastLike": _cast_like,
    "Ceil": _ceil,
    "Celu": _celu,
    "Clip": _clip,
    "Cosh": partial(_hyperbolic, "Add"),
    "Div": _integer_division,
    "Dropout": _dropout,
    "Elu": _elu,
    "Equal": _equal,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _hard_swish,
    "IsInf": _is_inf,
    "Max": partial(_folded_pairs, "Greater"),
    "Mean": _mean,
    "Min": partial(_folded_pairs, "Less"),
    "Mish": _mish,
    "Mod": _mod,
    "Or": _or,
    "Pow": _pow,
    "PRelu": _prelu,
    "Reciprocal": _reciprocal,
    "Selu": _selu,
    "Sign": _sign,
    "Sinh": partial(_hyperbolic, "Sub"),
    "Softplus": _softplus,
    "Sum": partial(_folded_pairs, "Add"),
    "Tan": _tan,
    "ThresholdedRelu": _thresholded_relu,
    "Xor": _xor,
}

REWRITES: dict[str, Rewrite] = _ELEMENTWISE | REDUCTION | LAYOUT | IMAGE | RECURRENT
"""Operator -> its rewrite; for an operator that the exporter has, a repair."""
