"""Convolutions and dense layers as matrices: ``rows @ matrix + bias`` is what a layer gives.

A convolution's rows are its windows (im2col), at some positions only: neighbours say much
the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np
import onnx
from msgspec import Struct
from numpy.typing import NDArray
from onnx import NodeProto, helper, numpy_helper

from edgekit.sources.consumers import consumers

Array = NDArray[Any]
Floats = NDArray[np.float64]
_BIAS = 2


class Layer(Struct, frozen=True, kw_only=True):
    """A node that is linear in what it takes.

    Attributes:
        weight: names of its initializers; ``bias`` is empty where it has none.
        depthwise: each channel has a matrix of its own.
        turned: a dense layer's weight is ``[in, out]``.
        positions: of the output, flattened, whose windows are looked at; ``None``: all.
    """

    name: str
    taken: str
    given: str
    weight: str
    bias: str
    kernel: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()
    dilations: tuple[int, ...] = ()
    pads: tuple[int, ...] = ()
    depthwise: bool = False
    turned: bool = False
    positions: tuple[int, ...] | None = None


def layers(model: onnx.ModelProto, positions: int) -> tuple[Layer, ...]:
    """The layers of a graph that are understood, in order.

    Args:
        model: with inferred shapes.
        positions: how many of each convolution's windows to look at in one sample.
    """
    floats = (t for t in model.graph.initializer if t.data_type == onnx.TensorProto.FLOAT)
    weights = {t.name: tuple(t.dims) for t in floats}
    values = (*model.graph.value_info, *model.graph.output)
    shapes = {v.name: tuple(d.dim_value for d in v.type.tensor_type.shape.dim) for v in values}
    made = (_layer(node, weights, shapes, positions) for node in model.graph.node)
    return tuple(layer for layer in made if layer)


def unshared(model: onnx.ModelProto, found: Sequence[Layer]) -> list[Layer]:
    """The layers that share their weights with nobody: those that do cannot be fitted alone."""
    taken = consumers(model)
    return [
        layer
        for layer in found
        if all(len(taken[name]) == 1 for name in (layer.weight, layer.bias) if name)
    ]


def _layer(
    node: NodeProto,
    weights: dict[str, tuple[int, ...]],
    shapes: dict[str, tuple[int, ...]],
    positions: int,
) -> Layer | None:
    if node.op_type not in ("Conv", "Gemm", "MatMul") or any(
        name not in weights for name in node.input[1:] if name
    ):
        return None
    had = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    weight = weights[node.input[1]]
    plain = Layer(
        name=node.name,
        taken=node.input[0],
        given=node.output[0],
        weight=node.input[1],
        bias=node.input[_BIAS] if len(node.input) > _BIAS else "",
        turned=is_turned(node),
    )
    if node.op_type != "Conv":
        return plain if is_plain(node) and len(weight) == _BIAS else None
    return _convolution(plain, had, weight, shapes.get(node.output[0], ()), positions)


def is_plain(node: NodeProto) -> bool:
    """Whether a node adds and multiplies nothing else, as a Gemm may."""
    had = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    return node.op_type != "Gemm" or (
        (had.get("alpha", 1.0), had.get("beta", 1.0), had.get("transA", 0)) == (1, 1, 0)
    )


def is_turned(node: NodeProto) -> bool:
    """Whether a dense layer's weight is ``[in, out]``."""
    return not any(a.name == "transB" and a.i for a in node.attribute)


def _convolution(
    plain: Layer,
    had: dict[str, Any],
    weight: tuple[int, ...],
    given: tuple[int, ...],
    positions: int,
) -> Layer | None:
    """``None`` for one in groups (but depthwise), and for pads that follow from a word."""
    group, rank = had.get("group", 1), len(weight) - 2
    depthwise = group > 1 and group == weight[0] and weight[1] == 1
    if (group > 1 and not depthwise) or had.get("auto_pad", b"NOTSET") != b"NOTSET":
        return None
    places = prod(given[2:])
    rng = np.random.default_rng(0)
    chosen = rng.choice(places, min(places, positions), replace=False)
    return Layer(
        name=plain.name,
        taken=plain.taken,
        given=plain.given,
        weight=plain.weight,
        bias=plain.bias,
        kernel=weight[2:],
        strides=tuple(had.get("strides", [1] * rank)),
        dilations=tuple(had.get("dilations", [1] * rank)),
        pads=tuple(had.get("pads", [0] * 2 * rank)),
        depthwise=depthwise,
        positions=tuple(np.sort(chosen).tolist()),
    )


def rows(layer: Layer, taken: Array) -> Array:
    """The windows that a layer sees of one input, ``[positions, channels * taps]``."""
    if not layer.kernel:
        return taken.reshape(-1, taken.shape[-1])
    rank = len(layer.kernel)
    pads = list(zip(layer.pads[:rank], layer.pads[rank:], strict=True))
    padded = np.pad(taken[0], [(0, 0), *pads])
    windows = _windows(layer, padded.shape[1:])
    picked = padded.reshape(len(padded), -1)[:, windows]
    return np.moveaxis(picked, 0, 1).reshape(len(windows), -1)


@lru_cache(maxsize=8)
def _windows(layer: Layer, shape: tuple[int, ...]) -> NDArray[np.int64]:
    """Where a layer's windows lie in one padded channel, flattened: ``[positions, taps]``."""
    taps = np.indices(layer.kernel).reshape(len(layer.kernel), -1)
    reach = [(k - 1) * d for k, d in zip(layer.kernel, layer.dilations, strict=True)]
    outer = [(n - r - 1) // s + 1 for n, r, s in zip(shape, reach, layer.strides, strict=True)]
    corners = np.array(np.unravel_index(list(layer.positions or ()), outer))
    strides, dilations = np.array(layer.strides), np.array(layer.dilations)
    places = (corners.T * strides)[:, :, None] + (taps * dilations[:, None])[None]
    return np.asarray(np.ravel_multi_index(tuple(np.moveaxis(places, 1, 0)), shape))


def given(layer: Layer, made: Array) -> Array:
    """What a layer gives at the same positions, ``[positions, channels]``."""
    if not layer.kernel:
        return np.asarray(made.reshape(-1, made.shape[-1]))
    places = list(layer.positions or ())
    return np.asarray(made[0].reshape(made.shape[1], -1)[:, places].T)


def matrix(layer: Layer, weight: Array) -> Array:
    """The weight as ``[channels in * taps, channels out]``."""
    if layer.kernel:
        return weight.reshape(len(weight), -1).T
    return weight if layer.turned else weight.T


def weight(layer: Layer, matrix: Array, shape: Sequence[int]) -> Array:
    """A matrix as the weight of that shape."""
    if layer.kernel:
        return matrix.T.reshape(shape)
    return matrix if layer.turned else matrix.T


def constant(model: onnx.ModelProto, name: str) -> Array:
    """An initializer's values."""
    (found,) = [t for t in model.graph.initializer if t.name == name]
    return numpy_helper.to_array(found)


def assign(model: onnx.ModelProto, name: str, array: Array) -> None:
    """Give an initializer other values of its own type."""
    (found,) = [t for t in model.graph.initializer if t.name == name]
    kept = helper.tensor_dtype_to_np_dtype(found.data_type)
    found.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array, kept), name))


def write(model: onnx.ModelProto, layer: Layer, matrix: Array, bias: Array) -> None:
    """Give a layer that matrix, and that bias if it has one."""
    shape = constant(model, layer.weight).shape
    assign(model, layer.weight, weight(layer, matrix, shape))
    if layer.bias:
        assign(model, layer.bias, bias.reshape(constant(model, layer.bias).shape))
