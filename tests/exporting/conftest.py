"""One small network, built for a runtime each: made once by whoever needs it first."""

from __future__ import annotations

from pathlib import Path

import pytest

import edgekit as ek
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
    from edgekit.domain import Format

    folder = tmp_path_factory.mktemp("litert")
    return built(folder, "raspberry-pi-5", formats=(Format.LITERT,), precisions=("int8-static",))


@pytest.fixture(scope="session")
def onnx_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Static int8 for ONNX Runtime; its user is of the group ``exports``."""
    from edgekit.domain import Format

    folder = tmp_path_factory.mktemp("onnx")
    return built(
        folder, "generic-x86-64", formats=(Format.ONNXRUNTIME,), precisions=("int8-static",)
    )
