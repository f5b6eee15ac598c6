"""The C++ wrapper's headers: run under the sanitizers, and compared with what Python computes."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

import numpy as np
import pytest

from edgekit.domain import AffineQuantization, TensorBinding, TensorSpec
from edgekit.formats import binding
from tests.native import HEADERS, SOURCES, STRICT, compiled, needs_gcc, run

pytestmark = [needs_gcc, pytest.mark.xdist_group("cpp")]
UNITS = SOURCES / "units.cpp"
TESTS = re.findall(r'^    \{"(\w+)", \w+\},$', UNITS.read_text(), re.MULTILINE)
# In the order of edgekit::Type.
TYPES = ("float16", "float32", "float64", "int8", "int16", "int32", "int64")
TYPES += ("uint8", "uint16", "uint32", "uint64", "bool")
# The reference counts of exceptions are in libstdc++, which was not built for the sanitizer.
QUIET = "race:std::__exception_ptr::exception_ptr::_M_release\n"


def built(folder: Path, sanitizer: str) -> Path:
    (folder / "quiet").write_text(QUIET)
    flags = (*STRICT, "-Wconversion", f"-fsanitize={sanitizer}", "-fno-sanitize-recover=all")
    return compiled(UNITS, folder / "units", *flags)


@pytest.fixture(scope="module")
def units(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory.mktemp("units"), "address,undefined")


@pytest.fixture(scope="module")
def racing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For races between threads, which no other sanitizer can be combined with."""
    return built(tmp_path_factory.mktemp("racing"), "thread")


def test_every_test_is_run(units: Path) -> None:
    assert sorted(TESTS) == run(units, "list").stdout.decode().split()


@pytest.mark.parametrize("name", TESTS)
@pytest.mark.parametrize("build", ["units", "racing"])
def test_in_cpp(request: pytest.FixtureRequest, build: str, name: str) -> None:
    sanitized = request.getfixturevalue(build)
    suppressions = f"suppressions={sanitized.parent / 'quiet'}"
    run(sanitized, name, env={**os.environ, "TSAN_OPTIONS": suppressions}, timeout=120)


@pytest.mark.parametrize("header", sorted(HEADERS.rglob("*.hpp")), ids=lambda path: path.name)
def test_a_header_is_short(header: Path) -> None:
    assert len(header.read_text().splitlines()) <= 250


def test_digests_are_sha256(units: Path) -> None:
    """For every length around the blocks of 64 bytes, where the padding differs."""
    content = bytes(range(200))
    expected = [hashlib.sha256(content[:size]).hexdigest() for size in range(len(content) + 1)]
    assert run(units, "sha256", input=content).stdout.decode().split() == expected


def converted(units: Path, values: np.ndarray, bound: TensorBinding) -> tuple[np.ndarray, ...]:
    """What the artifact stores, and what the source has again, by the C++ wrapper."""
    spec, affine = bound.artifact, bound.quantization
    shape, permutation = (" ".join(map(str, each)) for each in (spec.shape, bound.permutation))
    words = [TYPES.index(spec.dtype), shape, permutation]
    words += [f"{affine.scale:.9g}", affine.zero_point] if affine else []
    told = run(units, "convert", *words, input=values.astype(np.float32).tobytes()).stdout
    size = np.dtype(spec.dtype).itemsize * spec.elements
    stored = np.frombuffer(told[:size], spec.dtype).reshape(spec.shape)
    return stored, np.frombuffer(told[size:], np.float32).reshape(bound.source.shape)


def bound(shape: tuple[int, ...], permutation: tuple[int, ...], dtype: str, **more: object):
    moved = tuple(shape[axis] for axis in permutation)
    return TensorBinding(
        source=TensorSpec("x", shape, "float32"),
        artifact=TensorSpec("x", moved, dtype),
        permutation=permutation,
        **more,
    )


@pytest.mark.parametrize(
    ("shape", "permutation"),
    [
        ((), ()),
        ((7,), (0,)),
        ((2, 3), (1, 0)),
        ((1, 3, 4, 5), (0, 2, 3, 1)),
        ((1, 4, 5, 3), (0, 3, 1, 2)),
        ((2, 3, 4, 2, 2), (4, 1, 0, 3, 2)),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_axes_are_reordered_as_python_does(
    units: Path, shape: tuple[int, ...], permutation: tuple[int, ...], dtype: str
) -> None:
    values = np.random.default_rng(0).normal(0, 2, shape).astype(np.float32)
    affine = AffineQuantization(0.0371, -5) if dtype == "int8" else None
    how = bound(shape, permutation, dtype, quantization=affine)
    stored, back = converted(units, values, how)
    np.testing.assert_array_equal(stored, binding.to_artifact(values, how))
    np.testing.assert_array_equal(back, binding.to_source(stored, how))


@pytest.mark.parametrize(
    ("dtype", "zero_point"), [("int8", 3), ("uint8", 128), ("int16", 0), ("int32", 0)]
)
def test_values_are_rounded_as_python_does(units: Path, dtype: str, zero_point: int) -> None:
    """Halves to the even step, beyond the range to its end."""
    steps = np.arange(-700, 700, dtype=np.float32) * np.float32(0.25)
    values = np.concatenate([steps, np.float32([1e9, -1e9])]) * np.float32(0.5)
    if dtype == "int32":
        values = values[:-2]  # NumPy's own conversion is not defined there
    how = bound(
        values.shape, (0,), dtype, quantization=AffineQuantization(scale=0.5, zero_point=zero_point)
    )
    stored, back = converted(units, values, how)
    np.testing.assert_array_equal(stored, binding.to_artifact(values, how))
    np.testing.assert_array_equal(back, binding.to_source(stored, how))


def test_every_half_is_numpy_s(units: Path) -> None:
    every = np.arange(2**16, dtype=np.uint16).view(np.float16)
    every = every[np.isfinite(every)].astype(np.float32)
    between = (every[:-1] + every[1:]) / 2
    edges = np.float32([np.inf, -np.inf, 65519.99, 65520, 1e9, 2**-25, 2**-25 * 1.01, 1e-30])
    values = np.concatenate([every, between, np.nextafter(between, np.float32(np.inf)), edges])
    how = bound(values.shape, (0,), "float16")
    stored, back = converted(units, values, how)
    with np.errstate(over="ignore"):
        expected = values.astype(np.float16)
    np.testing.assert_array_equal(stored.view(np.uint16), expected.view(np.uint16))
    np.testing.assert_array_equal(back, expected.astype(np.float32))


@pytest.mark.parametrize("dtype", [name for name in TYPES if not name.startswith("float")])
def test_integers_stay_what_they_are(units: Path, dtype: str) -> None:
    values = np.float32([0, 1] if dtype == "bool" else [0, 1, 7, 100])
    how = bound(values.shape, (0,), dtype)
    stored, back = converted(units, values, how)
    np.testing.assert_array_equal(stored, values.astype(dtype))
    np.testing.assert_array_equal(back, values)
