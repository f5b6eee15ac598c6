"""Activation ranges from calibration data, as QDQ pairs in an ONNX graph.

What every format that takes ranges from ONNX Runtime's calibrator shares; called in a
process of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from onnxruntime.quantization import QuantType, quantize_static

from edgekit.datasets import Dataset, Sample
from edgekit.domain import Granularity, Quantization
from edgekit.errors import DataError

_TYPES = {"int8": QuantType.QInt8, "uint8": QuantType.QUInt8}
_MAX_STRIDE = 64


class _Reader:
    """A stream of samples in strides, as the calibrator asks for them (it asks for no class)."""

    def __init__(self, calibration: Dataset) -> None:
        self._count = calibration.count
        self._samples = calibration.samples()
        self._left = 0

    def __len__(self) -> int:
        return self._count

    def set_range(self, start_index: int, end_index: int) -> None:
        self._left = end_index - start_index

    def get_next(self) -> Sample | None:
        if self._left == 0:
            return None
        self._left -= 1
        return next(self._samples)


def _stride(count: int) -> int:
    """How many samples' ranges are kept before they are merged: the tool wants a divisor."""
    return max(size for size in range(1, min(count, _MAX_STRIDE) + 1) if count % size == 0)


def insert(
    source: Path,
    destination: Path,
    quantization: Quantization,
    calibration: Dataset | None,
    operators: Sequence[str] | None = None,
) -> None:
    """Write a copy of a float graph with QDQ pairs from calibrated ranges.

    Args:
        source: preprocessed by ONNX Runtime's ``quant_pre_process``.
        destination: where the copy goes.
        quantization: types, granularity and symmetry.
        calibration: samples of the graph's inputs.
        operators: which are quantized; ``None``: all that ONNX Runtime can.

    Raises:
        DataError: there is no calibration.
    """
    if calibration is None:
        raise DataError("static int8 needs calibration data", "give --calibration X.npz")
    symmetric = quantization.symmetric_activations
    quantize_static(
        str(source),
        str(destination),
        _Reader(calibration),
        op_types_to_quantize=None if operators is None else list(operators),
        per_channel=quantization.granularity is Granularity.PER_CHANNEL,
        reduce_range=quantization.reduced_range,
        activation_type=_TYPES[quantization.activations],
        weight_type=_TYPES[quantization.weights],
        extra_options={
            "ActivationSymmetric": symmetric,
            "WeightSymmetric": True,
            # TensorRT takes biases in float only.
            "QuantizeBias": not symmetric,
            # Not CalibMaxIntermediateOutputs, which drops every full buffer of samples unseen
            # (microsoft/onnxruntime#32577).
            "CalibStridedMinMax": _stride(calibration.count),
        },
    )
