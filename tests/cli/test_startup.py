"""``import edgekit`` and ``--help`` load nothing heavy."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.paths import CALIBRATION, DIGITS_MODEL, ROOT

FRAMEWORKS = ("jax", "keras", "sklearn", "sympy", "tensorflow", "tf_keras", "torch")
"""And what else would take as long, for nothing."""

HEAVY = {
    "ai_edge_litert",
    "ai_edge_quantizer",
    "google.protobuf",
    "keras",
    "msgspec",
    "numpy",
    "onnx",
    "onnxruntime",
    "onnxsim",
    "paramiko",
    "rich",
    "tensorflow",
    "torch",
}


def loaded(code: str) -> set[str]:
    told = f"{code}\nimport sys; print('\\n'.join(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    return set(ran.stdout.splitlines())


@pytest.mark.parametrize(
    "code",
    [
        "import edgekit",
        "import edgekit.cli",
        "from edgekit.cli.arguments import parser; parser().format_help()",
    ],
)
def test_nothing_heavy_is_loaded(code: str) -> None:
    assert not loaded(code) & HEAVY


@pytest.mark.parametrize("module", ["edgekit.domain", "edgekit.profiles", "edgekit.planning"])
def test_planning_needs_no_runtime(module: str) -> None:
    assert not loaded(f"import {module}") & (HEAVY - {"msgspec"})


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    """Frameworks that leave a mark when anything, in whichever process, imports them."""
    (tmp_path / "imported").mkdir()
    for name in FRAMEWORKS:
        mark = tmp_path / "imported" / name
        (tmp_path / f"{name}.py").write_text(f"open({str(mark)!r}, 'w').close()\n")
    return tmp_path


def run(trap: Path, *argv: str) -> set[str]:
    """The frameworks that a program and the processes it starts import."""
    env = os.environ | {"PYTHONPATH": f"{trap}:{ROOT}", "EDGEKIT_CACHE": str(trap / "cache")}
    subprocess.run([sys.executable, *argv], env=env, check=True, capture_output=True, cwd=trap)
    return {mark.name for mark in (trap / "imported").iterdir()}


def test_the_trap_springs(trap: Path) -> None:
    assert run(trap, "-c", "import torch, keras") == {"torch", "keras"}


@pytest.mark.parametrize(
    ("device", "format_", "precision"),
    [
        ("generic-x86-64", "litert", "int8-static"),
        ("pixel-8", "onnxruntime", "int8-static"),
        ("generic-x86-64", "onnxruntime", "float16"),
    ],
)
def test_the_onnx_path_never_loads_a_framework(
    trap: Path, device: str, format_: str, precision: str
) -> None:
    words = ("build", str(DIGITS_MODEL), "--device", device, "--format", format_, "--no-cache")
    data = ("--precision", precision, "--calibration", str(CALIBRATION))
    assert run(trap, "-m", "edgekit", *words, *data, "-o", str(trap / "out.edgekit")) == set()


def test_a_live_onnx_object_never_loads_a_framework(trap: Path) -> None:
    code = f"import edgekit as ek, onnx; ek.load(onnx.load({str(DIGITS_MODEL)!r}))"
    assert run(trap, "-c", code) == set()
