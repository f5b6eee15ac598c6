"""ONNX Runtime (.onnx, and .ort for mobile): the graph itself, quantized by its own tools."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from edgekit.datasets import Dataset
from edgekit.domain import Artifact, Format, Quantization
from edgekit.formats import binding, host
from edgekit.formats.contract import TOOL_LIMITS, FormatSpec, Job
from edgekit.toolchain import isolation

RUNTIME = "onnxruntime"
_FILE = "model.onnx"


def make(job: Job) -> Artifact:
    """Make an ``.onnx`` by the recipe; see ``FormatSpec.make``."""
    path = job.folder / _FILE
    quantization = job.recipe.quantization
    if quantization is None:
        shutil.copyfile(job.source.graph, path)
    else:
        isolation.call(
            _quantize, TOOL_LIMITS, job.source.graph, path, quantization, job.calibration
        )
    described = host.describe(path, RUNTIME)
    extra = isolation.call(_mobile_files, TOOL_LIMITS, path) if job.mobile else ()
    return Artifact(
        path=_FILE,
        format=Format.ONNXRUNTIME,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        size_bytes=path.stat().st_size,
        inputs=binding.direct(job.source.inputs, described.input_details, "input"),
        outputs=binding.direct(job.source.outputs, described.output_details, "output"),
        extra_files=extra,
    )


def _quantize(
    source: Path, destination: Path, quantization: Quantization, calibration: Dataset | None
) -> None:
    """What runs in a process of its own; only there are the tools imported."""
    from edgekit.formats.onnxruntime_quantizer import quantize

    quantize(source, destination, quantization, calibration)


def _mobile_files(path: Path) -> tuple[str, ...]:
    from edgekit.formats.onnxruntime_quantizer import mobile_files

    return mobile_files(path)


SPEC = FormatSpec(
    format=Format.ONNXRUNTIME,
    make=make,
    host_runtime=RUNTIME,
    modules={"onnxruntime": "onnxruntime"},
    tools=("onnx", "onnxruntime", "onnxsim"),
)
