"""Bundles made by hand for the runner's tests: as little of a manifest as it reads."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit import resources

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Tensor:
    """One input or output: its golden samples, and the scale and zero point of its integers."""

    name: str
    golden: Array
    quantization: tuple[float, int] | None = None

    @property
    def binding(self) -> dict[str, Any]:
        spec = {
            "name": self.name,
            "shape": list(self.golden.shape[1:]),
            "dtype": self.golden.dtype.name,
        }
        return {"source": spec, "artifact": spec, "permutation": [], "quantization": self._affine}

    @property
    def _affine(self) -> dict[str, float] | None:
        if self.quantization is None:
            return None
        return {"scale": self.quantization[0], "zero_point": self.quantization[1]}


@dataclass(frozen=True)
class Contents:
    """What goes into a bundle."""

    model: Path
    format: str
    modules: Sequence[str]
    inputs: Sequence[Tensor]
    outputs: Sequence[Tensor]
    tolerance: float = 1e-3
    delegate: str | None = None
    threads: int = 1
    extra: dict[str, str] = field(default_factory=dict)

    def but(self, **changes: Any) -> Contents:
        return replace(self, **changes)


def write(folder: Path, contents: Contents) -> Path:
    """A bundle's folder, the runner in it."""
    folder.mkdir(parents=True)
    artifact = f"artifact{contents.model.suffix}"
    shutil.copyfile(contents.model, folder / artifact)
    shutil.copyfile(resources.runner(), folder / "edgekit_runner.py")
    manifest = {
        "schema_version": 1,
        "runtimes": dict.fromkeys(contents.modules, ""),
        "delegate": contents.delegate,
        "recipe": {"threads": contents.threads},
        "artifact": {
            "path": artifact,
            "format": contents.format,
            "inputs": [tensor.binding for tensor in contents.inputs],
            "outputs": [tensor.binding for tensor in contents.outputs],
            "extra_files": [],
        },
        "golden": {
            "sample_count": len(contents.inputs[0].golden),
            "inputs": _save(folder, "input", contents.inputs),
            "outputs": _save(folder, "output", contents.outputs),
            "tolerances": [contents.tolerance] * len(contents.outputs),
        },
        "digests": {},
    }
    seal(folder, manifest)
    return folder


def _save(folder: Path, side: str, tensors: Sequence[Tensor]) -> list[str]:
    names = [f"golden/{side}_{index}.npy" for index in range(len(tensors))]
    (folder / "golden").mkdir(exist_ok=True)
    for name, tensor in zip(names, tensors, strict=True):
        np.save(folder / name, tensor.golden)
    return names


def seal(folder: Path, manifest: dict[str, Any]) -> None:
    """Write the manifest with the digests of what lies in the folder."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    manifest["digests"] = {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
        if path.name != "manifest.json"
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
