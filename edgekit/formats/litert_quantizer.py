"""Quantizing a float .tflite with ai-edge-quantizer; called in a process of its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import batched
from pathlib import Path
from types import ModuleType
from typing import Any

from edgekit.datasets import Dataset, Sample
from edgekit.domain import Granularity, Mode, Quantization, TensorBinding
from edgekit.errors import DataError

_BITS = {"int4": 4, "int8": 8, "float16": 16}
_SIGNATURE, _MAGIC = "serving_default", b"TFL3"
_CHUNK = 32
"""Samples per calibration call: the tool lists what it is given, so it is given little."""


def quantize(
    source: Path,
    destination: Path,
    quantization: Quantization,
    inputs: tuple[TensorBinding, ...],
    calibration: Dataset | None,
) -> None:
    """Write a quantized copy of ``source``.

    Args:
        source: the float ``.tflite``.
        destination: where the quantized one goes.
        quantization: ``float16`` casts weights, ``dynamic`` and ``weight-only`` store them
            in int8 or int4, ``static`` computes in int8 from calibrated ranges.
        inputs: how calibration samples become the artifact's inputs.
        calibration: samples, for ``static`` only.

    Raises:
        DataError: ``static`` without calibration.
    """
    from ai_edge_quantizer.quantizer import Quantizer

    signature, model = _modern(source)
    quantizer = Quantizer(model)
    _CONFIGURE[quantization.mode](quantizer, quantization)
    ranges = None
    if quantizer.need_calibration:
        ranges = _calibrated(quantizer, signature, inputs, calibration)
    quantized = quantizer.quantize(ranges, enable_progress_report=False).quantized_model
    destination.write_bytes(quantized)


def _granularity(quantization: Quantization) -> Any:
    from ai_edge_quantizer.qtyping import QuantGranularity

    per_tensor = quantization.granularity is Granularity.PER_TENSOR
    return QuantGranularity.TENSORWISE if per_tensor else QuantGranularity.CHANNELWISE


def _static(quantizer: Any, quantization: Quantization) -> None:
    quantizer.add_static_config(
        ".*",
        "*",
        activation_num_bits=8,
        weight_num_bits=_BITS[quantization.weights],
        weight_granularity=_granularity(quantization),
    )


def _dynamic(quantizer: Any, quantization: Quantization) -> None:
    quantizer.add_dynamic_config(
        ".*", "*", num_bits=_BITS[quantization.weights], granularity=_granularity(quantization)
    )


def _weight_only(quantizer: Any, quantization: Quantization) -> None:
    quantizer.add_weight_only_config(
        ".*", "*", num_bits=_BITS[quantization.weights], granularity=_granularity(quantization)
    )


def _float16(quantizer: Any, quantization: Quantization) -> None:
    from ai_edge_quantizer.algorithm_manager import AlgorithmName

    quantizer.add_weight_only_config(
        ".*",
        "*",
        num_bits=_BITS[quantization.weights],
        algorithm_key=AlgorithmName.FLOAT_CASTING,
    )


_CONFIGURE = {
    Mode.STATIC: _static,
    Mode.DYNAMIC: _dynamic,
    Mode.WEIGHT_ONLY: _weight_only,
    Mode.FLOAT16: _float16,
}


def _modern(source: Path) -> tuple[str, bytes]:
    """The key of a model's signature, and the model as TensorFlow 2.4 and later write it.

    Older files have no signature, and the tool calibrates by signature only; their operators
    stand in a field of 8 bits, and the tool takes those for additions.
    """
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    content = source.read_bytes()
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    old = [code for code in model.operatorCodes if code.builtinCode < code.deprecatedBuiltinCode]
    if model.signatureDefs and not old:
        return model.signatureDefs[0].signatureKey.decode(), content
    for code in old:
        code.builtinCode = code.deprecatedBuiltinCode
    model.signatureDefs = model.signatureDefs or [_signature(model.subgraphs[0], schema)]
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), _MAGIC)
    key = model.signatureDefs[0].signatureKey
    return key if isinstance(key, str) else key.decode(), bytes(builder.Output())


def _signature(graph: Any, schema: ModuleType) -> Any:
    """One that names inputs and outputs as their tensors are named."""

    def named(indices: Iterable[int]) -> list[Any]:
        return [schema.TensorMapT(graph.tensors[i].name.decode(), i) for i in indices]

    return schema.SignatureDefT(named(graph.inputs), named(graph.outputs), _SIGNATURE)


def _calibrated(
    quantizer: Any,
    signature: str,
    inputs: tuple[TensorBinding, ...],
    calibration: Dataset | None,
) -> Any:
    """Activation ranges, a chunk of samples at a time, each carrying on from the last."""
    if calibration is None:
        raise DataError("static int8 needs calibration data", "give --calibration X.npz")
    ranges = None
    for chunk in batched(_artifact_samples(calibration, inputs), _CHUNK):
        ranges = quantizer.calibrate({signature: list(chunk)}, ranges, num_threads=2)
    return ranges


def _artifact_samples(calibration: Dataset, inputs: tuple[TensorBinding, ...]) -> Iterator[Sample]:
    for sample in calibration.samples():
        yield {
            b.artifact.name: sample[b.source.name].transpose(b.permutation).copy() for b in inputs
        }
