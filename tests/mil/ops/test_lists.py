"""Loops, branches and the lists they write."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgekit import mil
from edgekit.errors import ToolError
from tests.mil.programs import Case, check, floats, mb, saved

X = floats(4, 3)


def _running_sum(x):
    """A loop that writes the sums of the first rows into a list, then puts them together."""
    made = mb.make_list(init_length=4, elem_shape=(3,), dtype="fp32")

    def go_on(i, total, sums):
        return mb.less(x=i, y=4)

    def step(i, total, sums):
        total = mb.add(x=total, y=mb.gather(x=x, indices=i, axis=0))
        return mb.add(x=i, y=1), total, mb.list_write(ls=sums, index=i, value=total)

    zeros = np.zeros(3, np.float32)
    _, total, sums = mb.while_loop(_cond=go_on, _body=step, loop_vars=(0, zeros, made))
    gathered = mb.list_gather(ls=sums, indices=[3, 0, 1])
    return gathered, total, mb.list_read(ls=sums, index=2), mb.list_length(ls=sums)


def test_a_loop_writes_a_list(tmp_path: Path) -> None:
    sums = X.cumsum(0)
    expected = (sums[[3, 0, 1]], sums[3], sums[2], np.int32(4))
    check(Case("loop", _running_sum, {"x": X}, expected), tmp_path)


def test_a_list_is_scattered(tmp_path: Path) -> None:
    def build(x):
        made = mb.make_list(init_length=4, elem_shape=(3,), dtype="fp32")
        written = mb.list_scatter(ls=made, indices=[2, 0, 3, 1], value=x)
        return mb.list_gather(ls=written, indices=[0, 1, 2, 3])

    check(Case("scatter", build, {"x": X}, X[[1, 3, 0, 2]]), tmp_path)


@pytest.mark.parametrize("value", [-1, 1])
def test_a_branch_is_chosen(tmp_path: Path, value: int) -> None:
    def build(x, i):
        positive = mb.greater(x=mb.squeeze(x=i), y=0)
        return mb.cond(
            pred=positive, _true_fn=lambda: mb.add(x=x, y=x), _false_fn=lambda: mb.sub(x=x, y=1.0)
        )

    expected = X + X if value > 0 else X - 1
    case = Case("branch", build, {"x": X, "i": np.int32([value])}, expected)
    check(case, tmp_path)


def test_a_loop_without_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgekit.mil.evaluator._MAX_ITERATIONS", 50)

    def build(x):
        return mb.while_loop(
            _cond=lambda v: mb.less(x=mb.reduce_sum(x=v), y=1e9),
            _body=lambda v: mb.mul(x=v, y=0.5),
            loop_vars=(x,),
        )

    program = mil.load(saved(tmp_path, build, {"x": X}))
    with pytest.raises(ToolError, match="loops more than 50 times"):
        mil.evaluate(program, {"x": X})
