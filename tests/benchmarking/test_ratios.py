"""Verdicts: equal is never called different, five percent are found, an outlier decides nothing."""

from math import exp

import numpy as np
import pytest
from scipy import stats

from edgekit.benchmarking import ratios
from edgekit.benchmarking.ratios import FEWEST, Verdict, _signed_ranks, compared, in_turns, interval


def pairs(ratio, count=16, noise=0.03, seed=0):
    random = np.random.default_rng(seed)
    drift = np.cumsum(random.normal(0, 0.05, count))
    first, second = (random.normal(0, noise, count) for _ in range(2))
    return [(exp(d + a), exp(d + b) * ratio) for d, a, b in zip(drift, first, second, strict=True)]


def test_equal_is_never_called_different():
    verdicts = {compared(pairs(1.0, seed=seed)).verdict for seed in range(300)}
    assert verdicts <= {Verdict.SAME, Verdict.INCONCLUSIVE}


@pytest.mark.parametrize(("ratio", "verdict"), [(1.05, Verdict.SLOWER), (0.95, Verdict.FASTER)])
def test_five_percent_are_found(ratio, verdict):
    found = [compared(pairs(ratio, noise=0.015, seed=seed)).verdict for seed in range(100)]
    assert found.count(verdict) >= 95
    assert set(found) <= {verdict, Verdict.INCONCLUSIVE}


def test_the_interval_holds_the_truth_as_often_as_it_says():
    random = np.random.default_rng(1)
    held = 0
    for _ in range(1000):
        low, high = interval(random.standard_t(3, 12))[1:]
        held += low <= 0 <= high
    assert held >= 980


def test_an_outlier_decides_nothing():
    calm = pairs(1.0, noise=0.002)
    disturbed = [*calm[:-1], (1.0, 50.0)]
    assert compared(disturbed).verdict is Verdict.SAME
    assert compared(disturbed).value == pytest.approx(compared(calm).value, rel=0.01)


def test_what_is_missing_is_said():
    open_ = compared(pairs(1.03, noise=0.05))
    assert open_.verdict is Verdict.INCONCLUSIVE
    assert open_.low < 1.03 < open_.high
    more = open_
    while more.more_pairs:
        more = compared(pairs(1.03, count=more.pairs + more.more_pairs, noise=0.05))
    assert more.verdict is Verdict.SLOWER
    assert more.pairs < 500
    hopeless = compared([(1.0, exp(0.015 + side * 0.3)) for side in (-1, 1) * 8])
    assert hopeless.verdict is Verdict.INCONCLUSIVE
    assert hopeless.more_pairs is None


def test_the_distribution_is_the_signed_rank_statistics():
    """scipy counts the same: of 10 values the lower 0.5 % end at 3 (Wilcoxon's table)."""
    chances = _signed_ranks(10)
    assert chances.sum() == pytest.approx(1)
    assert np.cumsum(chances)[3] <= 0.005 < np.cumsum(chances)[4]
    values = np.random.default_rng(2).normal(0.3, 1, 10)
    tested = stats.wilcoxon(values, method="exact", alternative="greater")
    assert np.cumsum(chances[::-1])[55 - int(tested.statistic)] == pytest.approx(tested.pvalue)


def test_the_fewest_pairs_have_an_interval():
    low, high = interval(np.arange(FEWEST, dtype=float))[1:]
    assert (low, high) == (0, FEWEST - 1)


def turns(ratio, *, count=10, length=100, apart=0.01, noise=0.3, calm=0.5, seed=0):
    """Pairs of processes as on a busy machine: some turns are calm, the others far off.

    Processes differ by ``apart``, whatever is measured in them.
    """
    random = np.random.default_rng(seed)
    pairs = []
    for of_pair in random.normal(0, apart, count):
        spread = np.where(random.random(length) < calm, 0.02, noise)
        logs = of_pair + random.normal(0, 1, length) * spread
        drift = np.exp(np.cumsum(random.normal(0, 0.1, length)))
        pairs.append([(d, d * ratio * exp(one)) for d, one in zip(drift, logs, strict=True)])
    return pairs


def test_equal_in_turns_is_never_called_different():
    verdicts = {in_turns(turns(1.0, seed=seed)).verdict for seed in range(20)}
    assert verdicts <= {Verdict.SAME, Verdict.INCONCLUSIVE}


@pytest.mark.parametrize(("ratio", "verdict"), [(1.05, Verdict.SLOWER), (0.95, Verdict.FASTER)])
def test_five_percent_are_found_in_turns(ratio, verdict):
    found = [in_turns(turns(ratio, seed=seed)).verdict for seed in range(10)]
    assert found.count(verdict) >= 9
    assert set(found) <= {verdict, Verdict.INCONCLUSIVE}


@pytest.mark.parametrize("apart", [0.0, 0.05])
def test_the_interval_of_turns_holds_the_truth(apart):
    """Also where processes differ by more than turns do: those of one pair count as one then."""
    found = [in_turns(turns(1.0, count=6, length=10, apart=apart, seed=s)) for s in range(60)]
    assert sum(not one.low <= 1 <= one.high for one in found) <= 2


def test_a_pair_that_was_disturbed_all_the_time_decides_nothing():
    calm = turns(1.0, noise=0.02)
    disturbed = [*calm[:-1], turns(3.0, calm=0, noise=1.0)[-1]]
    assert in_turns(disturbed).value == pytest.approx(in_turns(calm).value, rel=0.01)
    assert in_turns(disturbed).verdict is Verdict.SAME


def test_what_is_missing_in_turns_is_said():
    open_ = in_turns(turns(1.03, count=5, length=20))
    assert open_.verdict is Verdict.INCONCLUSIVE
    assert open_.pairs == 5
    assert open_.more_pairs
    assert in_turns(turns(1.03, count=3 * open_.more_pairs, length=20)).verdict is Verdict.SLOWER


def test_unpaired_of_a_known_ratio() -> None:
    first, second = [1.0, 1.1, 1.2, 1.3, 1.4], [2.0, 2.2, 2.4, 2.6, 2.8]
    found = ratios.unpaired(first, second)
    assert found is not None
    assert found.value == pytest.approx(2)
    assert (found.low, found.high) == pytest.approx((2.0 / 1.4, 2.8))


def test_unpaired_needs_enough_for_99_percent() -> None:
    """Of 10 processes in random order the 5 first are the fastest once in 252 times."""
    assert ratios.unpaired([1.0] * 4, [2.0] * 5) is None
    assert ratios.unpaired([1.0] * 5, [2.0] * 5) is not None


def test_unpaired_covers_the_truth_in_99_of_100() -> None:
    random = np.random.default_rng(0)
    drawn = np.exp(random.normal(0, 0.1, (1000, 2, 8)))
    intervals = [ratios.unpaired(first, second) for first, second in drawn]
    missed = sum(not (found and found.low <= 1 <= found.high) for found in intervals)
    assert 0 < missed <= 10 + 3 * 10**0.5


def test_the_rank_sums_are_those_of_scipy() -> None:
    first, second = [1.0, 4.0, 6.0, 7.0], [2.0, 3.0, 5.0, 8.0, 9.0, 10.0]
    told = stats.mannwhitneyu(first, second, method="exact", alternative="less")
    below = np.cumsum(ratios._rank_sums(len(first), len(second)))
    assert below[int(told.statistic)] == pytest.approx(told.pvalue)
