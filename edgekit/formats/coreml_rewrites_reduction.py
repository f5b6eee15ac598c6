"""Rewrites of reductions, norms, matrix products and choices; see ``coreml_rewrites``."""

from __future__ import annotations

from functools import partial, reduce

import numpy as np

from edgekit.formats.coreml_rewriting import Builder, Made, Refused, Rewrite

_LEAST_RANK = 2


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


REDUCTION: dict[str, Rewrite] = {
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
