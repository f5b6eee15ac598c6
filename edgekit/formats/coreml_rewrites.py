"""Operators that the Core ML exporter lacks or gets wrong, by operators that it has.

Element by element and reductions are here; what moves elements is in
``coreml_rewrites_layout``, recurrence in ``coreml_rewrites_recurrent``. Written to hold in
float16: no exponential of a large number, no difference of large ones.
"""

from __future__ import annotations

from functools import partial, reduce

import numpy as np

from edgekit.formats.coreml_rewrites_layout import LAYOUT
from edgekit.formats.coreml_rewrites_recurrent import RECURRENT
from edgekit.formats.coreml_rewriting import Builder, Made, Refused, Rewrite

_SELU = {"alpha": 1.6732632423543772, "gamma": 1.0507009873554805}
_LEAST_RANK = 2


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


def _normal_axes(b: Builder) -> tuple[int, ...]:
    """The axes of a reduction, counted from the front."""
    rank = len(b.shape(b.node.input[0]))
    listed = b.attribute("axes")
    if b.input(1):
        listed = b.fixed(1, "what it reduces").ravel().tolist()
    if not listed:
        listed = [] if b.attribute("noop_with_empty_axes", 0) else range(rank)
    return tuple(sorted(int(axis) % rank for axis in listed))


def _reduced(b: Builder) -> Made:
    """Axes counted from the front and always named; bools through integers."""
    x, axes = b.node.input[0], _normal_axes(b)
    shape = b.shape(x)
    if not all(shape):
        raise Refused("it reduces an empty tensor")
    if not axes:
        return b("Identity", x)
    if b.type(x) == np.bool_:
        made = b.reduce(b.node.op_type, b.cast(x, np.int32), axes, keep=_keeps(b))
        return b.cast(made, np.bool_)
    given = b.attribute("axes") or b.scene.constants.get(b.input(1) or "", np.array([])).tolist()
    return None if list(given) == list(axes) else b.reduce(b.node.op_type, x, axes, keep=_keeps(b))


def _keeps(b: Builder) -> bool:
    return bool(b.attribute("keepdims", 1))


def _reduce_after(before: str, b: Builder) -> Made:
    """A sum of what one operator makes of each element."""
    x = b.node.input[0]
    each = b("Mul", x, x) if before == "Square" else b(before, x)
    return b.reduce("ReduceSum", each, _some_axes(b), keep=_keeps(b))


def _some_axes(b: Builder) -> tuple[int, ...]:
    axes = _normal_axes(b)
    if not axes or not all(b.shape(b.node.input[0])):
        raise Refused("it reduces nothing")
    return axes


def _reduce_l2(b: Builder) -> Made:
    total = _reduce_after("Square", b)
    return b("Sqrt", str(total))


def _reduce_log_sum(b: Builder) -> Made:
    x = b.node.input[0]
    return b("Log", b.reduce("ReduceSum", x, _some_axes(b), keep=_keeps(b)))


def _reduce_log_sum_exp(b: Builder) -> Made:
    """``max + log(sum(exp(x - max)))``."""
    x, axes = b.node.input[0], _some_axes(b)
    peak = b.reduce("ReduceMax", x, axes)
    total = b.reduce("ReduceSum", b("Exp", b("Sub", x, peak)), axes)
    made = b("Add", b("Log", total), peak)
    return made if _keeps(b) else b("Squeeze", made, b.integers(*axes))


def _log_softmax(b: Builder) -> Made:
    """Less the logarithm of the sum, rather than the logarithm of a quotient."""
    x = b.node.input[0]
    axis = b.attribute("axis", -1) % len(b.shape(x))
    low = b("Sub", x, b.reduce("ReduceMax", x, (axis,)))
    return b("Sub", low, b("Log", b.reduce("ReduceSum", b("Exp", low), (axis,))))


def _positions(b: Builder, x: str, axis: int) -> str:
    """``0, 1, 2, ...`` along an axis, in the shape of ``x``."""
    shape = b.shape(x)
    column = np.arange(shape[axis], dtype=np.int32)
    column = column.reshape([-1 if a == axis else 1 for a in range(len(shape))])
    return b.constant(np.broadcast_to(column, shape))


def _place(b: Builder, extreme: str, x: str, axis: int, *, last: bool) -> str:
    """Where along an axis the extreme first (or last) stands, int32, the axis kept."""
    hit = b("Equal", x, b.reduce(extreme, x, (axis,)))
    absent = np.full(b.shape(x), -1 if last else b.shape(x)[axis], np.int32)
    candidates = b("Where", hit, _positions(b, x, axis), b.constant(absent))
    return b.reduce("ReduceMax" if last else "ReduceMin", candidates, (axis,))


def _arg(extreme: str, b: Builder) -> Made:
    """The first (or last) place of the extreme: Core ML leaves open which of several."""
    x = b.node.input[0]
    axis = b.attribute("axis", 0) % len(b.shape(x))
    place = _place(b, extreme, x, axis, last=bool(b.attribute("select_last_index", 0)))
    if not _keeps(b):
        place = b("Squeeze", place, b.integers(axis))
    return b.cast(place, np.int64)


def _hardmax(b: Builder) -> Made:
    x = b.node.input[0]
    axis = b.attribute("axis", -1) % len(b.shape(x))
    place = _place(b, "ReduceMax", x, axis, last=False)
    return b.cast(b("Equal", _positions(b, x, axis), place), b.type(x))


def _cumulative_sum(b: Builder) -> Made:
    """A product with a triangle of ones."""
    x = b.node.input[0]
    shape = b.shape(x)
    if b.type(x).kind != "f":
        raise Refused("Core ML multiplies matrices of floats only")
    axis = int(b.fixed(1, "the axis").ravel()[0]) % len(shape)
    ones = np.tri(shape[axis], k=-b.attribute("exclusive", 0), dtype=b.type(x))
    ones = ones.T if b.attribute("reverse", 0) else ones
    if len(shape) == 1:
        column = b("Unsqueeze", x, b.integers(1))
        return b("Squeeze", b("MatMul", b.constant(ones), column), b.integers(1))
    order = [a for a in range(len(shape)) if a != axis] + [axis]
    summed = b("MatMul", b("Transpose", x, perm=order), b.constant(ones.T))
    return b("Transpose", summed, perm=[int(a) for a in np.argsort(order)])


def _matmul(b: Builder) -> Made:
    """Vectors as matrices: Core ML multiplies those only."""
    left, right = b.node.input
    flat = [len(b.shape(name)) < _LEAST_RANK for name in (left, right)]
    if b.type(left).kind != "f":
        raise Refused("Core ML multiplies matrices of floats only")
    if not any(flat):
        return None
    raised = b(
        "MatMul",
        b("Unsqueeze", left, b.integers(0)) if flat[0] else left,
        b("Unsqueeze", right, b.integers(1)) if flat[1] else right,
    )
    dropped = [-2] * flat[0] + [-1] * flat[1]
    return b("Squeeze", raised, b.integers(*dropped))


def _lp_normalization(b: Builder) -> Made:
    x = b.node.input[0]
    axis = b.attribute("axis", -1) % len(b.shape(x))
    if b.attribute("p", 2) == 1:
        norm = b.reduce("ReduceSum", b("Abs", x), (axis,))
    else:
        norm = b("Sqrt", b.reduce("ReduceSum", b("Mul", x, x), (axis,)))
    # A vector of zeros stays one: it is divided by one.
    empty = b("Equal", norm, b.scalar(0, x))
    ones = b.constant(np.ones(_kept(b.shape(x), axis), b.type(x)))
    return b("Div", x, b("Where", empty, ones, norm))


def _kept(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    return tuple(1 if a == axis else size for a, size in enumerate(shape))


def _local_response(b: Builder) -> Made:
    """``x / (bias + alpha / size * sum of squares of the neighbouring channels) ^ beta``."""
    x, size = b.node.input[0], b.attribute("size")
    shape = b.shape(x)
    before, after = (size - 1) // 2, size - 1 - (size - 1) // 2
    rest = [0] * (len(shape) - 2)
    pads = b.integers(0, before, *rest, 0, after, *rest)
    padded = b("Pad", b("Mul", x, x), pads)
    windows = [
        b("Slice", padded, b.integers(i), b.integers(i + shape[1]), b.integers(1))
        for i in range(size)
    ]
    scaled = b(
        "Mul", reduce(partial(b, "Add"), windows), b.scalar(b.attribute("alpha", 1e-4) / size, x)
    )
    base = b("Add", scaled, b.scalar(b.attribute("bias", 1.0), x))
    return b("Div", x, b("Pow", base, b.scalar(b.attribute("beta", 0.75), x)))


def _rms_norm(b: Builder) -> Made:
    """``x / sqrt(mean(x^2) + epsilon) * scale``."""
    x, scale = b.node.input
    rank = len(b.shape(x))
    axes = range(b.attribute("axis", -1) % rank, rank)
    power = b.reduce("ReduceMean", b("Mul", x, x), axes)
    root = b("Sqrt", b("Add", power, b.scalar(b.attribute("epsilon", 1e-5), x)))
    return b("Mul", b("Div", x, root), scale)


def _batch_norm(b: Builder) -> Made:
    if b.attribute("training_mode", 0):
        raise Refused("it is in training mode: export the model for inference")
    return None


def _layer_norm(b: Builder) -> Made:
    """Written out where its mean is asked for, or its scale is computed."""
    scale, bias = b.node.input[1], b.input(2)
    fixed = all(name is None or name in b.scene.constants for name in (scale, bias))
    if fixed and len([name for name in b.node.output if name]) == 1:
        return None
    x = b.node.input[0]
    rank = len(b.shape(x))
    axes = range(b.attribute("axis", -1) % rank, rank)
    mean = b.reduce("ReduceMean", x, axes)
    apart = b("Sub", x, mean)
    variance = b.reduce("ReduceMean", b("Mul", apart, apart), axes)
    spread = b("Sqrt", b("Add", variance, b.scalar(b.attribute("epsilon", 1e-5), x)))
    inverse = b("Div", b.scalar(1, x), spread)
    scaled = b("Mul", b("Mul", apart, inverse), scale)
    return (b("Add", scaled, bias) if bias else scaled, mean, inverse)


def _dropout(b: Builder) -> Made:
    if b.input(2) and np.any(b.fixed(2, "whether it trains")):
        raise Refused("it is in training mode: export the model for inference")
    mask = b.constant(np.ones(b.shape(b.node.input[0]), np.bool_))
    return (b.node.input[0], mask)


def _top_k(b: Builder) -> Made:
    """The smallest are the largest of the negatives; sorted will do where any order does."""
    b.fixed(1, "how many are taken")
    x, axis = b.node.input[0], b.attribute("axis", -1)
    if b.attribute("largest", 1) and b.attribute("sorted", 1):
        return None
    if b.attribute("largest", 1):
        return b.several("TopK", (x, b.node.input[1]), 2, axis=axis)
    if b.type(x).kind != "f":
        raise Refused("the smallest integers: Core ML takes the largest")
    values, places = b.several("TopK", (b("Neg", x), b.node.input[1]), 2, axis=axis)
    return (b("Neg", values), places)


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

_REDUCING: dict[str, Rewrite] = {
    "ArgMax": partial(_arg, "ReduceMax"),
    "ArgMin": partial(_arg, "ReduceMin"),
    "BatchNormalization": _batch_norm,
    "CumSum": _cumulative_sum,
    "Hardmax": _hardmax,
    "LayerNormalization": _layer_norm,
    "LogSoftmax": _log_softmax,
    "LpNormalization": _lp_normalization,
    "LRN": _local_response,
    "MatMul": _matmul,
    "ReduceL1": partial(_reduce_after, "Abs"),
    "ReduceL2": _reduce_l2,
    "ReduceLogSum": _reduce_log_sum,
    "ReduceLogSumExp": _reduce_log_sum_exp,
    "ReduceMax": _reduced,
    "ReduceMean": _reduced,
    "ReduceMin": _reduced,
    "ReduceProd": _reduced,
    "ReduceSum": _reduced,
    "ReduceSumSquare": partial(_reduce_after, "Square"),
    "RMSNormalization": _rms_norm,
    "TopK": _top_k,
}

REWRITES: dict[str, Rewrite] = _ELEMENTWISE | _REDUCING | LAYOUT | RECURRENT
"""Operator -> its rewrite; for an operator that the exporter has, a repair."""
