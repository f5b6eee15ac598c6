"""Compressing a Core ML model's weights with ``coremltools.optimize``, and weighing the result.

A tool that says it is done is not believed: what the weights take is compared with what
they must take. coremltools' magnitude pruner, for one, overflows on float16 weights under
NumPy 2 and prunes nothing; the zeros are therefore made in the ONNX graph, in float32.
"""

from __future__ import annotations

from collections.abc import Callable
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

_BLOCKS = (32, 16, 8, 4, 2, 1)
_OPERATORS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
_MATRIX = 2
_FEW_BITS = 6
_TOLERANCE = 1.1
_TENSOR_BYTES = 128
"""What a tensor takes beside its elements: headers and alignment, of its scales, too."""

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

    made = mlmodel
    joint = quantization.sparsity > 0
    try:
        if joint:
            sparse = cto.OptimizationConfig(global_config=_sparse(quantization))
            made = cto.prune_weights(made, sparse)
        if quantization.mode in _COMPRESSORS:
            compress, form = _COMPRESSORS[quantization.mode]
            config = _config(made, quantization, form)
            made = getattr(cto, compress)(made, config, joint_compression=joint)
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
        raise ToolError(f"coremltools cannot make {quantization.precision}: {said}") from error
    return made


def _config(
    mlmodel: Any, quantization: Quantization, form: Callable[[Quantization, int], Any]
) -> Any:
    """A form for every weight, in blocks that fit.

    coremltools leaves a weight as it is, without a word, where a block does not divide it.
    """
    import coremltools.optimize.coreml as cto

    made = cto.OptimizationConfig(global_config=form(quantization, _BLOCKS[0]))
    for name, weight in cto.get_weights_metadata(mlmodel, _FEWEST).items():
        shape = weight.val.shape
        spared = _spared(shape, quantization)
        made.set_op_name(name, None if spared else form(quantization, _block(shape)))
    return made


def _spared(shape: tuple[int, ...], quantization: Quantization) -> bool:
    """Whether a weight stays in float16: depthwise filters in few bits.

    They are few, and every one of them makes a channel: with them in tables of four bits
    MobileNetV1 falls from 0.862 to 0.754.
    """
    return weight_bits(quantization) < _FEW_BITS and len(shape) > _MATRIX and shape[1] == 1


def _block(shape: tuple[int, ...]) -> int:
    """The largest block that divides both of a weight's channels, of ``_BLOCKS``."""
    fitting = (size for size in _BLOCKS if not any(channels % size for channels in shape[:2]))
    return next(fitting, 1)


def _sparse(quantization: Quantization) -> Any:
    """The zeros are there already; what is left is to store them as a mask."""
    import coremltools.optimize.coreml as cto

    return cto.OpThresholdPrunerConfig(
        threshold=_ALMOST_ZERO,
        minimum_sparsity_percentile=quantization.sparsity / 2,
        weight_threshold=_FEWEST,
    )


def _palettizer(quantization: Quantization, block: int) -> Any:
    """A table for each tensor, or one for each group of channels, where iOS 18 allows."""
    import coremltools.optimize.coreml as cto

    blocks = quantization.granularity is Granularity.PER_BLOCK
    return cto.OpPalettizerConfig(
        nbits=weight_bits(quantization),
        mode="kmeans",
        granularity="per_grouped_channel" if blocks else "per_tensor",
        group_size=block,
        weight_threshold=_FEWEST,
    )


def _linear(quantization: Quantization, block: int) -> Any:
    import coremltools.optimize.coreml as cto

    return cto.OpLinearQuantizerConfig(
        mode="linear_symmetric",
        dtype=quantization.weights,
        granularity=quantization.granularity.value.replace("-", "_"),
        block_size=block,
        weight_threshold=_FEWEST,
    )


_COMPRESSORS: dict[Mode, tuple[str, Callable[[Quantization, int], Any]]] = {
    Mode.PALETTIZED: ("palettize_weights", _palettizer),
    Mode.WEIGHT_ONLY: ("linear_quantize_weights", _linear),
}


def expected_bytes(model: ModelProto, quantization: Quantization | None) -> float:
    """What the weights of a graph must take, by arithmetic.

    A weight element takes its bits; a sparse one its bits where it is not zero, and a bit
    of the mask. Each channel or block has a scale in float16, each table its values, each
    tensor a header.
    """
    compute = 32 if quantization is None else 16
    consumers = {name: node.op_type for node in model.graph.node for name in node.input}
    total = float(_TENSOR_BYTES)
    for tensor in model.graph.initializer:
        shape = tuple(tensor.dims)
        size = prod(shape)
        weighs = len(shape) >= _MATRIX and consumers.get(tensor.name) in _OPERATORS
        if quantization is None or not weighs or size < _FEWEST:
            total += size * compute / 8
        elif _spared(shape, quantization):
            total += _kept_bytes(size, 16, quantization)
        else:
            total += _weight_bytes(shape, quantization)
        total += _TENSOR_BYTES
    return total


def _kept_bytes(size: float, bits: int, quantization: Quantization) -> float:
    """What is not zero, and the mask that says where that is."""
    mask = size / 8 if quantization.sparsity else 0.0
    return size * (1 - quantization.sparsity) * bits / 8 + mask


def _weight_bytes(shape: tuple[int, ...], quantization: Quantization) -> float:
    bits = weight_bits(quantization)
    kept = _kept_bytes(float(prod(shape)), bits, quantization)
    blocks = quantization.granularity is Granularity.PER_BLOCK
    if quantization.mode is Mode.PALETTIZED:
        tables = max(shape[:2]) / _block(shape) if blocks else 1
        return kept + tables * float(1 << bits) * 2
    if quantization.mode is Mode.FLOAT16:
        return kept
    # A block holds the kernel's elements, too.
    return kept + 2 * (prod(shape[:2]) / _block(shape) if blocks else max(shape[:2]))


def weigh(weights: int, expected: float, precision: str) -> None:
    """Believe what was made only if it weighs what it should.

    Raises:
        ToolError: the weights take more than the arithmetic allows.
    """
    if weights > expected * _TOLERANCE:
        raise ToolError(
            f"{precision} should bring the weights to {expected:.0f} bytes, they take {weights}",
            "coremltools left weights as they were; choose another precision",
        )
