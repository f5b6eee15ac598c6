"""Rounding one matrix: on the grid, and nearer in what it computes than rounding to nearest."""

from __future__ import annotations

import numpy as np
import pytest

from edgekit.compression import rounding
from edgekit.compression.rounding import Floats, Grid, Levels, Palette

GRIDS = (Levels(4), Levels(3), Levels(4, rows=8), Palette(4), Palette(2))


def problem(inputs: int, outputs: int, seed: int = 0) -> tuple[Floats, Floats]:
    """A matrix, and the covariance of inputs that have much in common."""
    rng = np.random.default_rng(seed)
    matrix = rng.standard_normal((inputs, outputs))
    shared = rng.standard_normal((500, inputs // 4)) @ rng.standard_normal((inputs // 4, inputs))
    rows = shared + 0.3 * rng.standard_normal((500, inputs))
    return matrix, rows.T @ rows / len(rows)


def lost(made: Floats, matrix: Floats, covariance: Floats) -> float:
    """The mean square of what changed in the outputs."""
    return float(np.trace((made - matrix).T @ covariance @ (made - matrix)))


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("seed", range(3))
def test_less_is_lost_than_by_rounding_to_nearest(grid: Grid, seed: int) -> None:
    matrix, covariance = problem(32, 12, seed)
    made = rounding.rounded(matrix, covariance, grid)
    naive = rounding.nearest(matrix, grid)
    assert lost(made, matrix, covariance) < 0.5 * lost(naive, matrix, covariance)


@pytest.mark.parametrize("rows", [None, 8])
def test_integers_share_a_scale_that_a_tool_finds_again(rows: int | None) -> None:
    """It divides by the largest weight; what it rounds then is what was meant."""
    matrix, covariance = problem(32, 12)
    grid = Levels(4, rows)
    made = rounding.rounded(matrix, covariance, grid)
    for block in np.split(made, 32 // (rows or 32)):
        levels = 7 * block / np.abs(block).max(axis=0)
        assert np.allclose(levels, np.round(levels), atol=1e-9)
    assert np.allclose(rounding.nearest(made, grid), made, atol=1e-12)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_a_palette_has_no_more_values_than_its_table(bits: int) -> None:
    made = rounding.rounded(*problem(32, 12), Palette(bits))
    assert len(np.unique(made)) <= 1 << bits


@pytest.mark.parametrize("grid", [Levels(4), Levels(4, rows=50), Palette(4)])
def test_passing_errors_on_in_blocks_changes_nothing(
    grid: Grid, monkeypatch: pytest.MonkeyPatch
) -> None:
    matrix, covariance = problem(200, 5)
    at_once = rounding.rounded(matrix, covariance, grid)
    monkeypatch.setattr(rounding, "_AT_ONCE", 1)
    assert np.allclose(rounding.rounded(matrix, covariance, grid), at_once)


def test_inputs_with_nothing_in_common_make_up_for_nothing() -> None:
    """What is left is choosing the scales."""
    matrix, _ = problem(16, 6)
    made = rounding.rounded(matrix, np.eye(16), Levels(4))
    scale = np.abs(made).max(axis=0) / 7
    expected = np.clip(np.round(matrix / scale), -7, 7) * scale
    assert np.allclose(made, expected)


@pytest.mark.parametrize("grid", GRIDS)
def test_what_is_never_seen_is_rounded_to_nearest(grid: Grid) -> None:
    """Inputs that are always zero, and weights that are: nothing is divided by."""
    matrix, covariance = problem(16, 6)
    covariance[3] = covariance[:, 3] = 0
    matrix[:, 2] = 0
    made = rounding.rounded(matrix, covariance, grid)
    assert np.isfinite(made).all()
    if isinstance(grid, Levels):
        assert not made[:, 2].any()
    silent = rounding.rounded(matrix, np.zeros_like(covariance), grid)
    assert np.abs(silent - matrix).max() < 3
    assert np.isfinite(silent).all()
