"""Figures from raw samples: what was seen, how sure it is, and when it is too little to say.

Pure functions. Samples come in nanoseconds, one sequence per measuring process; figures
go out in milliseconds. No sample is ever dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec import Struct

UNSTABLE_ABOVE = 0.1
"""Standard deviation over mean."""

P99_MIN_SAMPLES = 368
_NS_PER_MS = 1e6
_CONFIDENCE = 0.95
_REPLICATES = 2000
_BOOTSTRAP_SAMPLES = 1000
_SEED = 20240229

Floats = npt.NDArray[np.float64]


class LatencyFigures(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A latency distribution at a glance, in milliseconds.

    Attributes:
        n: samples of all processes together.
        p99: ``None`` with fewer than 368 samples; ``p99_why`` then says so.
        mad: median absolute deviation from the median, not scaled.
        interval_p50: 95 % bootstrap interval of the median, low and high.
        unstable: another bench may well say something else; ``unstable_why`` says why.
    """

    n: int
    p50: float
    p90: float
    p99: float | None
    p99_why: str | None
    mean: float
    mad: float
    interval_p50: tuple[float, float]
    unstable: bool
    unstable_why: str | None


def figures(processes: Sequence[Sequence[int]], why_slow: str | None = None) -> LatencyFigures:
    """The figures of all samples together.

    Args:
        processes: nanoseconds, at least one sample in each of at least one process.
        why_slow: what else says that they are of a slow moment.
    """
    groups = [_milliseconds(samples) for samples in processes]
    samples = np.concatenate(groups)
    p99, p99_why = tail(samples)
    why = why_unstable(samples) or why_slow
    return LatencyFigures(
        n=samples.size,
        p50=percentile(samples, 50),
        p90=percentile(samples, 90),
        p99=p99,
        p99_why=p99_why,
        mean=float(samples.mean()),
        mad=float(np.median(np.abs(samples - np.median(samples)))),
        interval_p50=median_interval(groups),
        unstable=why is not None,
        unstable_why=why,
    )


def percentile(samples: npt.ArrayLike, percent: float) -> float:
    """A percentile by linear interpolation of the order statistics.

    Definition 7 of Hyndman and Fan, "Sample Quantiles in Statistical Packages" (The
    American Statistician 50, 1996), which is also the default of NumPy and R.
    """
    return float(np.percentile(np.asarray(samples, np.float64), percent, method="linear"))


def tail(samples: npt.ArrayLike) -> tuple[float | None, str | None]:
    """The 99th percentile, or why there is none.

    The distribution-free interval of a quantile reaches from one order statistic to
    another. Its upper end exists only when the largest of ``n`` samples lies above the
    true p99 with probability 0.975 at least: ``0.99**n <= 0.025``, which is ``n >= 368``.
    Below that, a "p99" is the maximum under another name, without any upper bound.
    """
    n = np.size(np.asarray(samples))
    if n < P99_MIN_SAMPLES:
        return None, f"{n} samples; the interval of a p99 exists from {P99_MIN_SAMPLES} on"
    return percentile(samples, 99), None


def median_interval(groups: Sequence[npt.ArrayLike], *, seed: int = _SEED) -> tuple[float, float]:
    """The 95 % bootstrap interval of the median of all groups together.

    Two levels: processes are drawn with replacement, then samples within each. Runs of
    one process resemble each other (memory layout, clock), so to resample all runs alike
    would claim a certainty that the next process does not keep. The same samples and
    seed give the same interval. Of a group with more than a thousand samples, a thousand
    of its quantiles stand for it; that can only widen the interval.
    """
    random = np.random.default_rng(seed)
    thinned = [_thinned(np.asarray(group, np.float64)) for group in groups]
    medians = [resampled_median(thinned, random) for _ in range(_REPLICATES)]
    beyond = (1 - _CONFIDENCE) / 2
    low, high = np.quantile(medians, [beyond, 1 - beyond])
    return float(low), float(high)


def why_unstable(samples: npt.ArrayLike) -> str | None:
    """What is to be said once the standard deviation passes 10 % of the mean."""
    values = np.asarray(samples, np.float64)
    if values.std() <= UNSTABLE_ABOVE * values.mean():
        return None
    return f"the standard deviation passes {100 * UNSTABLE_ABOVE:.0f} % of the mean"


def resampled_median(groups: Sequence[Floats], random: np.random.Generator) -> float:
    """The median of groups drawn with replacement, and of values drawn so within each."""
    drawn = [groups[index] for index in random.integers(len(groups), size=len(groups))]
    resampled = [group[random.integers(group.size, size=group.size)] for group in drawn]
    return float(np.median(np.concatenate(resampled)))


def _thinned(group: Floats) -> Floats:
    if group.size <= _BOOTSTRAP_SAMPLES:
        return group
    middles = (np.arange(_BOOTSTRAP_SAMPLES) + 0.5) / _BOOTSTRAP_SAMPLES
    thinned: Floats = np.quantile(group, middles)
    return thinned


def _milliseconds(samples: Sequence[int]) -> npt.NDArray[Any]:
    return np.asarray(samples, np.float64) / _NS_PER_MS
