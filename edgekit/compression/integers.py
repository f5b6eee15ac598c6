"""A network as int8 would compute it, in plain ONNX: what says how much it would lose.

Layers read their inputs in 256 steps (with 16 bits as they are) and their weights in 255. It
stands for the formats' own quantizers where two networks are compared, before either is
converted.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgekit.compression import layers as matrices
from edgekit.compression.activations import Sample, values
from edgekit.compression.layers import Floats, Layer
from edgekit.compression.ranges import Range, whole
from edgekit.domain import Granularity, Quantization

_STEPS = 255
_LARGEST, _REDUCED = 127, 63


def stored(matrix: Floats, quantization: Quantization) -> Floats:
    """A layer's matrix, ``[channels in * taps, channels out]``, rounded to what int8 keeps."""
    reach = np.abs(matrix).max(0, keepdims=True)
    if quantization.granularity is Granularity.PER_TENSOR:
        reach = reach.max(keepdims=True)
    step = reach / (_REDUCED if quantization.reduced_range else _LARGEST)
    return np.asarray(np.round(matrix / np.where(step > 0, step, 1)) * step)


def simulated(
    model: onnx.ModelProto,
    layers: Sequence[Layer],
    samples: Sequence[Sample],
    quantization: Quantization,
) -> onnx.ModelProto:
    """The network with its layers in int8, ranges from the samples.

    Args:
        model: opset 13 or later; it is not changed.
        layers: of ``model``.
        samples: without labels.
        quantization: static.
    """
    made = deepcopy(model)
    for layer in layers:
        weight = matrices.constant(model, layer.weight)
        matrix = stored(matrices.matrix(layer, weight).astype(np.float64), quantization)
        matrices.assign(made, layer.weight, matrices.weight(layer, matrix, weight.shape))
    if quantization.wide:
        return made
    taken = list(dict.fromkeys(layer.taken for layer in layers))
    seen = whole(
        lambda: (dict(zip(taken, row, strict=True)) for row in values(model, taken, samples))
    )
    for name, reach in seen.items():
        low, high = min(reach.low, 0.0), max(reach.high, 0.0)
        if high > low:
            _coarsened(made, name, Range(low, high), quantization)
    return made


def _coarsened(model: onnx.ModelProto, name: str, reach: Range, quantization: Quantization) -> None:
    """Whoever takes the tensor takes what is left of it."""
    low, high = reach
    if quantization.symmetric_activations:
        low, high = -max(-low, high), max(-low, high)
    step = (high - low) / _STEPS
    constants = {
        f"{name}/step": np.float32(step),
        f"{name}/zero": np.uint8(np.clip(round(-low / step), 0, _STEPS)),
    }
    for node in model.graph.node:
        for index, taken in enumerate(node.input):
            if taken == name:
                node.input[index] = f"{name}/coarse"
    model.graph.initializer.extend(
        numpy_helper.from_array(np.array(value), key) for key, value in constants.items()
    )
    pair = (
        helper.make_node("QuantizeLinear", [name, *constants], [f"{name}/integers"]),
        helper.make_node("DequantizeLinear", [f"{name}/integers", *constants], [f"{name}/coarse"]),
    )
    makers = [i for i, node in enumerate(model.graph.node) if name in node.output]
    for offset, node in enumerate(pair):
        model.graph.node.insert(makers[0] + 1 + offset if makers else offset, node)
