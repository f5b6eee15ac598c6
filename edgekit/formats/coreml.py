"""Core ML (.mlpackage): ONNX to an ML Program, compressed by coremltools, run by ``edgekit.mil``.

No Mac takes part. The package is read back as it was saved and evaluated operation by
operation; that is what validates it here.
"""

from __future__ import annotations

import importlib.util
import shutil
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from msgspec import Struct

from edgekit import __version__
from edgekit.datasets import Dataset
from edgekit.domain import (
    Artifact,
    DeviceProfile,
    Format,
    Interface,
    Mode,
    Picture,
    Quantization,
    TensorBinding,
    TensorSpec,
)
from edgekit.domain import coreml as releases
from edgekit.errors import ConversionFailed, ToolError, ToolMissing, UnsupportedOperation
from edgekit.formats import binding, coreml_interface
from edgekit.formats.contract import TOOL_LIMITS, FormatSpec, Job
from edgekit.formats.coreml_interface import PROBABILITIES, inscribe
from edgekit.formats.coreml_package import border_names, digest, parts, size_bytes
from edgekit.formats.host import Described, Detail, RuntimeUsed
from edgekit.interfaces import to_pixels
from edgekit.sources import SourceModel, random_feeds
from edgekit.sources.difference import relative_error
from edgekit.toolchain import isolation

if TYPE_CHECKING:
    from edgekit import mil

RUNTIME = "coreml"
_FILE = "model.mlpackage"
_TEXT = "str"
_AGREES = 1e-3

_QUANTIZED_OPERATORS = ("Conv", "Gemm", "MatMul", "Add", "MaxPool", "AveragePool")
"""What Core ML computes between int8 tensors; all else stays in float16."""


def make(job: Job) -> Artifact:
    """Make an ``.mlpackage`` by the recipe; see ``FormatSpec.make``."""
    quantization = job.recipe.quantization
    if quantization is not None and (reason := releases.refusal(quantization)):
        raise ToolError(f"{quantization.precision} cannot be made: {reason}")
    release = _release(job.device, quantization)
    if importlib.util.find_spec("coremltools") is None:
        raise ToolMissing("coremltools is not installed", "pip install 'edgekit[coreml]'")
    path = job.folder / _FILE
    form = Form(quantization=quantization, release=release, interface=job.interface)
    described = isolation.call(write, TOOL_LIMITS, job.source, path, form, job.calibration)
    return record(job.source, path, described, job.interface)


def _release(device: DeviceProfile | None, quantization: Quantization | None) -> int:
    """The release the package is made for: what the oldest system of the device loads.

    Raises:
        ConversionFailed: that is older than all that edgekit makes packages for.
        ToolError: the recipe needs a newer one.
    """
    if device is None:
        return max(releases.needs(quantization), releases.RELEASES[1])
    (versions,) = [r.versions for r in device.runtimes if Format.COREML in r.formats][:1]
    release = releases.release(versions, device.os)
    if release is None:
        raise ConversionFailed(
            f"{device.name} may have Core ML {versions}; ML Programs as edgekit makes them "
            f"need iOS {releases.RELEASES[0]}",
            "write a profile with the oldest system that your users have",
        )
    needed = releases.needs(quantization)
    if quantization is not None and needed > release:
        raise ToolError(
            f"{quantization.precision} needs iOS {needed}, {device.name} may have {versions}",
            "write a profile with the oldest system that your users have",
        )
    return release


class Form(Struct, frozen=True, kw_only=True):
    """What a package is to be.

    Attributes:
        quantization: ``None`` for float32.
        release: the iOS release whose Core ML must load it.
        interface: what an application is to see of it.
    """

    quantization: Quantization | None
    release: int
    interface: Interface = Interface()


def write(
    source: SourceModel, destination: Path, form: Form, calibration: Dataset | None = None
) -> Described:
    """Write a package, loading all the tools: to be run by ``isolation.call``.

    Args:
        source: the user's model.
        destination: the package's folder; replaced.
        form: what it is to be.
        calibration: samples, for ``static`` only.

    Raises:
        ConversionFailed: nodes that Core ML cannot hold, all of them.
        DataError: ``static`` without calibration.
        ToolError: a tool failed, or did not do what it says; there is no package then.
    """
    import onnx

    from edgekit.formats import coreml_compression, coreml_converter, coreml_package

    quantization, interface = form.quantization, form.interface
    graph = coreml_converter.prepared(onnx.load(source.graph))
    _check_rewriting(source, graph)
    if quantization is not None and quantization.sparsity:
        coreml_compression.pruned(graph, quantization.sparsity)
    weighed = graph
    if quantization is not None and quantization.mode is Mode.STATIC:
        graph = _calibrated(graph, quantization, calibration)
    coreml_interface.pictured(graph, interface.pictures, source.inputs)
    float16 = quantization is not None
    mlmodel = coreml_converter.converted(graph, release=form.release, float16=float16)
    if quantization is not None:
        mlmodel = coreml_compression.compressed(mlmodel, quantization)
    about = coreml_package.metadata(onnx.load(source.graph), source.sha256)
    precision = quantization.precision if quantization else "float32"
    with tempfile.TemporaryDirectory(dir=destination.parent, prefix=".coreml-") as aside:
        package = Path(aside) / _FILE
        coreml_package.save(
            mlmodel, about, package, lambda s: inscribe(s, interface, _names(source, interface))
        )
        weights = coreml_package.weight_bytes(package)
        expected = coreml_compression.expected_bytes(weighed, quantization)
        coreml_compression.weigh(weights, expected, precision)
        described = describe(package)
        shutil.rmtree(destination, ignore_errors=True)
        package.rename(destination)
    return described


def _check_rewriting(source: SourceModel, graph: Any) -> None:
    """The rewritten graph gives what the user's gives.

    Raises:
        ToolError: it does not; nothing is made of it.
    """
    import onnxruntime

    names = [spec.name for spec in source.outputs]
    session = onnxruntime.InferenceSession(
        graph.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    got = session.run(names, random_feeds(source.inputs))
    expected = binding.probed(source)
    for name, array in zip(names, got, strict=True):
        error = relative_error(array.astype(np.float64), expected[name].astype(np.float64))
        if error > _AGREES:
            raise ToolError(f"rewriting the graph for Core ML changed the output {name!r}")


def _calibrated(graph: Any, quantization: Quantization, calibration: Dataset | None) -> Any:
    """The graph with QDQ pairs, whose scales Core ML's ``quantize`` takes."""
    import onnx
    from onnxruntime.quantization.shape_inference import quant_pre_process

    from edgekit.formats import qdq

    with tempfile.TemporaryDirectory(prefix="edgekit-coreml-") as scratch:
        plain, clean, paired = (Path(scratch) / f"{n}.onnx" for n in ("plain", "clean", "qdq"))
        onnx.save(graph, plain)
        quant_pre_process(str(plain), str(clean), skip_symbolic_shape=True)
        qdq.insert(clean, paired, quantization, calibration, _QUANTIZED_OPERATORS)
        return onnx.load(paired)


def record(source: SourceModel, path: Path, described: Described, interface: Interface) -> Artifact:
    """What is said of a package that ``write`` made.

    Raises:
        ToolError: its tensors are not the source's.
    """
    return Artifact(
        path=path.name,
        format=Format.COREML,
        sha256=digest(path),
        size_bytes=size_bytes(path),
        parts=parts(path),
        inputs=_bound(_names(source, interface), source.inputs, described, interface),
        outputs=_bound(_names(source, interface), source.outputs, described, interface),
    )


def _names(source: SourceModel, interface: Interface) -> dict[str, str]:
    """The names of the source's tensors in the package."""
    specs = (*source.inputs, *source.outputs)
    scores = {source.outputs[0].name: PROBABILITIES} if interface.labels else {}
    return border_names(spec.name for spec in specs) | scores


def _bound(
    names: dict[str, str],
    specs: tuple[TensorSpec, ...],
    described: Described,
    interface: Interface,
) -> tuple[TensorBinding, ...]:
    """The package's tensors under the source's names: axes stay, names become identifiers."""
    details = (*described.input_details, *described.output_details)
    own = {made: name for name, made in names.items()}
    pictures = interface.pictures
    taken = {
        spec.name: _picture(spec, pictures[spec.name]) for spec in specs if spec.name in pictures
    }
    renamed = [msgspec.structs.replace(d, name=own.get(d.name, d.name)) for d in details]
    plain = [spec for spec in specs if spec.name not in taken]
    direct = binding.direct(plain, renamed, "a tensor of the package")
    bound = {b.source.name: b for b in direct} | taken
    return tuple(
        msgspec.structs.replace(
            bound[spec.name],
            artifact=msgspec.structs.replace(bound[spec.name].artifact, name=names[spec.name]),
        )
        for spec in specs
    )


def _picture(spec: TensorSpec, picture: Picture) -> TensorBinding:
    """An input that takes a picture; what the evaluator and the runner take for one."""
    order = to_pixels(spec, picture)
    shape = tuple(spec.shape[axis] for axis in order)[1:]
    return TensorBinding(
        source=spec,
        artifact=TensorSpec(spec.name, shape if picture.channels > 1 else shape[:2], "uint8"),
        permutation=order,
        layout="HWC" if picture.channels > 1 else "HW",
        image=picture,
    )


def describe(package: Path) -> Described:
    """A package's inputs and outputs, as saved.

    Raises:
        ModelError: it cannot be read.
        UnsupportedOperation: it holds an operation that cannot be validated here.
    """
    return _described(_loaded(package))


def _loaded(package: Path) -> mil.Program:
    from edgekit import mil

    program = mil.load(package)
    if missing := mil.unsupported(program):
        named = ", ".join(sorted({op.type for op in missing}))
        raise UnsupportedOperation(f"{package.name} cannot be validated here: {named}")
    return program


def _described(program: mil.Program) -> Described:
    return Described(
        input_details=tuple(map(_detail, program.inputs)),
        output_details=tuple(_detail(f) for f in program.outputs if f.dtype != _TEXT),
        runtime=RuntimeUsed(name=RUNTIME, module="edgekit.mil", version=__version__),
    )


def _detail(feature: mil.Feature) -> Detail:
    shape = (1, *feature.shape) if feature.name == PROBABILITIES else feature.shape
    return Detail(name=feature.name, shape=shape, dtype=feature.dtype, scale=None, zero_point=None)


def infer(artifact: Path, _runtime: str, inputs: Mapping[str, Path], folder: Path) -> Described:
    """Evaluate every sample, in a process of its own; see ``host.infer``."""
    return isolation.call(_infer, TOOL_LIMITS, artifact, dict(inputs), folder)


def _infer(artifact: Path, inputs: dict[str, Path], folder: Path) -> Described:
    from edgekit import mil

    program = _loaded(artifact)
    described = _described(program)
    stacks = {name: np.load(path, mmap_mode="r") for name, path in inputs.items()}
    count = len(next(iter(stacks.values())))
    files: dict[str, Any] = {}
    for index in range(count):
        given = {name: stack[index] for name, stack in stacks.items()}
        outputs = mil.evaluate(program, given)
        for place, detail in enumerate(described.output_details):
            array = outputs[detail.name].reshape(detail.shape)
            if detail.name not in files:
                files[detail.name] = np.lib.format.open_memmap(
                    folder / f"output_{place}.npy", "w+", array.dtype, (count, *array.shape)
                )
            files[detail.name][index] = array
    return described


def operators(path: Path) -> dict[str, int]:
    """The operations of a package but for its constants, with their number."""
    from edgekit import mil

    kinds = (operation.type for operation in mil.load(path).operations)
    return dict(Counter(kind for kind in kinds if not kind.startswith("const")))


SPEC = FormatSpec(
    format=Format.COREML,
    make=make,
    host_runtime=RUNTIME,
    infer=infer,
    modules={RUNTIME: RUNTIME},
    operators=operators,
    tools=("coremltools", "numpy", "onnx", "onnxruntime", "onnxsim"),
)
