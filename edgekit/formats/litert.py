"""LiteRT (.tflite): one of several ways leads to float, ai-edge-quantizer quantizes that."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections import Counter
from functools import partial
from pathlib import Path

import msgspec
from msgspec import structs

from edgekit import fingerprint, store
from edgekit.compression import storing
from edgekit.datasets import Dataset
from edgekit.domain import Artifact, Format, NodeCost, Quantization, TensorBinding
from edgekit.errors import ConversionFailed, ToolError, ToolMissing
from edgekit.formats import binding, host, litert_routes
from edgekit.formats.contract import (
    TOOL_LIMITS,
    FormatSpec,
    Job,
    needed,
    quantized_static,
    refuse_sparsity,
)
from edgekit.sources import SourceModel
from edgekit.toolchain import isolation

RUNTIME = "litert"
_MODULES = {"litert": "ai_edge_litert", "tflite-runtime": "tflite_runtime"}
_FILE = "model.tflite"
_FLOAT = "float.tflite"
_CONVERTED = "converted.json"
_REASON_CHARACTERS = 200

Found = tuple[tuple[TensorBinding, ...], tuple[TensorBinding, ...]]
"""How the inputs and the outputs relate to the source's."""


class Converted(msgspec.Struct, frozen=True, kw_only=True):
    """How the conversion's tensors relate to the source's, and which ways were tried."""

    inputs: tuple[TensorBinding, ...]
    outputs: tuple[TensorBinding, ...]
    notes: tuple[str, ...]


def make(job: Job) -> Artifact:
    """Make a ``.tflite`` by the recipe; see ``FormatSpec.make``."""
    refuse_sparsity(job)
    folder = _converted(job)
    float_path = folder / _FLOAT
    converted = msgspec.json.decode((folder / _CONVERTED).read_bytes(), type=Converted)
    path = job.folder / _FILE
    quantization = job.recipe.quantization
    if quantization is None:
        shutil.copyfile(float_path, path)
        described = host.describe(path, RUNTIME)
    else:
        described = isolation.call(
            _quantize,
            TOOL_LIMITS,
            float_path,
            path,
            quantization,
            converted.inputs,
            job.calibration,
            _raised(job, float_path),
            job.cache,
        )
    return Artifact(
        path=_FILE,
        format=Format.LITERT,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        size_bytes=path.stat().st_size,
        inputs=binding.rebound(converted.inputs, described.input_details),
        outputs=binding.rebound(converted.outputs, described.output_details),
        notes=converted.notes,
    )


def _raised(job: Job, converted: Path) -> tuple[str, ...]:
    """The operators that a recipe gives a higher precision."""
    names = job.recipe.eight_bit_nodes
    if not names:
        return job.recipe.float_nodes
    return isolation.call(_operators_of, TOOL_LIMITS, names, job.source.graph, converted)


def _operators_of(names: tuple[str, ...], graph: Path, converted: Path) -> tuple[str, ...]:
    """What runs in a process of its own."""
    from edgekit.formats.litert_matching import operators_of

    return operators_of(names, graph, converted)


def _quantize(
    source: Path,
    destination: Path,
    quantization: Quantization,
    inputs: tuple[TensorBinding, ...],
    calibration: Dataset | None,
    raised: tuple[str, ...],
    cache: Path | None,
) -> host.Described:
    """What runs in a process of its own; only there are the tools imported."""
    from edgekit.formats.litert_quantizer import quantize

    quantize(source, destination, quantization, inputs, calibration, raised, cache)
    return host.Session(destination, RUNTIME).described


def sensitivity(job: Job) -> tuple[NodeCost, ...]:
    """What each node costs; see ``FormatSpec.sensitivity``."""
    wanted = job.recipe.quantization
    if storing.rounds(wanted):
        samples = needed(job.calibration)
        return storing.sensitivity(job.source, Format.LITERT, wanted, samples)
    folder = _converted(job)
    converted = msgspec.json.decode((folder / _CONVERTED).read_bytes(), type=Converted)
    quantization, calibration = quantized_static(job)
    models = (folder / _FLOAT, job.source.graph)
    given = (*models, quantization, converted.inputs, calibration, job.cache)
    return isolation.call(_sensitivity, TOOL_LIMITS, *given)


def _sensitivity(
    source: Path,
    graph: Path,
    quantization: Quantization,
    inputs: tuple[TensorBinding, ...],
    calibration: Dataset,
    cache: Path | None,
) -> tuple[NodeCost, ...]:
    """What runs in a process of its own."""
    from edgekit.formats import litert_quantizer
    from edgekit.formats.litert_matching import nodes_of

    costs = litert_quantizer.sensitivity(source, quantization, inputs, calibration, cache)
    known = nodes_of(source, graph)
    return tuple(structs.replace(cost, source=known.get(cost.name, "")) for cost in costs)


def operators(path: Path) -> dict[str, int]:
    """The operators of all subgraphs of a ``.tflite``, with their number."""
    from ai_edge_litert import schema_py_generated as schema

    names = {n: name for name, n in vars(schema.BuiltinOperator).items() if isinstance(n, int)}
    model = schema.Model.GetRootAs(path.read_bytes())
    graphs = [model.Subgraphs(index) for index in range(model.SubgraphsLength())]
    codes = [
        model.OperatorCodes(graph.Operators(index).OpcodeIndex())
        for graph in graphs
        for index in range(graph.OperatorsLength())
    ]
    # Older files have the number in a field that holds no more than 127.
    numbers = (max(code.BuiltinCode(), code.DeprecatedBuiltinCode()) for code in codes)
    return dict(Counter(names[number] for number in numbers))


SPEC = FormatSpec(
    format=Format.LITERT,
    make=make,
    host_runtime=RUNTIME,
    sensitivity=sensitivity,
    modules=_MODULES,
    operators=operators,
    pinned_tools={tool.name: tool.version for tool in litert_routes.TOOLS},
    tools=("ai-edge-litert", "ai-edge-quantizer", "onnx", "onnxsim"),
)


def _converted(job: Job) -> Path:
    """The folder of the float conversion, kept between builds by all that decides it.

    Raises:
        ConversionFailed: no recipe can be made of this model in this format.
    """
    root = (job.cache or job.folder) / "litert"
    key = store.key(
        [
            job.source.graph.read_bytes(),
            job.source.sha256,
            *(tool.requirements.read_bytes() for tool in litert_routes.TOOLS),
            fingerprint.code(),
        ]
    )
    try:
        return store.make(root, key, partial(_convert, job.source))
    except ToolMissing:
        raise
    except ToolError as error:
        raise ConversionFailed(error.message, error.hint) from error


def _convert(source: SourceModel, folder: Path) -> None:
    """Go the first way that ends at a file that runs and gives what the source gives.

    Raises:
        ToolError: no way does; why is said of each.
        ToolMissing: the same, and a tool was missing.
    """
    refused: list[str] = []
    missing: ToolMissing | None = None
    for route in litert_routes.of(source):
        with tempfile.TemporaryDirectory(prefix="edgekit-litert-") as scratch:
            try:
                made = route.convert(source, Path(scratch))
                rewritten, how = _rewritten(source, made, Path(scratch))
                taken, found = rewritten or (made, _proven(source, made))
            except ToolError as error:
                if isinstance(error, ToolMissing):
                    missing = missing or error
                refused.append(f"{route.name} did not do: {_reason(error)}")
                continue
            shutil.copyfile(taken, folder / _FLOAT)
        notes = (f"by {route.name}", *how, *refused)
        kept = Converted(inputs=found[0], outputs=found[1], notes=notes)
        (folder / _CONVERTED).write_bytes(msgspec.json.encode(kept))
        return
    raise missing or ToolError("no way leads to LiteRT: " + "; ".join(refused))


def _rewritten(
    source: SourceModel, made: Path, scratch: Path
) -> tuple[tuple[Path, Found] | None, tuple[str, ...]]:
    """The conversion of better operators, and what is to be said of that.

    ``None`` where there is nothing to do, or what came of it will not do.
    """
    better = scratch / "better.tflite"
    try:
        count = isolation.call(_rewrite, TOOL_LIMITS, made, better)
        if not count:
            return None, ()
        found = better, _proven(source, better)
    except ToolError as error:
        return None, (f"operators were not rewritten: {_reason(error)}",)
    return found, ("operators rewritten to those that quantize better",)


def _rewrite(made: Path, better: Path) -> int:
    """What runs in a process of its own; only there are the tools imported."""
    from edgekit.formats.litert_rewriting import rewritten

    return rewritten(made, better)


def _proven(source: SourceModel, made: Path) -> Found:
    return isolation.call(binding.proven, TOOL_LIMITS, source, made, RUNTIME)


def _reason(error: ToolError) -> str:
    """What was wrong, and the end of what the tool said."""
    said = " ".join(error.hint.split())[-_REASON_CHARACTERS:]
    return f"{error.message} ({said})" if said else error.message
