"""Quantizing a float .tflite with ai-edge-quantizer; called in a process of its own."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import batched, islice
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from edgekit.compression.differences import LOST, difference
from edgekit.datasets import Dataset, Sample
from edgekit.domain import (
    AffineQuantization,
    Granularity,
    Mode,
    NodeCost,
    Quantization,
    TensorBinding,
)
from edgekit.formats import binding, ranges
from edgekit.formats.contract import needed
from edgekit.formats.ranges import Range

Array = NDArray[Any]

_BITS = {"int4": 4, "int8": 8, "float16": 16}
_SIGNATURE, _MAGIC = "serving_default", b"TFL3"
_CHUNK = 32
"""Samples per calibration call: the tool lists what it is given, so it is given little."""

_JUDGING = 64
"""Samples by which ranges are chosen."""


def quantize(
    source: Path,
    destination: Path,
    quantization: Quantization,
    inputs: tuple[TensorBinding, ...],
    calibration: Dataset | None,
    float_nodes: Collection[str] = (),
) -> None:
    """Write a quantized copy of ``source``.

    Args:
        source: the float ``.tflite``.
        destination: where the quantized one goes.
        quantization: ``float16`` casts weights, ``dynamic`` and ``weight-only`` store them
            in int8 or int4, ``static`` computes in int8 from calibrated ranges.
        inputs: how calibration samples become the artifact's inputs.
        calibration: samples, for ``static`` only; their ranges are taken whole or narrowed,
            whichever leaves the outputs nearer to the float model's.
        float_nodes: what ``static`` leaves in float; see ``nodes``.

    Raises:
        DataError: ``static`` without calibration.
    """
    signature, model = modern(source)
    if quantization.mode is not Mode.STATIC:
        destination.write_bytes(_quantized(_quantizer(model, quantization), None))
        return
    feeds = Feeds(signature, inputs, needed(calibration))
    whole = _calibrated(_quantizer(model, quantization), model, feeds)
    tried = [
        _quantized(_quantizer(model, quantization, float_nodes), found)
        for found in (whole, _narrowed(whole, model, feeds))
    ]
    destination.write_bytes(_nearest(tried, model, feeds))


class Feeds(Struct, frozen=True):
    """Calibration samples, and how they become a model's inputs."""

    signature: str
    inputs: tuple[TensorBinding, ...]
    calibration: Dataset

    def samples(self) -> Iterator[Sample]:
        """Each by the names of the model's own tensors."""
        for sample in self.calibration.samples():
            yield {
                b.artifact.name: sample[b.source.name].transpose(b.permutation).copy()
                for b in self.inputs
            }


def sensitivity(
    source: Path,
    quantization: Quantization,
    inputs: tuple[TensorBinding, ...],
    calibration: Dataset,
) -> tuple[NodeCost, ...]:
    """What each node costs that alone is quantized; see ``quantize``."""
    signature, model = modern(source)
    feeds = Feeds(signature, inputs, calibration)
    names = nodes(model)
    whole = _calibrated(_quantizer(model, quantization), model, feeds)
    samples = list(islice(feeds.samples(), _JUDGING))
    told = _outputs(model, feeds, samples)

    def cost(name: str) -> float:
        others = [each for each in names if each != name]
        made = _quantized(_quantizer(model, quantization, others), whole)
        try:
            return difference(_outputs(made, feeds, samples), told)
        except RuntimeError:
            # Prepared, and failed when it ran: int8 division by what was rounded to zero.
            return LOST

    return tuple(NodeCost(name, cost(name)) for name in names)


def nodes(model: bytes) -> tuple[str, ...]:
    """The inputs and the operators of a model, each by the names of what it gives, in order."""
    from ai_edge_litert import schema_py_generated as schema

    graph = schema.ModelT.InitFromPackedBuf(model, 0).subgraphs[0]
    given = [graph.inputs, *(operator.outputs for operator in graph.operators)]
    scopes = (";".join(graph.tensors[i].name.decode() for i in made if i >= 0) for made in given)
    return tuple(dict.fromkeys(scopes))


def _quantizer(model: bytes, quantization: Quantization, float_nodes: Collection[str] = ()) -> Any:
    from ai_edge_quantizer.algorithm_manager import AlgorithmName
    from ai_edge_quantizer.quantizer import Quantizer

    quantizer = Quantizer(model)
    _CONFIGURE[quantization.mode](quantizer, quantization)
    for name in float_nodes:
        quantizer.update_quantization_recipe(
            f"^{re.escape(name)};$", "*", algorithm_key=AlgorithmName.NO_QUANTIZE
        )
    return quantizer


def _quantized(quantizer: Any, found: Any) -> bytes:
    made = quantizer.quantize(found, enable_progress_report=False)
    return bytes(made.quantized_model)


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


def modern(source: Path) -> tuple[str, bytes]:
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


def _calibrated(quantizer: Any, model: bytes, feeds: Feeds) -> Any:
    """From the smallest to the largest value of every tensor, a chunk of samples at a time.

    The tool's own way is a moving average over the samples, which cuts off what is rare and
    depends on their order: it costs the hand-sign network 1.4 points, DS-CNN 0.8.
    """
    from ai_edge_quantizer.calibrator import Calibrator
    from ai_edge_quantizer.recipe_manager import RecipeManager
    from ai_edge_quantizer.utils.qsv_utils import min_max_update

    manager = RecipeManager()
    manager.load_quantization_recipe(quantizer.get_quantization_recipe())
    calibrator = Calibrator(model, num_threads=2, qsv_update_func=min_max_update)
    for chunk in batched(feeds.samples(), _CHUNK):
        calibrator.calibrate({feeds.signature: list(chunk)}, manager)
    return calibrator.get_model_qsvs()


def _narrowed(whole: Any, model: bytes, feeds: Feeds) -> Any:
    """The same, with the ranges inside the network by the least squared error."""
    seen = {
        name: Range(float(np.min(found["min"])), float(np.max(found["max"])))
        for name, found in whole.items()
        if "min" in found
    }
    loaded = _Loaded(model, feeds.signature, inside=True)
    indices = loaded.inside(seen)
    found = ranges.least_error(
        lambda: loaded.values(feeds.samples(), indices), {name: seen[name] for name in indices}
    )
    return {
        name: _replaced(had, found[name]) if name in found else had for name, had in whole.items()
    }


def _replaced(had: dict[str, Any], found: Range) -> dict[str, Any]:
    low, high = np.full_like(had["min"], found.low), np.full_like(had["max"], found.high)
    return {**had, "min": low, "max": high}


class _Loaded:
    """A model in an interpreter, run by its signature; arrays in real units.

    Args:
        inside: keep what is computed between inputs and outputs.
    """

    def __init__(self, model: bytes, signature: str, *, inside: bool = False) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self._interpreter = Interpreter(
            model_content=model, experimental_preserve_all_tensors=inside
        )
        self._runner = self._interpreter.get_signature_runner(signature)
        self._takes = self._runner.get_input_details()
        self._gives = self._runner.get_output_details()

    def run(self, sample: Sample) -> list[Array]:
        """The outputs, by the order of their names."""
        fed = {
            name: binding.stored(sample[name], _affine(detail), np.dtype(detail["dtype"]))
            for name, detail in self._takes.items()
        }
        made = self._runner(**fed)
        names = sorted(made)
        return [binding.dequantized(made[n], _affine(self._gives[n])) for n in names]

    def inside(self, wanted: Collection[str]) -> dict[str, int]:
        """Those of the tensors that lie between inputs and outputs: name -> index."""
        ends = (*self._takes.values(), *self._gives.values())
        border = {detail["index"] for detail in ends}
        return {
            detail["name"]: detail["index"]
            for detail in self._interpreter.get_tensor_details()
            if detail["name"] in wanted and detail["index"] not in border
        }

    def values(
        self, samples: Iterable[Sample], indices: Mapping[str, int]
    ) -> Iterator[dict[str, Array]]:
        """What those tensors hold, sample by sample."""
        for sample in samples:
            self.run(sample)
            yield {name: self._interpreter.get_tensor(at) for name, at in indices.items()}


def _affine(detail: Mapping[str, Any]) -> AffineQuantization | None:
    scale, zero_point = detail["quantization"]
    return AffineQuantization(scale, zero_point) if scale else None


def _nearest(tried: Sequence[bytes], model: bytes, feeds: Feeds) -> bytes:
    """The one whose outputs are nearest to the float model's, by some of the samples."""
    samples = list(islice(feeds.samples(), _JUDGING))
    told = _outputs(model, feeds, samples)
    errors = [difference(_outputs(each, feeds, samples), told) for each in tried]
    return tried[errors.index(min(errors))]


def _outputs(model: bytes, feeds: Feeds, samples: Sequence[Sample]) -> list[Array]:
    loaded = _Loaded(model, feeds.signature)
    return [np.stack(column) for column in zip(*map(loaded.run, samples), strict=True)]
