"""Compressing a Core ML model's weights with ``coremltools.optimize``, and weighing the result.

A tool that says it is done is not believed: what the weights take is compared with what
they must take. coremltools' magnitude pruner, for one, overflows on float16 weights under
NumPy 2 and prunes nothing; the zeros are therefore made in the ONNX graph, in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, numpy_helper

from edgekit.domain import Granularity, Mode, Quantization
from edgekit.domain.coreml import FEWEST_ELEMENTS, block, spares, weight_bits
from edgekit.errors import ToolError

_OPERATORS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
_RECURRENT = ("LSTM", "GRU", "RNN")
_MATRIX = 2
_TOLERANCE = 1.1
_ENTRY = 64
"""Bytes of a header in the file of weights, and what its entries' sizes are multiples of."""

_FEWEST_IN_FILE = 10

_ANY = np.zeros((32, 32), np.float32)
"""Stands for a weight that is not known."""

_ALMOST_ZERO = 1e-12


def pruned(model: ModelProto, sparsity: float) -> None:
    """Make the smallest elements of every weight zero, in place.

    Magnitude pruning, a tensor at a time (Han et al., "Learning both Weights and Connections
    for Efficient Neural Networks", 2015), without training.
    """
    names = {node.input[1] for node in model.graph.node if node.op_type in _OPERATORS}
    for tensor in model.graph.initializer:
        weight = numpy_helper.to_array(tensor)
        if tensor.name in names and weight.size >= FEWEST_ELEMENTS and weight.ndim >= _MATRIX:
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
    mlmodel: Any, quantization: Quantization, form: Callable[[Quantization, NDArray[Any]], Any]
) -> Any:
    """A form for every weight, in blocks that fit.

    coremltools leaves a weight as it is, without a word, where a block does not divide it.
    """
    import coremltools.optimize.coreml as cto

    # What is sparse already is no plain constant any more: it goes by the form for all.
    made = cto.OptimizationConfig(global_config=form(quantization, _ANY))
    for name, weight in cto.get_weights_metadata(mlmodel, FEWEST_ELEMENTS).items():
        spared = spares(weight.val.shape, quantization)
        made.set_op_name(name, None if spared else form(quantization, weight.val))
    return made


def _sparse(quantization: Quantization) -> Any:
    """The zeros are there already; what is left is to store them as a mask."""
    import coremltools.optimize.coreml as cto

    return cto.OpThresholdPrunerConfig(
        threshold=_ALMOST_ZERO,
        minimum_sparsity_percentile=quantization.sparsity / 2,
        weight_threshold=FEWEST_ELEMENTS,
    )


def _palettizer(quantization: Quantization, weight: NDArray[Any]) -> Any:
    """A table for each tensor, or one for each group of channels, where iOS 18 allows.

    Where a weight has no more values than its table holds, they are the table.
    """
    import coremltools.optimize.coreml as cto

    bits = weight_bits(quantization)
    blocks = quantization.granularity is Granularity.PER_BLOCK
    values = len(np.unique(weight))
    # With fewer values than half of that the tool would take fewer bits, which an older system
    # may not load.
    fits = 1 << (bits - 1) < values <= 1 << bits
    return cto.OpPalettizerConfig(
        **({"mode": "unique"} if fits else {"mode": "kmeans", "nbits": bits}),
        granularity="per_grouped_channel" if blocks else "per_tensor",
        group_size=block(weight.shape),
        weight_threshold=FEWEST_ELEMENTS,
    )


def _linear(quantization: Quantization, weight: NDArray[Any]) -> Any:
    import coremltools.optimize.coreml as cto

    return cto.OpLinearQuantizerConfig(
        mode="linear_symmetric",
        dtype=quantization.weights,
        granularity=quantization.granularity.value.replace("-", "_"),
        block_size=block(weight.shape),
        weight_threshold=FEWEST_ELEMENTS,
    )


_COMPRESSORS: dict[Mode, tuple[str, Callable[[Quantization, NDArray[Any]], Any]]] = {
    Mode.PALETTIZED: ("palettize_weights", _palettizer),
    Mode.WEIGHT_ONLY: ("linear_quantize_weights", _linear),
}


def expected_bytes(model: ModelProto, quantization: Quantization | None) -> float:
    """What the file with a graph's weights must take, by arithmetic.

    A weight element takes its bits; a sparse one its bits where it is not zero, and a bit
    of the mask. Each channel or block has a scale in float16, each table its values. Each of
    these is an entry of the file, with a header, in steps of 64 bytes; what has few
    elements stands in the program instead.
    """
    consumers = {name: node for node in model.graph.node for name in node.input}
    total = float(_ENTRY)
    for tensor in model.graph.initializer:
        reader = consumers.get(tensor.name)
        shape, weighs = _weight(tuple(tensor.dims), reader.op_type if reader else "")
        wide = quantization is None
        parts = _stored(shape, _made(reader, shape), quantization if weighs else None, wide)
        total += sum(
            _ENTRY + _ENTRY * ceil(elements * bits / 8 / _ENTRY)
            for elements, bits in parts
            if elements >= _FEWEST_IN_FILE
        )
    return total


def _weight(shape: tuple[int, ...], operator: str) -> tuple[tuple[int, ...], bool]:
    """A tensor's shape in the package, and whether it is a weight there.

    Recurrent layers have one matrix for each direction, of which Core ML takes the first.
    """
    if operator in _RECURRENT and len(shape) == _MATRIX + 1:
        return shape[1:], True
    return shape, len(shape) >= _MATRIX and operator in _OPERATORS


def _made(reader: NodeProto | None, shape: tuple[int, ...]) -> int:
    """How many channels a weight makes: each has a scale."""
    if len(shape) < _MATRIX or reader is None or reader.op_type in ("Conv", *_RECURRENT):
        return shape[0] if shape else 1
    turned = any(a.name == "transB" and a.i for a in reader.attribute)
    return shape[0] if turned else shape[1]


def _stored(
    shape: tuple[int, ...], made: int, quantization: Quantization | None, wide: bool
) -> list[tuple[float, int]]:
    """The entries of one tensor: how many elements, of how many bits."""
    size = float(prod(shape))
    if quantization is None or size < FEWEST_ELEMENTS:
        return [(size, 32 if wide else 16)]
    spared = spares(shape, quantization)
    bits = 16 if spared else weight_bits(quantization)
    kept = [(size * (1 - quantization.sparsity), bits)]
    if quantization.sparsity:
        kept.append((size, 1))
    blocks = quantization.granularity is Granularity.PER_BLOCK
    if spared or quantization.mode is Mode.FLOAT16:
        return kept
    if quantization.mode is Mode.PALETTIZED:
        tables = max(shape[:2]) / block(shape) if blocks else 1
        return [*kept, (tables * (1 << bits), 16)]
    # A block holds the kernel's elements, too.
    return [*kept, (prod(shape[:2]) / block(shape) if blocks else made, 16)]


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
