"""C and C++ in the tests: a compiler, and the runtimes' own shared libraries out of their wheels.

The wheels have no headers: ``tests/cpp/abi.h`` declares the few functions that are used.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.paths import ROOT

SOURCES = ROOT / "tests" / "cpp"
HEADERS = ROOT / "runtime_stubs" / "cpp" / "include"
STRICT = ("-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Werror")
_LITERT_HEADERS = ("common", "compiled_model", "environment", "environment_options", "model")
_LITERT_HEADERS += ("opaque_options", "options", "tensor_buffer")

needs_gcc = pytest.mark.skipif(
    not (shutil.which("gcc") and shutil.which("g++")), reason="there is no gcc and g++"
)
needs_cmake = pytest.mark.skipif(
    not (shutil.which("cmake") and shutil.which("make") and shutil.which("g++")),
    reason="there is no cmake, make and g++",
)


def run(*argv: object, **options: object) -> subprocess.CompletedProcess:
    """Run a program; what it said on standard error is in the failure."""
    done = subprocess.run([*map(str, argv)], capture_output=True, check=False, **options)
    assert done.returncode == 0, f"{argv[0]} ended with {done.returncode}: {done.stderr.decode()}"
    return done


def compiled(source: Path, program: Path, *flags: object) -> Path:
    """Compile one C++17 file against the wrapper's headers."""
    run("g++", "-std=c++17", "-pthread", "-I", HEADERS, *flags, source, "-o", program)
    return program


def runtimes(folder: Path) -> Path:
    """ONNX Runtime and LiteRT as an app's developer has them: ``include`` and ``lib``."""
    include, lib = folder / "include", folder / "lib"
    (include / "litert" / "c").mkdir(parents=True)
    lib.mkdir()
    shutil.copyfile(SOURCES / "abi.h", include / "abi.h")
    headers = [f"litert/c/litert_{name}.h" for name in _LITERT_HEADERS]
    for name in ("onnxruntime_c_api.h", *headers):
        (include / name).write_text("#include <abi.h>\n")
    (lib / "libLiteRt.so").symlink_to(_package("ai_edge_litert") / "libLiteRt.so")
    (onnxruntime,) = (_package("onnxruntime") / "capi").glob("libonnxruntime.so.*")
    for name in ("libonnxruntime.so", "libonnxruntime.so.1"):
        (lib / name).symlink_to(onnxruntime)
    return folder


def _package(name: str) -> Path:
    found = importlib.util.find_spec(name)
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent
