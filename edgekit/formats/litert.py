"""LiteRT (.tflite): onnx2tf converts to float, ai-edge-quantizer quantizes what it made."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from functools import partial
from pathlib import Path

import msgspec

from edgekit import fingerprint, store
from edgekit.datasets import Dataset
from edgekit.domain import Artifact, Format, Quantization, TensorBinding
from edgekit.errors import ConversionFailed, ToolError, ToolMissing
from edgekit.formats import binding, host
from edgekit.formats.contract import TOOL_LIMITS, FormatSpec, Job
from edgekit.sources import SourceModel
from edgekit.toolchain import environments, isolation
from edgekit.toolchain.environments import ONNX2TF

RUNTIME = "litert"
_MODULES = {"litert": "ai_edge_litert", "tflite-runtime": "tflite_runtime"}
_FILE = "model.tflite"
_FLOAT = "float.tflite"
_BINDINGS = "bindings.json"


class Bindings(msgspec.Struct, frozen=True, kw_only=True):
    """How the conversion's tensors relate to the source's."""

    inputs: tuple[TensorBinding, ...]
    outputs: tuple[TensorBinding, ...]


def make(job: Job) -> Artifact:
    """Make a ``.tflite`` by the recipe; see ``FormatSpec.make``."""
    converted = _converted(job)
    float_path, bindings = converted / _FLOAT, _bindings(converted)
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
            bindings.inputs,
            job.calibration,
        )
    return Artifact(
        path=_FILE,
        format=Format.LITERT,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        size_bytes=path.stat().st_size,
        inputs=binding.rebound(bindings.inputs, described.input_details),
        outputs=binding.rebound(bindings.outputs, described.output_details),
    )


def _quantize(
    source: Path,
    destination: Path,
    quantization: Quantization,
    inputs: tuple[TensorBinding, ...],
    calibration: Dataset | None,
) -> host.Described:
    """What runs in a process of its own; only there are the tools imported."""
    from edgekit.formats.litert_quantizer import quantize

    quantize(source, destination, quantization, inputs, calibration)
    return host.Session(destination, RUNTIME).described


SPEC = FormatSpec(
    format=Format.LITERT,
    make=make,
    host_runtime=RUNTIME,
    modules=_MODULES,
    pinned_tools={ONNX2TF.name: ONNX2TF.version},
    tools=("ai-edge-litert", "ai-edge-quantizer", "onnx", "onnxsim"),
)


def _converted(job: Job) -> Path:
    """The folder of the float conversion, kept between builds by all that decides it.

    Raises:
        ConversionFailed: no recipe can be made of this model in this format.
    """
    root = (job.cache or job.folder) / "onnx2tf"
    key = store.key(
        [job.source.graph.read_bytes(), ONNX2TF.requirements.read_bytes(), fingerprint.code()]
    )
    try:
        return store.make(root, key, partial(_convert, job.source))
    except ToolMissing:
        raise
    except ToolError as error:
        raise ConversionFailed(error.message, error.hint) from error


def _bindings(converted: Path) -> Bindings:
    return msgspec.json.decode((converted / _BINDINGS).read_bytes(), type=Bindings)


def _convert(source: SourceModel, folder: Path) -> None:
    """Run onnx2tf and prove that what it made gives what the source gives.

    Raises:
        ToolError: the conversion failed, or its result does not agree.
    """
    with tempfile.TemporaryDirectory(prefix="edgekit-onnx2tf-") as scratch:
        # A copy: onnx2tf rewrites the file that it is given.
        graph = shutil.copyfile(source.graph, Path(scratch) / "graph.onnx")
        arguments = ["-i", str(graph), "-o", scratch, "-nuo", "-n"]
        # It takes every input of three to five axes for channels-first and moves its second
        # axis to the end: an NHWC input of [1, 224, 224, 3] would become [1, 224, 3, 224].
        kept = [spec.name for spec in source.inputs if spec.name not in source.channels_first]
        if kept:
            arguments += ["-kat", *kept]
        environments.run(ONNX2TF, arguments, limits=TOOL_LIMITS)
        made = sorted(Path(scratch).glob("*_float32.tflite"))
        if not made:
            raise ToolError("onnx2tf ended without a .tflite")
        inputs, outputs = isolation.call(binding.proven, TOOL_LIMITS, source, made[0], RUNTIME)
        shutil.copyfile(made[0], folder / _FLOAT)
    encoded = msgspec.json.encode(Bindings(inputs=inputs, outputs=outputs))
    (folder / _BINDINGS).write_bytes(encoded)
