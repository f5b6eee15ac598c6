"""``--python``: a package to build a wheel of, with a service and its systemd unit.

The package holds the artifact, ``runtime_stubs/python/edgekit_model`` as it is, and what the
templates beside it become: a module that is made for the model, a service, its unit.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from string import Template

from edgekit import resources
from edgekit.domain import Format, Manifest, Outcome
from edgekit.errors import UsageError
from edgekit.exporting.contract import ExportSpec, Files, Package
from edgekit.exporting.tensors import Tensor

_DISTRIBUTIONS = {
    "ai_edge_litert": "ai-edge-litert",
    "tflite_runtime": "tflite-runtime",
    "tensorflow": "tensorflow",
    "onnxruntime": "onnxruntime",
}
"""Python module -> what installs it; a bundle's manifest names modules."""

_FILES = {Format.LITERT: "model.tflite", Format.ONNXRUNTIME: "model.onnx"}
_TYPES = frozenset(
    ["bool", "float16", "float32", "float64"]
    + [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
)
_MIB = 1 << 20
_GUESS_BYTES = 256 * _MIB
_ROOM = 2
_GRAIN_MIB = 16
_TENSORRT = "TensorrtExecutionProvider"
_BUILT = """\
# An engine is built at the first start, and kept.
TimeoutStartSec=infinity
CacheDirectory={}
"""
_ACCELERATOR = "SupplementaryGroups=video"


def files(package: Package) -> Files:
    """A project to build a wheel of.

    Raises:
        UsageError: tensors of a type that NumPy has no numbers for.
    """
    for tensor in (*package.signature.inputs, *package.signature.outputs):
        if not {tensor.source.dtype, tensor.artifact.dtype} <= _TYPES:
            raise UsageError(f"{tensor.name} is of type {tensor.source.dtype}, not of numbers")
    words = _words(package)
    name, distribution = words["name"], words["distribution"]
    inside: dict[str, bytes | Path] = {
        "__init__.py": _filled("init.py", words),
        "__main__.py": _filled("main.py", words),
        "py.typed": b"",
        words["file"]: package.model,
        **{f"_edgekit/{path.name}": path for path in _runtime()},
    }
    return {
        **{f"{name}/{path}": content for path, content in inside.items()},
        "pyproject.toml": _filled("pyproject.toml", words),
        "README.md": _filled("README.md", words),
        f"{distribution}.service": _filled("unit.service", words),
    }


def _filled(template: str, words: Mapping[str, str]) -> bytes:
    """A file of ``runtime_stubs/python/package`` with what is the model's own."""
    path = resources.folder("runtime_stubs") / "python" / "package" / f"{template}.in"
    return Template(path.read_text(encoding="utf-8")).substitute(words).encode()


def _runtime() -> list[Path]:
    stubs = resources.folder("runtime_stubs")
    return [*sorted((stubs / "python" / "edgekit_model").glob("*.py")), stubs / "LICENSE"]


def _words(package: Package) -> dict[str, str]:
    """All that the templates ask for."""
    inputs = package.signature.inputs
    return {
        "name": package.name,
        "distribution": _distribution(package),
        "file": _FILES[package.artifact.format],
        "version": f"b{package.bundle.sha256[:12]}",
        "example": ", ".join(tensor.identifier for tensor in inputs),
        "request": _in_quotes(json.dumps({"inputs": {tensor.name: "..." for tensor in inputs}})),
        **_runtimes(package),
        **_literals(package),
        **_limits(package.bundle.manifest),
        "start": _start(package),
    }


def _in_quotes(text: str) -> str:
    """JSON that a shell may have between single quotes."""
    return text.replace("'", "\\u0027")


def _runtimes(package: Package) -> dict[str, str]:
    """What runs the artifact, the device's preference first."""
    found = {m: str(told) for m, told in package.runtimes.items() if m in _DISTRIBUTIONS}
    if not found:
        raise UsageError("the bundle names no runtime that is a Python package")
    names = {_DISTRIBUTIONS[module]: versions for module, versions in found.items()}
    return {
        "modules": ascii(tuple(found)),
        "extra": next(iter(names)),
        "extras": "".join(f"{n} = [{json.dumps(n + versions)}]\n" for n, versions in names.items()),
    }


def _literals(package: Package) -> dict[str, str]:
    """What the module says of the model: whatever a name holds, it stays a string."""
    manifest, signature = package.bundle.manifest, package.signature
    inputs, outputs = signature.inputs, signature.outputs
    labels = "".join(f"    {label!a},\n" for label in signature.labels)
    return {
        "sha256": ascii(package.sha256),
        "kind": ascii(package.artifact.format.value),
        "threads": ascii(manifest.recipe.threads),
        "delegate": ascii(manifest.delegate),
        "inputs": "".join(map(_tensor, inputs)),
        "outputs": "".join(map(_tensor, outputs)),
        "labels": f"(\n{labels})" if labels else "()",
        "fields": "".join(f"    {t.identifier}: NDArray[Any]  # {_said(t)}\n" for t in outputs),
        "arguments": ", ".join(["self", *(f"{t.identifier}: Any" for t in inputs)]),
        "told": "".join(f"            {t.identifier}: {_wanted(t)}.\n" for t in inputs),
        "given": "{" + ", ".join(f"{t.name!a}: {t.identifier}" for t in inputs) + "}",
        "first": outputs[0].identifier,
        "taken": ", ".join(f"{t.identifier}=given[{t.name!a}]" for t in outputs),
    }


def _tensor(tensor: Tensor) -> str:
    fields = {
        "name": tensor.name,
        "shape": tensor.source.shape,
        "dtype": tensor.source.dtype,
        "artifact_name": tensor.artifact.name,
        "artifact_dtype": tensor.artifact.dtype,
        "permutation": tensor.permutation,
    }
    lines = [f"{key}={value!a}" for key, value in fields.items()]
    if found := tensor.quantization:
        lines.append(f"quantization=Quantization({found.scale!r}, {found.zero_point!r})")
    if picture := tensor.picture:
        numbers = f"{picture.scale!r}, {picture.bias!r}"
        lines.append(f"picture=Picture({picture.colours!a}, {numbers})")
    return "    Tensor(\n" + "".join(f"        {line},\n" for line in lines) + "    ),\n"


def _said(tensor: Tensor) -> str:
    return f"{tensor.source.dtype} {list(tensor.source.shape)}"


def _wanted(tensor: Tensor) -> str:
    if tensor.picture is None:
        return _said(tensor)
    channels = "" if tensor.picture.channels == 1 else " by red, green, blue"
    return f"{_said(tensor)}, or a picture: bytes, rows by columns{channels}"


def _start(package: Package) -> str:
    """TensorRT builds an engine at the first start; systemd's 90 seconds would end it each time."""
    built = package.bundle.manifest.delegate == _TENSORRT
    return _BUILT.format(_distribution(package)) if built else ""


def _distribution(package: Package) -> str:
    return package.name.replace("_", "-").strip("-")


def _limits(manifest: Manifest) -> dict[str, str]:
    """What the service may take."""
    devices = "PrivateDevices=yes" if manifest.delegate is None else _ACCELERATOR
    if manifest.delegate == _TENSORRT:
        told = "None is known: to build an engine takes more than to run it."
        return {"memory_from": told, "memory": "infinity", "devices": devices}
    peak, source = _peak_bytes(manifest)
    grains = math.ceil(_ROOM * peak / (_GRAIN_MIB * _MIB))
    return {
        "memory_from": f"{_ROOM} times the {source}, {peak / _MIB:.0f} MiB.",
        "memory": f"{grains * _GRAIN_MIB}M",
        "devices": devices,
    }


def _peak_bytes(manifest: Manifest) -> tuple[float, str]:
    """The peak of a process that runs the model: as it was measured, else as it was predicted."""
    for measured in manifest.measured:
        if measured.outcome is Outcome.CHOSEN and measured.peak_memory_bytes:
            return measured.peak_memory_bytes, "peak that was measured"
    planned = manifest.recipe.planned
    for candidate in manifest.plan.candidates:
        if candidate.recipe == planned:
            return candidate.prediction.peak_memory_bytes.high, "highest peak that is expected"
    return _GUESS_BYTES + 4 * manifest.artifact.size_bytes, "peak as it is guessed"


SPEC = ExportSpec(platform="python", formats=tuple(_FILES), files=files)
