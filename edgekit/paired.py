"""How sure a difference is that two networks show on the same samples."""

from __future__ import annotations

from math import ceil, sqrt
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
_CONFIDENCE = 0.95

_TOO_MANY = 1000
"""Times the samples at hand."""


def interval(before: Array, after: Array) -> tuple[float, float]:
    """Between which values the mean of ``before - after`` lies, at 95 % confidence.

    For right and wrong, half a sample is added to each of the four cells of
    the table of agreement, which keeps the interval honest where few or none differ (Agresti,
    Min: "Simple improved confidence intervals for comparing matched proportions", Statistics
    in Medicine 24, 2005); for other scores it is Student's.

    Args:
        before: ``[samples]``, one score each.
        after: the same of the other network.
    """
    differences = np.asarray(before, np.float64) - np.asarray(after, np.float64)
    count = len(differences)
    if before.dtype == after.dtype == np.bool_:
        worse = float(np.sum(differences > 0)) + 0.5
        better = float(np.sum(differences < 0)) + 0.5
        total = count + 2.0
        mean = (worse - better) / total
        spread = sqrt((worse + better) / total - mean**2)
        reach = NormalDist().inv_cdf((1 + _CONFIDENCE) / 2) * spread / sqrt(total)
    elif count > 1:
        from scipy.special import stdtrit

        total, mean = float(count), float(differences.mean())
        spread = float(differences.std(ddof=1))
        reach = stdtrit(count - 1, (1 + _CONFIDENCE) / 2) * spread / sqrt(total)
    else:
        return -np.inf, np.inf
    return float(mean - reach), float(mean + reach)


def needed(found: tuple[float, float], limit: float, count: int) -> int | None:
    """About how many samples would tell on which side of ``limit`` the difference lies.

    ``None``: it lies so near that no number of samples helps.
    """
    low, high = found
    gap = abs(limit - (low + high) / 2)
    reach = (high - low) / 2
    times = (reach / gap) ** 2 if gap > 0 else np.inf
    return ceil(count * times) if times < _TOO_MANY else None
