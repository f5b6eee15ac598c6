"""Is one faster than another? The ratio of paired measurements, its interval, and a verdict.

Pure functions. A pair was measured back to back: whatever drifts is in both of its halves.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from functools import cache
from math import ceil, exp, log

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from edgekit.benchmarking.statistics import resampled_median

CONFIDENCE = 0.99
"""Of the interval that a verdict rests on; ``TOLERANCE`` comes on top."""

TOLERANCE = 0.01
"""Ratios this near to one are taken for no difference: nobody would act on less."""

FEWEST = 8
"""Pairs from which an interval of 99 % exists: ``2 * 0.5**8 < 0.01``."""

FEWEST_IN_TURNS = 5
"""Pairs of processes from which their own difference is known well enough."""

_MOST_MORE = 1000
_REPLICATES = 1000
_SEED = 20240229

Turns = Sequence[tuple[float, float]]
"""The first's and the second's latencies in neighbouring turns, in one unit."""

Floats = npt.NDArray[np.float64]


class Verdict(Enum):
    """How the second stands against the first."""

    FASTER = "faster"
    SLOWER = "slower"
    SAME = "same"
    INCONCLUSIVE = "inconclusive"


class Ratio(Struct, frozen=True, kw_only=True):
    """The second's latency over the first's.

    Attributes:
        low: of the 99 % interval; ``high`` likewise.
        pairs: how many it rests on.
        more_pairs: how many more would decide, at the spread seen; 0: it is decided;
            ``None``: more than a thousand.
    """

    value: float
    low: float
    high: float
    pairs: int
    verdict: Verdict
    more_pairs: int | None = 0


def compared(pairs: Sequence[tuple[float, float]]) -> Ratio:
    """The ratio of paired latencies and what it says.

    The estimate is the median of all pairwise means of the log ratios, its interval that of
    Wilcoxon's signed-rank test: no normal distribution is assumed, and an outlier does not
    decide (Hodges and Lehmann, "Estimates of location based on rank tests", Annals of
    Mathematical Statistics 34(2), 1963).

    Args:
        pairs: latencies above zero, of the first and of the second, in one unit; 8 pairs at
            least.
    """
    logs = np.array([log(second / first) for first, second in pairs])
    return _judged(*interval(logs), len(logs))


def in_turns(pairs: Sequence[Turns]) -> Ratio:
    """The ratio of what took turns, in pair after pair of processes.

    Each turn lasts some hundredths of a second, and beside it is one of the other's: what the
    device does for longer is in both, and falls out of their ratio. The estimate is the median of
    all these ratios: of a pair that was disturbed they lie far apart, and say little of where it
    is. Its interval is Student's, with the deviation from a bootstrap of two levels (Davison and
    Hinkley, "Bootstrap Methods and their Application", 1997, section 3.8): pairs are drawn with
    replacement, then turns within each, because those of one pair of processes resemble each
    other (memory layout). A longer pair narrows it no further than pairs differ.

    Args:
        pairs: 5 at least; in each one turn of each at least, latencies above zero.
    """
    from scipy.special import stdtrit

    logs = [np.log([second / first for first, second in turns]) for turns in pairs]
    random = np.random.default_rng(_SEED)
    value = float(np.median(np.concatenate(logs)))
    deviation = np.std([resampled_median(logs, random) for _ in range(_REPLICATES)])
    freedom = len(logs) - 1
    # As of any standard deviation: of so few, that of the sample is too small.
    half = deviation * (len(logs) / freedom) ** 0.5 * stdtrit(freedom, (1 + CONFIDENCE) / 2)
    return _judged(value, value - float(half), value + float(half), len(logs))


def _judged(value: float, low: float, high: float, pairs: int) -> Ratio:
    """What the logarithm of a ratio and its interval say."""
    verdict = _verdict(low, high)
    more: int | None = 0
    if verdict is Verdict.INCONCLUSIVE:
        more = _more(value, (high - low) / 2, pairs)
    return Ratio(
        value=exp(value),
        low=exp(low),
        high=exp(high),
        pairs=pairs,
        verdict=verdict,
        more_pairs=more,
    )


def interval(values: Floats, confidence: float = CONFIDENCE) -> tuple[float, float, float]:
    """Hodges-Lehmann estimate of the centre, and its interval, low and high."""
    one, other = np.triu_indices(len(values))
    means = np.sort((values[one] + values[other]) / 2)
    outside = _outside(len(values), (1 - confidence) / 2)
    return float(np.median(means)), float(means[outside]), float(means[-1 - outside])


def _outside(count: int, beyond: float) -> int:
    """How many of the pairwise means lie outside the interval, at each end.

    From the exact distribution of the signed-rank statistic: each rank is in it or not.
    """
    below = np.cumsum(_signed_ranks(count))
    return max(0, int(np.searchsorted(below, beyond, side="right")) - 1)


@cache
def _signed_ranks(count: int) -> Floats:
    """The probability of each value of the signed-rank statistic of ``count`` values."""
    chances = np.ones(1)
    for rank in range(1, count + 1):
        with_rank = np.concatenate([np.zeros(rank), chances])
        without = np.concatenate([chances, np.zeros(rank)])
        chances = (with_rank + without) / 2
    return chances


def _verdict(low: float, high: float) -> Verdict:
    faster, slower = log(1 - TOLERANCE), log(1 + TOLERANCE)
    if high < faster:
        return Verdict.FASTER
    if low > slower:
        return Verdict.SLOWER
    same = 2 * TOLERANCE
    return Verdict.SAME if -same < low and high < same else Verdict.INCONCLUSIVE


def _more(value: float, half: float, pairs: int) -> int | None:
    """Pairs that are missing: an interval narrows with the root of their number."""
    wanted = max(abs(value) - TOLERANCE, 2 * TOLERANCE - abs(value))
    more = ceil(pairs * (half / wanted) ** 2) - pairs
    return max(1, more) if more <= _MOST_MORE else None


class Unpaired(Struct, frozen=True, kw_only=True):
    """The second's latency over the first's; ``low`` to ``high`` is the 99 % interval."""

    value: float
    low: float
    high: float


def unpaired(first: Sequence[float], second: Sequence[float]) -> Unpaired | None:
    """The ratio of latencies that were not measured side by side.

    The estimate is the median of all ratios of one of the second to one of the first, its
    interval that of the Wilcoxon-Mann-Whitney test (Hodges and Lehmann 1963, as above). It knows
    of what differs from process to process; a drift between the two sessions it cannot see.

    Args:
        first: a latency above zero for each process, in one unit.
        second: the same of what is compared with it.

    Returns:
        ``None``: too few for an interval of 99 % (5 of each do, or 4 and 6).
    """
    differences = np.sort(np.subtract.outer(np.log(second), np.log(first)).ravel())
    below = np.cumsum(_rank_sums(len(first), len(second)))
    outside = int(np.searchsorted(below, (1 - CONFIDENCE) / 2, side="right")) - 1
    if outside < 0:
        return None
    low, high = differences[outside], differences[-1 - outside]
    return Unpaired(value=exp(np.median(differences)), low=exp(low), high=exp(high))


def _rank_sums(first: int, second: int) -> Floats:
    """The probability of each value of the Mann-Whitney statistic where nothing differs.

    The largest of all is of the one or of the other: Mann and Whitney's recursion ("On a Test of
    Whether one of Two Random Variables is Stochastically Larger than the Other", Annals of
    Mathematical Statistics 18(1), 1947).
    """
    chances = np.zeros((first + 1, second + 1, first * second + 1))
    chances[0, :, 0] = chances[:, 0, 0] = 1
    for m in range(1, first + 1):
        for n in range(1, second + 1):
            chances[m, n, n:] += m / (m + n) * chances[m - 1, n, : chances.shape[2] - n]
            chances[m, n] += n / (m + n) * chances[m, n - 1]
    made: Floats = chances[first, second]
    return made
