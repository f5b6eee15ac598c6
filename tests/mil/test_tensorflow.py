"""Packages that edgekit did not make: coremltools' conversion of TensorFlow networks.

``tensorflow/make.py`` made them, with the outputs that TensorFlow gives.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgekit import mil

pytest.importorskip("coremltools")

_MADE = Path(__file__).parent / "tensorflow"
# The first computes in float16, and TensorFlow did not.
NETWORKS = {"vision": 2e-3, "sequence": 1e-5, "recurrent": 1e-5}


@pytest.mark.parametrize("name", NETWORKS)
def test_it_gives_what_tensorflow_gives(name: str) -> None:
    program = mil.load(_MADE / f"{name}.mlpackage")
    assert mil.unsupported(program) == ()
    with np.load(_MADE / f"{name}.npz") as arrays:
        given = dict(arrays)
    inputs = {key.removeprefix("input_"): given[key] for key in given if key.startswith("input_")}
    results = mil.evaluate(program, inputs)
    assert {f"output_{key}" for key in results} == given.keys() - {f"input_{key}" for key in inputs}
    for key, result in results.items():
        expected = given[f"output_{key}"]
        assert result.shape == expected.shape
        error = np.abs(result.astype(np.float64) - expected).max() / np.abs(expected).max()
        assert error <= NETWORKS[name]
