"""Operations on each element by itself: arithmetic, comparison, activations, casts."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from edgekit.mil.ops import onnx_node
from edgekit.mil.types import Array, Value


def _unary(function: Callable[[Array], Array]) -> Callable[..., Array]:
    # NumPy's own do not take their operands by name.
    def named(x: Array) -> Array:
        return function(x)

    return named


def _binary(function: Callable[[Array, Array], Array]) -> Callable[..., Array]:
    def named(x: Array, y: Array) -> Array:
        return function(x, y)

    return named


def _offset(function: Callable[[Array], Array], default: float) -> Callable[..., Array]:
    """A function of ``x + epsilon``."""
    return lambda x, epsilon=default: function(x + np.asarray(epsilon, x.dtype))


def _erf(x: Array) -> Array:
    return onnx_node.run("Erf", {}, [x])


def _sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def _softplus(x: Array) -> Array:
    return np.log1p(np.exp(-np.abs(x))) + np.maximum(x, 0)


def _gelu(x: Array, mode: str = "EXACT") -> Array:
    if mode == "EXACT":
        share = 0.5 + 0.5 * _erf(x / math.sqrt(2))
    elif mode == "TANH_APPROXIMATION":
        share = 0.5 + 0.5 * np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x))
    elif mode == "SIGMOID_APPROXIMATION":
        share = _sigmoid(1.702 * x)
    else:
        raise ValueError(f"gelu has no mode {mode!r}")
    return np.multiply(x, share)


def _clamped_relu(x: Array, alpha: Array, beta: Array) -> Array:
    return np.minimum(np.where(x >= 0, x, alpha * x), beta)


def _elu(x: Array, alpha: Value = 1) -> Array:
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def _leaky_relu(x: Array, alpha: Array) -> Array:
    return np.where(x >= 0, x, alpha * x)


def _prelu(x: Array, alpha: Array) -> Array:
    return np.where(x > 0, x, per_channel(alpha, x) * x)


def _softplus_parametric(x: Array, alpha: Array, beta: Array) -> Array:
    return per_channel(alpha, x) * _softplus(x * per_channel(beta, x))


def per_channel(values: Array, x: Array) -> Array:
    """One value for each channel, the second axis of ``x``, ready to broadcast."""
    return values.reshape(-1, *[1] * (x.ndim - 2))


def _clip(x: Array, alpha: Array, beta: Array) -> Array:
    return np.minimum(np.maximum(x, alpha), beta)


def _threshold(x: Array, alpha: Array) -> Array:
    return np.maximum(x, alpha)


def _cast(x: Array, dtype: str) -> Array:
    """The declared type of the result says the same; a cast to an integer truncates."""
    return x != 0 if dtype == "bool" else x


def _select(cond: Array, a: Array, b: Array) -> Array:
    return np.where(cond, a, b)


def _quantize(
    input: Array,  # noqa: A002 - MIL's name
    scale: Array,
    output_dtype: str,
    zero_point: Array | None = None,
    axis: Array | None = None,
) -> Array:
    """``clip(round(input / scale) + zero_point)``, halves to even; see ``dequantize``."""
    scale, zero = _along(scale, input, axis), _along(zero_point, input, axis)
    limits = np.iinfo(output_dtype)
    rounded = np.rint(np.divide(input, scale)) + zero
    return np.asarray(np.clip(rounded, limits.min, limits.max), output_dtype)


def _dequantize(
    input: Array,  # noqa: A002 - MIL's name
    scale: Array,
    zero_point: Array | None = None,
    axis: Array | None = None,
) -> Array:
    """``(input - zero_point) * scale``, per tensor or along ``axis``."""
    scale, zero = _along(scale, input, axis), _along(zero_point, input, axis)
    return (input.astype(np.float32) - zero) * scale


def _along(values: Array | None, x: Array, axis: Array | None) -> Array:
    if values is None:
        return np.zeros((), np.float32)
    if values.ndim == 0 or axis is None:
        return values.astype(np.float32)
    shape = [1] * x.ndim
    shape[int(axis)] = -1
    return values.astype(np.float32).reshape(shape)


OPERATIONS: Mapping[str, Callable[..., Value]] = {
    "abs": _unary(np.abs),
    "acos": _unary(np.arccos),
    "asin": _unary(np.arcsin),
    "atan": _unary(np.arctan),
    "atanh": _unary(np.arctanh),
    "ceil": _unary(np.ceil),
    "cos": _unary(np.cos),
    "cosh": _unary(np.cosh),
    "erf": _unary(_erf),
    "exp": _unary(np.exp),
    "exp2": _unary(np.exp2),
    "floor": _unary(np.floor),
    "identity": _unary(lambda x: x),
    "inverse": _offset(np.reciprocal, 1e-4),
    "log": _offset(np.log, 1e-45),
    "logical_not": _unary(np.logical_not),
    "round": _unary(np.rint),
    "rsqrt": _offset(lambda x: 1 / np.sqrt(x), 1e-12),
    "sign": _unary(np.sign),
    "sin": _unary(np.sin),
    "sinh": _unary(np.sinh),
    "sqrt": _unary(np.sqrt),
    "square": _unary(np.square),
    "tan": _unary(np.tan),
    "tanh": _unary(np.tanh),
    "threshold": _threshold,
    "clip": _clip,
    "cast": _cast,
    "select": _select,
    "quantize": _quantize,
    "dequantize": _dequantize,
    "add": _binary(np.add),
    "sub": _binary(np.subtract),
    "mul": _binary(np.multiply),
    "real_div": _binary(np.true_divide),
    "floor_div": _binary(np.floor_divide),
    "mod": _binary(np.mod),
    "pow": _binary(np.power),
    "maximum": _binary(np.maximum),
    "minimum": _binary(np.minimum),
    "equal": _binary(np.equal),
    "not_equal": _binary(np.not_equal),
    "greater": _binary(np.greater),
    "greater_equal": _binary(np.greater_equal),
    "less": _binary(np.less),
    "less_equal": _binary(np.less_equal),
    "logical_and": _binary(np.logical_and),
    "logical_or": _binary(np.logical_or),
    "logical_xor": _binary(np.logical_xor),
    "relu": _unary(lambda x: np.maximum(x, 0)),
    "relu6": _unary(lambda x: np.clip(x, 0, 6)),
    "sigmoid": _unary(_sigmoid),
    "silu": _unary(lambda x: x * _sigmoid(x)),
    "softplus": _unary(_softplus),
    "softsign": _unary(lambda x: x / (1 + np.abs(x))),
    "gelu": _gelu,
    "clamped_relu": _clamped_relu,
    "elu": _elu,
    "leaky_relu": _leaky_relu,
    "linear_activation": lambda x, alpha, beta: alpha * x + beta,
    "prelu": _prelu,
    "scaled_tanh": lambda x, alpha, beta: alpha * np.tanh(beta * x),
    "sigmoid_hard": lambda x, alpha, beta: np.clip(alpha * x + beta, 0, 1),
    "softplus_parametric": _softplus_parametric,
    "thresholded_relu": lambda x, alpha: np.where(x >= alpha, x, 0),
}
