"""Running an artifact on this machine: by the device's own runner, in a process of its own.

A runtime that crashes on an artifact takes the runner's process with it and nothing
else; what runs here is, to the byte, what runs on the device.
"""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct
from numpy.typing import NDArray

from edgekit import resources
from edgekit.domain import AffineQuantization, TensorSpec
from edgekit.errors import ToolError
from edgekit.toolchain import process
from edgekit.toolchain.process import Limits

_LIMITS = Limits(seconds=1800)


class Detail(Struct, frozen=True, kw_only=True):
    """A tensor of an artifact as its runtime reports it."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float | None
    zero_point: int | None

    @property
    def spec(self) -> TensorSpec:
        return TensorSpec(self.name, self.shape, self.dtype)

    @property
    def quantization(self) -> AffineQuantization | None:
        if self.scale is None:
            return None
        return AffineQuantization(self.scale, self.zero_point or 0)


class RuntimeUsed(Struct, frozen=True, kw_only=True):
    """The runtime that answered."""

    name: str
    module: str
    version: str


class Described(Struct, frozen=True, kw_only=True):
    """An artifact's inputs and outputs, in the order in which ``infer`` takes and gives them."""

    input_details: tuple[Detail, ...]
    output_details: tuple[Detail, ...]
    runtime: RuntimeUsed


class Session:
    """An artifact loaded into this very process: only for code that ``isolation.call`` runs.

    Raises:
        Exception: whatever the runtime raises; it may also end the process.
    """

    def __init__(self, artifact: Path, runtime: str) -> None:
        # The code that runs on the device; not imported, which would leave bytecode beside it.
        self._runner = runpy.run_path(str(resources.runner()), run_name="edgekit_runner")
        self._loaded = self._runner["ADAPTERS"][runtime]((), 1, None)
        self._runner["load"](self._loaded, artifact)

    @property
    def described(self) -> Described:
        return msgspec.convert(self._runner["description"](self._loaded), Described)

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """One inference; arrays by the artifact's own names."""
        described = self.described
        samples = [inputs[detail.name] for detail in described.input_details]
        outputs = self._runner["run"](self._loaded, samples)
        names = [detail.name for detail in described.output_details]
        return dict(zip(names, outputs, strict=True))


def describe(artifact: Path, runtime: str) -> Described:
    """The artifact's inputs and outputs.

    Raises:
        ToolError: the runtime cannot load it; ToolCrashed when that ended the process.
    """
    return _asked(["describe", str(artifact), "--runtime", runtime], "described")


def infer(artifact: Path, runtime: str, inputs: Mapping[str, Path], folder: Path) -> Described:
    """Run every sample; ``folder/output_<i>.npy`` holds output ``i`` of all of them.

    Args:
        artifact: the model file.
        runtime: ``litert`` or ``onnxruntime``.
        inputs: name -> ``.npy``, ``[samples, *shape]``, in the artifact's types.
        folder: exists; the outputs are written into it.

    Raises:
        ToolError: the runtime cannot load or run it; ToolCrashed when that ended the process.
    """
    argv = ["infer", str(artifact), "--runtime", runtime, "--output-dir", str(folder)]
    for name, path in inputs.items():
        argv += [f"--input-name={name}", f"--input={path}"]
    return _asked(argv, "inferred")


Infer = Callable[[Path, str, Mapping[str, Path], Path], Described]
"""The form of ``infer``, for formats that the runner does not run."""


def _asked(arguments: list[str], event: str) -> Described:
    argv = [sys.executable, str(resources.runner()), *arguments]
    name = Path(arguments[1]).name
    ended = process.run(argv, what=f"running {name}", limits=_LIMITS, accept=(0, 1))
    answer = _last_event(ended.stdout)
    if answer.get("event") == "error":
        raise ToolError(f"{name} does not run: {answer['message']}", str(answer.get("hint", "")))
    if answer.get("event") != event:
        raise ToolError(f"running {name} gave no answer", ended.said)
    return msgspec.convert(answer, Described)


def _last_event(stdout: str) -> dict[str, Any]:
    lines = stdout.splitlines()
    return msgspec.json.decode(lines[-1], type=dict[str, Any]) if lines else {}
