"""Activation ranges from calibration data, as QDQ pairs in an ONNX graph.

What every format shares that ONNX Runtime's quantizer serves; called in a process of its own.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationMethod, QuantType, quantize_static
from onnxruntime.quantization.calibrate import TensorsData, save_tensors_data

from edgekit.compression import ranges
from edgekit.compression.activations import values
from edgekit.compression.differences import difference, outputs
from edgekit.compression.ranges import Range, Reach
from edgekit.datasets import Dataset
from edgekit.domain import Granularity, NodeCost, Quantization
from edgekit.formats.contract import needed

_TYPES = {
    "int8": QuantType.QInt8,
    "uint8": QuantType.QUInt8,
    "int16": QuantType.QInt16,
    "uint16": QuantType.QUInt16,
}
_JUDGING = 64
"""Samples by which ranges are chosen."""


def insert(
    source: Path,
    destination: Path,
    quantization: Quantization,
    calibration: Dataset | None,
    operators: Sequence[str] | None = None,
    float_nodes: Collection[str] = (),
    cache: Path | None = None,
) -> None:
    """Write a copy of a float graph with QDQ pairs from calibrated ranges.

    Args:
        source: preprocessed by ONNX Runtime's ``quant_pre_process``.
        destination: where the copy goes.
        quantization: types, granularity and symmetry.
        calibration: samples of the graph's inputs.
        operators: which are quantized; ``None``: all that ONNX Runtime can.
        float_nodes: nodes that are not, by their names.
        cache: where the ranges are kept for another time.

    Raises:
        DataError: there is no calibration.
    """
    calibration = needed(calibration)
    graph = onnx.load(source)
    names = [value.name for value in graph.graph.output]
    reach = _reach(graph, quantization, calibration, cache)
    samples = list(islice(calibration.samples(), _JUDGING))
    told = outputs(graph, names, samples)
    errors = []
    for index, each in enumerate((reach.whole, reach.narrowed)):
        tried = destination.with_suffix(f".{index}.onnx")
        _insert(source, tried, quantization, each, operators, float_nodes)
        errors.append(difference(outputs(onnx.load(tried), names, samples), told))
        if errors[-1] == min(errors):
            tried.replace(destination)
        else:
            tried.unlink()


def sensitivity(
    source: Path, quantization: Quantization, calibration: Dataset, cache: Path | None = None
) -> tuple[NodeCost, ...]:
    """What each node costs that alone is quantized.

    Args:
        source: preprocessed by ONNX Runtime's ``quant_pre_process``.
        quantization: static.
        calibration: samples of the graph's inputs.
        cache: where the ranges are kept for another time.
    """
    graph = onnx.load(source)
    outs = [value.name for value in graph.graph.output]
    whole = _reach(graph, quantization, calibration, cache).whole
    samples = list(islice(calibration.samples(), _JUDGING))
    told = outputs(graph, outs, samples)
    tried = source.with_suffix(".tried.onnx")
    names = [node.name for node in graph.graph.node]

    def cost(name: str) -> float:
        others = [each for each in names if each != name]
        _insert(source, tried, quantization, whole, float_nodes=others)
        return difference(outputs(onnx.load(tried), outs, samples), told)

    return tuple(NodeCost(name, cost(name), name) for name in names)


def _reach(
    graph: onnx.ModelProto, quantization: Quantization, calibration: Dataset, cache: Path | None
) -> Reach:
    """The ranges of every float tensor."""
    border = [value.name for value in (*graph.graph.input, *graph.graph.output)]
    given = [name for node in graph.graph.node for name in node.output if name]
    inside = [name for name in given if name not in border]
    symmetric = quantization.symmetric_activations
    return ranges.kept(
        cache,
        (graph.SerializeToString(deterministic=True), calibration.sha256, str(symmetric)),
        lambda: ranges.found(
            partial(_shown, graph, [*border, *inside], calibration), inside, symmetric=symmetric
        ),
    )


def _shown(
    graph: onnx.ModelProto, names: Sequence[str], calibration: Dataset
) -> Iterator[dict[str, NDArray[Any]]]:
    """Those of the tensors that are float, sample by sample."""
    for arrays in values(graph, names, calibration.samples()):
        pairs = zip(names, arrays, strict=True)
        yield {name: array for name, array in pairs if array.dtype == np.float32}


def _insert(
    source: Path,
    destination: Path,
    quantization: Quantization,
    found: Mapping[str, Range],
    operators: Sequence[str] | None = None,
    float_nodes: Collection[str] = (),
) -> None:
    symmetric = quantization.symmetric_activations
    # What the tool would have found itself; its own calibrator keeps every value of every
    # tensor, or drops samples unseen (microsoft/onnxruntime#32577).
    cache = destination.with_suffix(".ranges.json")
    told = {name: (np.float32(low), np.float32(high)) for name, (low, high) in found.items()}
    save_tensors_data(TensorsData(CalibrationMethod.MinMax, told), cache)
    quantize_static(
        str(source),
        str(destination),
        None,
        nodes_to_exclude=list(float_nodes),
        op_types_to_quantize=None if operators is None else list(operators),
        per_channel=quantization.granularity is Granularity.PER_CHANNEL,
        reduce_range=quantization.reduced_range,
        activation_type=_TYPES[quantization.activations],
        weight_type=_TYPES[quantization.weights],
        calibration_cache_path=str(cache),
        extra_options={
            "ActivationSymmetric": symmetric,
            "WeightSymmetric": True,
            # TensorRT takes biases in float only.
            "QuantizeBias": not symmetric,
        },
    )
    cache.unlink()
