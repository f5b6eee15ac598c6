"""How far two arrays lie apart: the one measure by which outputs are compared."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def relative_error(got: Array, expected: Array) -> float:
    """The largest difference over the largest expected value."""
    return largest_difference(got, expected) / (largest_finite(expected) or 1.0)


def largest_difference(a: Array, b: Array) -> float:
    """The largest absolute difference; what is equal does not differ, infinities included.

    Places that are NaN in both are left out: a square root of noise has some. Where they
    are all that there is, nothing was compared, and the difference is infinite, as it is
    where only one of the two is NaN.
    """
    neither = np.isnan(a) & np.isnan(b)
    if neither.size and neither.all():
        return np.inf
    with np.errstate(invalid="ignore"):
        differences = np.where((a == b) | neither, 0.0, np.abs(a - b))
    largest = float(np.max(differences, initial=0.0))
    return np.inf if np.isnan(largest) else largest


def largest_finite(values: Array) -> float:
    """The largest finite absolute value; 0 where there is none."""
    return float(np.max(np.abs(values), initial=0.0, where=np.isfinite(values)))
