"""One small network, built for a runtime each: made once by whoever needs it first."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

import edgekit as ek
from edgekit import bundle
from edgekit.domain import Format, Mode, Quantization, Recipe
from edgekit.exporting.contract import Package
from edgekit.exporting.tensors import signature
from tests.paths import CALIBRATION, DIGITS_MODEL

LABELS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def built(folder: Path, device: str, **choice: tuple[object, ...]) -> Path:
    """The example's bundle for a device."""
    model = ek.load(DIGITS_MODEL)
    plan = ek.plan(model, device=device, choice=ek.Choice(calibration=True, **choice))
    return ek.build(model, plan, folder / f"{device}.edgekit", calibration=CALIBRATION).path


@pytest.fixture(scope="session")
def litert_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Static int8 for LiteRT; its user is of the group ``exports``."""
    folder = tmp_path_factory.mktemp("litert")
    return built(folder, "raspberry-pi-5", formats=(Format.LITERT,), precisions=("int8-static",))


@pytest.fixture(scope="session")
def onnx_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Static int8 for ONNX Runtime; its user is of the group ``exports``."""
    folder = tmp_path_factory.mktemp("onnx")
    return built(
        folder, "generic-x86-64", formats=(Format.ONNXRUNTIME,), precisions=("int8-static",)
    )


@pytest.fixture(scope="session")
def coreml_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Float for Core ML; its user is of the group ``exports``."""
    pytest.importorskip("coremltools", reason="the extra coreml is not installed")
    return built(tmp_path_factory.mktemp("coreml"), "iphone-15-pro", precisions=("float32",))


HOSTILE = (
    "*/ object Evil { init { println(1) } } /*",
    "all\nimport Evil\u2028//",
    '"""); evil() //',
)
"""What a manifest may hold wherever it has free words, to become code."""


def hostile(words: str) -> Recipe:
    """A recipe whose every free word says that."""
    kept = Quantization(mode=Mode.WEIGHT_ONLY, weights=words, activations=words)
    return Recipe(
        format=Format.LITERT, runtime=words, accelerator=words, power_mode=words, quantization=kept
    )


@pytest.fixture
def shown(tmp_path: Path) -> Callable[..., Package]:
    """A bundle's package with a changed manifest: as if it had been built so."""

    def change(path: Path, **changes: object) -> Package:
        with bundle.opened(path) as opened:
            shutil.copytree(opened.root, tmp_path / "shown", dirs_exist_ok=True)
            manifest = msgspec.structs.replace(opened.manifest, **changes)
            moved = msgspec.structs.replace(opened, root=tmp_path / "shown", manifest=manifest)
        return Package(bundle=moved, name="digits", signature=signature(manifest))

    return change
