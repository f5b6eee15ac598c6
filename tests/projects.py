"""Projects for tests: a folder with the digits example and an edgekit.toml."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.paths import CALIBRATION, DIGITS_MODEL, EVALUATION

MODEL = """
[models.{name}]
source = "{name}.onnx"
evaluation = "evaluation.npz"
"""
ONE_TARGET = """
[targets.here]
device = "generic-x86-64"
formats = ["onnxruntime"]
precisions = ["float32"]
"""
"""The quickest there is to build."""


def make(folder: Path, *models: str, rest: str = ONE_TARGET) -> Path:
    """A folder with the example's data, and its model under each of the names."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in models:
        shutil.copyfile(DIGITS_MODEL, folder / f"{name}.onnx")
    shutil.copyfile(CALIBRATION, folder / "calibration.npz")
    shutil.copyfile(EVALUATION, folder / "evaluation.npz")
    text = "".join(MODEL.format(name=name) for name in models) + rest
    return write(folder, text)


def write(folder: Path, text: str) -> Path:
    path = folder / "edgekit.toml"
    path.write_text(text, encoding="utf-8")
    return path
