"""Gathering and scattering, against loops over every element."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgekit import mil
from edgekit.errors import ToolError
from tests.mil.programs import Case, cases, check, floats, mb, saved

X = floats(3, 4, 5)
AT = np.int32([[0, 2], [1, 0]])
ALONG = np.int32([[[1, 0, 3, 2, 1]] * 2] * 3)
POINTS = np.int32([[0, 1], [2, 3], [0, 1]])
UPDATES = floats(3, 5, seed=1)
TWICE = np.int32([2, 0, 2])
MODES = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "max": max,
    "min": min,
    "update": lambda a, b: b,
}


def _scattered(mode):
    """Along axis 0 of the data, element by element, in order."""
    out = X.astype(np.float64)
    updates = floats(3, 4, 5, seed=2)
    for step, place in enumerate(TWICE):
        for i, j in np.ndindex(4, 5):
            out[place, i, j] = MODES[mode](out[place, i, j], np.float64(updates[step, i, j]))
    return out


def _scattered_nd(mode):
    out = X.astype(np.float64)
    for update, (i, j) in zip(UPDATES, POINTS, strict=True):
        for k in range(5):
            out[i, j, k] = MODES[mode](out[i, j, k], np.float64(update[k]))
    return out


def _scattered_along():
    out = X.astype(np.float64)
    updates = floats(3, 2, 5, seed=3)
    for i, j, k in np.ndindex(3, 2, 5):
        out[i, ALONG[i, j, k], k] += updates[i, j, k]
    return out


def _gather(axis, indices=AT, **how):
    return lambda x, i: mb.gather(x=x, indices=i, axis=axis, **how), {"x": X, "i": indices}


ROWS = [
    Case("gather", *_gather(1), np.stack([X[:, [0, 2]], X[:, [1, 0]]], 1)),
    Case("gather-negative", *_gather(-1, np.int32([-1, 0])), X[..., [-1, 0]]),
    Case("gather-checked", *_gather(2, np.int32([4, 0])), X[..., [4, 0]], "iOS17"),
    Case("gather-scalar", lambda x: mb.gather(x=x, indices=1, axis=1), {"x": X}, X[:, 1]),
    Case(
        "gather-batch",
        lambda x, i: mb.gather(x=x, indices=i, axis=1, batch_dims=1),
        {"x": X, "i": np.int32([[0, 1], [3, 3], [2, 0]])},
        np.stack([X[0, [0, 1]], X[1, [3, 3]], X[2, [2, 0]]]),
    ),
    Case(
        "gather_along_axis",
        lambda x, i: mb.gather_along_axis(x=x, indices=i, axis=1),
        {"x": X, "i": ALONG},
        np.array([X[i, ALONG[i, j, k], k] for i, j, k in np.ndindex(3, 2, 5)]).reshape(3, 2, 5),
    ),
    Case(
        "gather_nd",
        lambda x, i: mb.gather_nd(x=x, indices=i),
        {"x": X, "i": POINTS},
        np.stack([X[i, j] for i, j in POINTS]),
    ),
    Case(
        "gather_nd-batch",
        lambda x, i: mb.gather_nd(x=x, indices=i, batch_dims=1),
        {"x": X, "i": np.int32([[[3, 4]], [[0, 1]], [[2, 2]]])},
        np.array([[X[0, 3, 4]], [X[1, 0, 1]], [X[2, 2, 2]]]),
    ),
    Case(
        "scatter_along_axis",
        lambda x, i, u: mb.scatter_along_axis(data=x, indices=i, updates=u, axis=1, mode="add"),
        {"x": X, "i": ALONG, "u": floats(3, 2, 5, seed=3)},
        _scattered_along(),
    ),
    *(
        Case(
            f"scatter-{mode}",
            lambda x, i, u, mode=mode: mb.scatter(data=x, indices=i, updates=u, axis=0, mode=mode),
            {"x": X, "i": TWICE, "u": floats(3, 4, 5, seed=2)},
            _scattered(mode),
            tolerance=1e-4,
        )
        for mode in MODES
    ),
    *(
        Case(
            f"scatter_nd-{mode}",
            lambda x, i, u, mode=mode: mb.scatter_nd(data=x, indices=i, updates=u, mode=mode),
            {"x": X, "i": POINTS, "u": UPDATES},
            _scattered_nd(mode),
            tolerance=1e-4,
        )
        for mode in MODES
    ),
]


@cases(*ROWS)
def test_it_takes_and_puts_the_right_elements(case: Case, tmp_path: Path) -> None:
    check(case, tmp_path)


@pytest.mark.parametrize(("target", "index"), [("iOS16", 4), ("iOS16", -5), ("iOS17", -1)])
def test_an_index_outside_is_refused(tmp_path: Path, target: str, index: int) -> None:
    build, inputs = _gather(1, np.int32([index]))
    program = mil.load(saved(tmp_path, build, inputs, target))
    with pytest.raises(ToolError, match=r"gather .gather_0..*lies outside"):
        mil.evaluate(program, inputs)
