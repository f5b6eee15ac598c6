"""Quantizing a float .tflite with ai-edge-quantizer; called in a process of its own."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct, structs
from numpy.typing import NDArray

from edgekit.compression import ranges
from edgekit.compression.differences import LOST, difference
from edgekit.compression.ranges import Ranges, Reach
from edgekit.datasets import Dataset, Sample
from edgekit.domain import (
    AffineQuantization,
    Granularity,
    Mode,
    NodeCost,
    Quantization,
    TensorBinding,
)
from edgekit.formats import binding
from edgekit.formats.contract import needed

Array = NDArray[Any]

_BITS = {"int4": 4, "int8": 8, "float16": 16}
_SIGNATURE, _MAGIC = "serving_default", b"TFL3"
_EVERYWHERE, _ALL = "", ".*"
"""Both match every operator: the tool keeps one setting for each expression, the later counts."""

_JUDGING = 64
"""Samples by which ranges are chosen."""


def quantize(
    source: Path,
    destination: Path,
    quantization: Quantization,
    inputs: tuple[TensorBinding, ...],
    calibration: Dataset | None,
    raised: Collection[str] = (),
    cache: Path | None = None,
) -> None:
    """Write a quantized copy of ``source``.

    Args:
        source: the float ``.tflite``.
        destination: where the quantized one goes.
        quantization: ``float16`` casts weights, ``dynamic`` and ``weight-only`` store them
            in int8 or int4 (depthwise ones in int8), ``static`` computes in int8 (with
            activations in int16, where they are wide) from calibrated ranges.
        inputs: how calibration samples become the artifact's inputs.
        calibration: samples, for ``static`` only; their ranges are taken whole or narrowed,
            whichever leaves the outputs nearer to the float model's.
        raised: what ``static`` leaves in float, and others store in int8; see ``nodes``.
        cache: where the ranges are kept for another time.

    Raises:
        DataError: ``static`` without calibration.
    """
    signature, model = modern(source)
    if quantization.mode is not Mode.STATIC:
        destination.write_bytes(_quantized(_quantizer(model, quantization, raised), model))
        return
    feeds = Feeds(signature, inputs, needed(calibration))
    reach = _reach(model, feeds, cache)
    tried = [
        _quantized(_quantizer(model, quantization, raised), model, found)
        for found in (reach.whole, reach.narrowed)
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
    cache: Path | None,
) -> tuple[NodeCost, ...]:
    """What each node costs that alone is quantized; see ``quantize``."""
    signature, model = modern(source)
    feeds = Feeds(signature, inputs, calibration)
    names = nodes(model)
    whole = _reach(model, feeds, cache).whole
    samples = list(islice(feeds.samples(), _JUDGING))
    told = _outputs(model, feeds, samples)

    def cost(name: str) -> float:
        others = [each for each in names if each != name]
        made = _quantized(_quantizer(model, quantization, others), model, whole)
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


def _quantizer(model: bytes, quantization: Quantization, raised: Collection[str] = ()) -> Any:
    from ai_edge_quantizer.algorithm_manager import AlgorithmName
    from ai_edge_quantizer.quantizer import Quantizer

    quantizer = Quantizer(model)
    configure, eight = _CONFIGURE[quantization.mode], structs.replace(quantization, weights="int8")
    if quantization.weights == "int4":
        # What the tool has no four bits for it would leave in float, where eight do.
        configure(quantizer, eight, _EVERYWHERE)
    configure(quantizer, quantization, _ALL)
    for name in raised:
        only = f"^{re.escape(name)};$"
        if quantization.mode is Mode.STATIC:
            quantizer.update_quantization_recipe(only, "*", algorithm_key=AlgorithmName.NO_QUANTIZE)
        else:
            configure(quantizer, eight, only)
    return quantizer


def _quantized(quantizer: Any, model: bytes, found: Ranges | None = None) -> bytes:
    told = None if found is None else _statistics(model, found)
    made = quantizer.quantize(told, enable_progress_report=False)
    return bytes(made.quantized_model)


def _statistics(model: bytes, found: Ranges) -> dict[str, dict[str, Array]]:
    """Ranges as the tool's own calibration tells them: arrays of one element, by name.

    Its own are a moving average over the samples, which cuts off what is rare and depends
    on their order.
    """
    ranks = {name: len(shape) for name, shape in _floats(model).items()}
    return {
        name: {
            end: np.full((1,) * ranks[name], value, np.float32)
            for end, value in zip(("min", "max"), reach, strict=True)
        }
        for name, reach in found.items()
    }


def _floats(model: bytes) -> dict[str, tuple[int, ...]]:
    """The shapes of the float tensors that are computed, inputs among them, by name."""
    from ai_edge_litert import schema_py_generated as schema

    graph = schema.ModelT.InitFromPackedBuf(model, 0).subgraphs[0]
    computed = (graph.inputs, *(operator.outputs for operator in graph.operators))
    tensors = [graph.tensors[index] for indices in computed for index in indices if index >= 0]
    return {
        tensor.name.decode(): tuple(tensor.shape if tensor.shape is not None else ())
        for tensor in tensors
        if tensor.type == schema.TensorType.FLOAT32
    }


def _granularity(quantization: Quantization) -> Any:
    from ai_edge_quantizer.qtyping import QuantGranularity

    per_tensor = quantization.granularity is Granularity.PER_TENSOR
    return QuantGranularity.TENSORWISE if per_tensor else QuantGranularity.CHANNELWISE


def _static(quantizer: Any, quantization: Quantization, where: str) -> None:
    quantizer.add_static_config(
        where,
        "*",
        activation_num_bits=16 if quantization.wide else 8,
        weight_num_bits=_BITS[quantization.weights],
        weight_granularity=_granularity(quantization),
    )


def _dynamic(quantizer: Any, quantization: Quantization, where: str) -> None:
    quantizer.add_dynamic_config(
        where, "*", num_bits=_BITS[quantization.weights], granularity=_granularity(quantization)
    )


def _weight_only(quantizer: Any, quantization: Quantization, where: str) -> None:
    quantizer.add_weight_only_config(
        where, "*", num_bits=_BITS[quantization.weights], granularity=_granularity(quantization)
    )


def _float16(quantizer: Any, quantization: Quantization, where: str) -> None:
    from ai_edge_quantizer.algorithm_manager import AlgorithmName

    quantizer.add_weight_only_config(
        where,
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


def _reach(model: bytes, feeds: Feeds, cache: Path | None) -> Reach:
    """The ranges of every float tensor."""

    def find() -> Reach:
        loaded = _Loaded(model, feeds.signature, inside=True)
        indices = loaded.indices(_floats(model))
        return ranges.found(
            lambda: loaded.values(feeds.samples(), indices), set(indices) - loaded.border
        )

    return ranges.kept(
        cache, (model, feeds.calibration.sha256, msgspec.json.encode(feeds.inputs)), find
    )


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

    @property
    def border(self) -> set[str]:
        """The names of the tensors that are inputs or outputs."""
        ends = {detail["index"] for detail in (*self._takes.values(), *self._gives.values())}
        details = self._interpreter.get_tensor_details()
        return {detail["name"] for detail in details if detail["index"] in ends}

    def indices(self, wanted: Collection[str]) -> dict[str, int]:
        """Where those of the tensors are: name -> index."""
        details = self._interpreter.get_tensor_details()
        return {d["name"]: d["index"] for d in details if d["name"] in wanted}

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
