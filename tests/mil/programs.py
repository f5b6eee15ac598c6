"""Programs written with coremltools' builder and saved as packages, as anyone would make them."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec import Struct

from edgekit import mil

ct = pytest.importorskip("coremltools")
_mil = pytest.importorskip("coremltools.converters.mil.mil")
mb, types = _mil.Builder, _mil.types

logging.getLogger("coremltools").setLevel(logging.ERROR)
# Every conversion collects garbage: it need not look through what was imported.
gc.freeze()

_DTYPES = {
    "float16": types.fp16,
    "float32": types.fp32,
    "int32": types.int32,
    "bool": types.bool,
}


def saved(
    folder: Path,
    build: Callable[..., Any],
    feeds: Mapping[str, Any],
    target: str = "iOS16",
    axes: Mapping[str, tuple[Any, ...]] | None = None,
    **how: Any,
) -> Path:
    """Save what ``build`` makes of feeds like these; nothing is folded or rewritten.

    Args:
        axes: shapes of inputs that are not those of their feeds: with symbols.
        how: for ``coremltools.convert``.
    """
    options = {
        "convert_to": "mlprogram",
        "minimum_deployment_target": getattr(ct.target, target),
        "pass_pipeline": ct.PassPipeline.EMPTY,
        "compute_precision": ct.precision.FLOAT32,
        "skip_model_load": True,
    }
    model = ct.convert(built(build, feeds, target, axes or {}), **(options | how))
    path = folder / "program.mlpackage"
    model.save(str(path))
    return path


def built(
    build: Callable[..., Any],
    inputs: Mapping[str, Any],
    target: str,
    axes: Mapping[str, tuple[Any, ...]],
) -> Any:
    """The builder's program; it names the inputs after the parameters of a function."""
    specs = [
        mb.TensorSpec(shape=axes.get(name, value.shape), dtype=_DTYPES[value.dtype.name])
        for name, value in inputs.items()
    ]
    arguments = ", ".join(inputs)
    function = eval(f"lambda {arguments}: build({arguments})", {"build": build})
    return mb.program(input_specs=specs, opset_version=getattr(ct.target, target))(function)


def model_file(package: Path) -> Path:
    (found,) = package.rglob("*.mlmodel")
    return found


def edited(package: Path, change: Callable[[Any], None]) -> Path:
    """The package, its model changed in place."""
    path = model_file(package)
    model = ct.proto.Model_pb2.Model.FromString(path.read_bytes())
    change(model)
    path.write_bytes(model.SerializeToString())
    return package


class Case(Struct, frozen=True):
    """An operation on some inputs, and what it should give: one array, or a tuple of several."""

    name: str
    build: Callable[..., Any]
    inputs: Mapping[str, Any]
    expected: Any
    target: str = "iOS16"
    tolerance: float = 1e-5


def cases(*rows: Case) -> Any:
    return pytest.mark.parametrize("case", rows, ids=[row.name for row in rows])


def check(case: Case, folder: Path) -> None:
    """The evaluator gives what is expected of the case, in types and values."""
    program = mil.load(saved(folder, case.build, case.inputs, case.target))
    results = list(mil.evaluate(program, case.inputs).values())
    expected = case.expected if isinstance(case.expected, tuple) else (case.expected,)
    assert len(results) == len(expected)
    for result, wanted in zip(results, expected, strict=True):
        np.testing.assert_allclose(result, wanted, case.tolerance, case.tolerance, strict=False)
        assert result.shape == np.shape(wanted)


def folded(case: Case) -> list[np.ndarray] | None:
    """What coremltools itself computes where every input is a constant; ``None``: nothing."""
    with _mil.Function({}, opset_version=getattr(ct.target, case.target)):
        # A copy: folding thresholded_relu writes into its input.
        made = case.build(*(value.copy() for value in case.inputs.values()))
    values = [each.val for each in (made if isinstance(made, tuple | list) else [made])]
    return None if any(value is None for value in values) else values


def floats(*shape: int, seed: int = 0, low: float = -2, high: float = 2) -> np.ndarray:
    return np.random.default_rng(seed).uniform(low, high, shape).astype(np.float32)


def ints(*shape: int, low: int = -5, high: int = 6, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(low, high, shape).astype(np.int32)
