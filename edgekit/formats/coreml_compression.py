"""Compressing a Core ML model's weights with ``coremltools.optimize``, and weighing the result.

A tool that says it is done is not believed: what the weights take is compared with what
they must take. coremltools' magnitude pruner, for one, overflows on float16 weights under
NumPy 2 and prunes nothing; the zeros are therefore made in the ONNX graph, in float32.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, numpy_helper

from edgekit.domain import Granularity, Mode, Quantization
from edgekit.domain.coreml import weight_bits
from edgekit.errors import ToolError

_FEWEST = 512
"""Weights of fewer elements stay as they are: scales and tables would outweigh them."""

_BLOCK = 32
_OPERATORS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
_MATRIX = 2
_TOLERANCE = 1.1
_OVERHEAD_BYTES = 16 * 1024
"""Headers and alignment of the weight file, and what is too small to be compressed."""

_ALMOST_ZERO = 1e-12


def pruned(model: ModelProto, sparsity: float) -> None:
    """Make the smallest elements of every weight zero, in place.

    Magnitude pruning, a tensor at a time (Han et al., "Learning both Weights and Connections
    for Efficient Neural Networks", 2015), without training.
    """
    names = {node.input[1] for node in model.graph.node if node.op_type in _OPERATORS}
    for tensor in model.graph.initializer:
        weight = numpy_helper.to_array(tensor)
        if tensor.name in names and weight.size >= _FEWEST and weight.ndim >= _MATRIX:
            tensor.CopyFrom(numpy_helper.from_array(_zeroed(weight, sparsity), tensor.name))


def _zeroed(weight: NDArray[Any], sparsity: float) -> NDArray[Any]:
    flat = weight.ravel().copy()
    flat[np.argsort(np.abs(flat), kind="stable")[: round(sparsity * flat.size)]] = 0
    return flat.reshape(weight.shape)


def compressed(mlmodel: Any, quantization: Quantization) -> Any:
    """The model with its weights stored as the quantization says.

    Raises:
        ToolError: coremltools fails.
    """
    import coremltools.optimize.coreml as cto

    config: Any = None
    made = mlmodel
    joint = quantization.sparsity > 0
    try:
        if joint:
            # The zeros are there; what is left is to store them as a mask.
            config = cto.OpThresholdPrunerConfig(
                threshold=_ALMOST_ZERO,
                minimum_sparsity_percentile=quantization.sparsity / 2,
                weight_threshold=_FEWEST,
            )
            made = cto.prune_weights(made, cto.OptimizationConfig(global_config=config))
        if quantization.mode is Mode.PALETTIZED:
            config = _palettizer(quantization)
            whole = cto.OptimizationConfig(global_config=config)
            return cto.palettize_weights(made, whole, joint_compression=joint)
        if quantization.mode is Mode.WEIGHT_ONLY:
            whole = cto.OptimizationConfig(global_config=_linear(quantization))
            return cto.linear_quantize_weights(made, whole, joint_compression=joint)
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
        raise ToolError(f"coremltools cannot make {quantization.precision}: {said}") from error
    return made


def _palettizer(quantization: Quantization) -> Any:
    """A table for each tensor, or one for each group of channels, where iOS 18 allows."""
    import coremltools.optimize.coreml as cto

    blocks = quantization.granularity is Granularity.PER_BLOCK
    return cto.OpPalettizerConfig(
        nbits=weight_bits(quantization),
        mode="kmeans",
        granularity="per_grouped_channel" if blocks else "per_tensor",
        group_size=_BLOCK,
        weight_threshold=_FEWEST,
    )


def _linear(quantization: Quantization) -> Any:
    import coremltools.optimize.coreml as cto

    return cto.OpLinearQuantizerConfig(
        mode="linear_symmetric",
        dtype=quantization.weights,
        granularity=quantization.granularity.value.replace("-", "_"),
        block_size=_BLOCK,
        weight_threshold=_FEWEST,
    )


def expected_bytes(model: ModelProto, quantization: Quantization | None) -> float:
    """What the weights of a graph must take, by arithmetic.

    A weight element takes its bits; a sparse one its bits where it is not zero, and a bit
    of the mask. Each channel or block has a scale in float16, each table its values.
    """
    compute = 32 if quantization is None else 16
    consumers = {name: node.op_type for node in model.graph.node for name in node.input}
    total = 0.0
    for tensor in model.graph.initializer:
        shape = tuple(tensor.dims)
        size = prod(shape)
        weighs = len(shape) >= _MATRIX and consumers.get(tensor.name) in _OPERATORS
        if weighs and size >= _FEWEST and quantization is not None:
            total += _weight_bytes(shape, quantization)
        else:
            total += size * compute / 8
    return total


def _weight_bytes(shape: tuple[int, ...], quantization: Quantization) -> float:
    size, bits = float(prod(shape)), weight_bits(quantization)
    kept = size * (1 - quantization.sparsity)
    mask = size / 8 if quantization.sparsity else 0.0
    blocks = quantization.granularity is Granularity.PER_BLOCK
    if quantization.mode is Mode.PALETTIZED:
        tables = max(1, max(shape[:2]) // _BLOCK) if blocks else 1
        return kept * bits / 8 + mask + tables * (1 << bits) * 2
    scales = 0.0
    if quantization.mode in (Mode.WEIGHT_ONLY, Mode.STATIC):
        scales = size / _BLOCK if blocks else max(shape[:2])
    return kept * bits / 8 + mask + scales * 2


def weigh(weights: int, expected: float, precision: str) -> None:
    """Believe what was made only if it weighs what it should.

    Raises:
        ToolError: the weights take more than the arithmetic allows.
    """
    if weights > expected * _TOLERANCE + _OVERHEAD_BYTES:
        raise ToolError(
            f"{precision} should bring the weights to {expected:.0f} bytes, they take {weights}",
            "coremltools left weights as they were; choose another precision",
        )
