"""``import edgekit`` and ``--help`` load nothing heavy."""

from __future__ import annotations

import subprocess
import sys

import pytest

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


def test_the_onnx_path_never_loads_tensorflow_or_torch() -> None:
    code = "import edgekit.api, edgekit.trials, edgekit.formats.onnxruntime_quantizer"
    assert not loaded(code) & {"tensorflow", "torch", "keras"}
