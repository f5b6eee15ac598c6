"""ONNX Runtime (.onnx, and .ort for mobile): the graph itself, quantized by its own tools."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections import Counter
from pathlib import Path

from edgekit.datasets import Dataset
from edgekit.domain import Artifact, Format, NodeCost, Quantization
from edgekit.errors import ToolError
from edgekit.formats import binding, host
from edgekit.formats.contract import TOOL_LIMITS, FormatSpec, Job, quantized_static, refuse_sparsity
from edgekit.sources import random_feeds
from edgekit.sources.difference import relative_error
from edgekit.toolchain import isolation

RUNTIME = "onnxruntime"
_FILE = "model.onnx"
_AGREES = 1e-3


def make(job: Job) -> Artifact:
    """Make an ``.onnx`` by the recipe; see ``FormatSpec.make``."""
    refuse_sparsity(job)
    path = job.folder / _FILE
    quantization = job.recipe.quantization
    if quantization is None:
        shutil.copyfile(job.source.graph, path)
        described = host.describe(path, RUNTIME)
    else:
        described = isolation.call(
            _quantize,
            TOOL_LIMITS,
            job.source.graph,
            path,
            quantization,
            job.calibration,
            job.recipe.float_nodes,
            job.cache,
        )
    extra = _mobile(job, path) if job.mobile else ()
    return Artifact(
        path=_FILE,
        format=Format.ONNXRUNTIME,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        size_bytes=path.stat().st_size,
        inputs=binding.direct(job.source.inputs, described.input_details, "input"),
        outputs=binding.direct(job.source.outputs, described.output_details, "output"),
        extra_files=extra,
    )


def _mobile(job: Job, path: Path) -> tuple[str, ...]:
    """What a mobile build needs, run once and compared with the ``.onnx`` it was made of.

    Raises:
        ToolError: it cannot be made, does not run, or gives something else.
    """
    names = isolation.call(_mobile_files, TOOL_LIMITS, path)
    inputs, feeds = binding.identical(job.source.inputs), random_feeds(job.source.inputs)
    with tempfile.TemporaryDirectory(prefix="edgekit-ort-") as scratch:
        ran = [
            binding.run(job.folder / name, RUNTIME, inputs, feeds, Path(scratch))
            for name in (path.name, names[0])
        ]
    for name, expected in ran[0].items():
        if relative_error(ran[1][name], expected) > _AGREES:
            raise ToolError(f"{names[0]} gives another {name!r} than {path.name}")
    return names


def _quantize(
    source: Path,
    destination: Path,
    quantization: Quantization,
    calibration: Dataset | None,
    float_nodes: tuple[str, ...],
    cache: Path | None,
) -> host.Described:
    """What runs in a process of its own; only there are the tools imported."""
    from edgekit.formats.onnxruntime_quantizer import quantize

    quantize(source, destination, quantization, calibration, float_nodes, cache)
    return host.Session(destination, RUNTIME).described


def sensitivity(job: Job) -> tuple[NodeCost, ...]:
    """What each node costs in int8; see ``FormatSpec.sensitivity``."""
    given = (job.source.graph, *quantized_static(job), job.cache)
    return isolation.call(_sensitivity, TOOL_LIMITS, *given)


def _sensitivity(
    source: Path, quantization: Quantization, calibration: Dataset, cache: Path | None
) -> tuple[NodeCost, ...]:
    """What runs in a process of its own."""
    from edgekit.formats import onnxruntime_quantizer

    return onnxruntime_quantizer.sensitivity(source, quantization, calibration, cache)


def _mobile_files(path: Path) -> tuple[str, ...]:
    from edgekit.formats.onnxruntime_quantizer import mobile_files

    return mobile_files(path)


def operators(path: Path) -> dict[str, int]:
    """The operators of an ``.onnx``, with their number."""
    import onnx

    graph = onnx.load(path, load_external_data=False).graph
    return dict(Counter(node.op_type for node in graph.node))


SPEC = FormatSpec(
    format=Format.ONNXRUNTIME,
    make=make,
    host_runtime=RUNTIME,
    sensitivity=sensitivity,
    modules={"onnxruntime": "onnxruntime"},
    operators=operators,
    tools=("onnx", "onnxruntime", "onnxsim"),
)
