"""Rounding a layer's weights to few bits, each one's error made up for by those still to come.

Rows of the matrix are rounded one after another, those with the most energy at their input
first; what rounding a row changes in the layer's output is taken back, as far as the
inputs' covariance allows, by the rows that are left (Frantar, Ashkboos, Hoefler, Alistarh:
"GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers", ICLR
2023). What comes out lies on the grid already, so that the tool that stores it afterwards
has nothing left to round.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray
from scipy import linalg

from edgekit.compression.layers import Floats

_DAMPING = 0.01
"""Of the mean variance, on the covariance's diagonal: what no sample shows still counts."""

_AT_ONCE = 128
"""Rows whose errors are passed on together to those after them."""

_CLIPS = np.linspace(0.4, 0.93, 25)
"""Shares of the largest weight that the highest level may stand for.

Below 1 - 1/14, so that a weight beyond it takes the highest level of four bits or fewer
whatever is added to it by the way: then a tool that divides by the largest weight finds
this very scale.
"""

_ROUNDS = 60


class Levels(Struct, frozen=True):
    """Symmetric integers: a scale for each column, or each column and block of rows.

    Attributes:
        bits: of an integer; ``-(2**(bits-1) - 1)`` is the lowest.
        rows: that share a scale; ``None``: all.
    """

    bits: int
    rows: int | None = None


class Palette(Struct, frozen=True):
    """A table of ``2**bits`` values for the whole matrix."""

    bits: int


Grid = Levels | Palette

_Nearest = Callable[[int, Floats], Floats]
"""A row's index and its values -> the nearest values of the grid."""


def rounded(matrix: Floats, covariance: Floats, grid: Grid) -> Floats:
    """The matrix on the grid, so that ``x @ matrix`` changes little.

    Args:
        matrix: ``[inputs, outputs]``.
        covariance: of ``x``, ``[inputs, inputs]``; about zero where no bias can take a
            mean up.
        grid: which values there are; where its scales or its table lie follows from the
            matrix and the inputs' energy.
    """
    energy = np.diag(covariance)
    mean = energy.mean() + 1e-12
    importance = (energy + _DAMPING * mean)[:, None]
    nearest = _nearest(grid, matrix, importance)
    order = np.argsort(-energy, kind="stable")
    damped = covariance[np.ix_(order, order)] + _DAMPING * mean * np.eye(len(order))
    # Its row i says how those after i make up for an error in i.
    factor = linalg.cholesky(linalg.inv(damped))
    left = matrix[order].copy()
    made = np.empty_like(left)
    for start in range(0, len(left), _AT_ONCE):
        block = slice(start, min(start + _AT_ONCE, len(left)))
        errors = np.empty_like(left[block])
        for index in range(block.start, block.stop):
            made[index] = nearest(int(order[index]), left[index])
            error = (left[index] - made[index]) / factor[index, index]
            rest = slice(index + 1, block.stop)
            left[rest] -= np.outer(factor[index, rest], error)
            errors[index - start] = error
        left[block.stop :] -= factor[block, block.stop :].T @ errors
    back = np.empty_like(made)
    back[order] = made
    return back


def nearest(matrix: Floats, grid: Grid) -> Floats:
    """Each weight at its nearest value, as tools round that are given no data."""
    find = _nearest(grid, matrix, None)
    return np.array([find(index, row) for index, row in enumerate(matrix)], np.float64)


def _nearest(grid: Grid, matrix: Floats, importance: Floats | None) -> _Nearest:
    if isinstance(grid, Palette):
        table = _table(matrix, importance, 1 << grid.bits)
        return lambda _, values: np.asarray(table[_closest(table, values)])
    highest = (1 << (grid.bits - 1)) - 1
    rows = grid.rows or len(matrix)
    scales = [
        _scales(matrix[at : at + rows], _part(importance, at, rows), highest)
        for at in range(0, len(matrix), rows)
    ]

    def find(index: int, values: Floats) -> Floats:
        scale = scales[index // rows]
        return np.clip(np.round(values / scale), -highest, highest) * scale

    return find


def _closest(table: Floats, values: Floats) -> NDArray[np.intp]:
    return np.searchsorted((table[1:] + table[:-1]) / 2, values)


def _part(importance: Floats | None, at: int, rows: int) -> Floats | None:
    return None if importance is None else importance[at : at + rows]


def _scales(weights: Floats, importance: Floats | None, highest: int) -> Floats:
    """A scale for each column: the largest weight's, or the one with the least error."""
    top = np.max(np.abs(weights), axis=0) + 1e-12
    best = top / highest
    if importance is None:
        return best
    least = np.full(len(best), np.inf)
    for clip in _CLIPS:
        scale = clip * top / highest
        made = np.clip(np.round(weights / scale), -highest, highest) * scale
        error = np.sum(importance * (made - weights) ** 2, axis=0)
        best = np.where(error < least, scale, best)
        least = np.minimum(error, least)
    return best


def _table(matrix: Floats, importance: Floats | None, size: int) -> Floats:
    """The values with the least squared error: k-means in one dimension, weighted.

    (Lloyd: "Least Squares Quantization in PCM", 1982.) It starts where Panter and Dite's
    asymptotic density, the cube root of the weights', puts the values.
    """
    values = matrix.ravel()
    order = np.argsort(values, kind="stable")
    values = values[order]
    weights = (
        np.ones_like(values)
        if importance is None
        else np.broadcast_to(importance, matrix.shape).ravel()[order]
    )
    mass = np.cumsum(np.cbrt(weights))
    table: Floats = np.interp((np.arange(size) + 0.5) / size * mass[-1], mass, values)
    for _ in range(_ROUNDS):
        chosen = _closest(table, values)
        held = np.bincount(chosen, weights, size)
        sums = np.bincount(chosen, weights * values, size)
        moved = np.sort(np.where(held > 0, sums / np.maximum(held, 1e-300), table))
        if np.array_equal(moved, table):
            break
        table = moved
    return table
