"""Figures: what holds for any samples, and what is not said about too few."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.benchmarking import figures
from edgekit.benchmarking.statistics import P99_MIN_SAMPLES, median_interval, tail, why_unstable

NANOSECONDS = st.integers(1, 10**12)
PROCESSES = st.lists(
    st.lists(NANOSECONDS, min_size=1, max_size=30).map(tuple), min_size=1, max_size=5
)
# Each example draws two thousand resamples.
FEW = settings(max_examples=25, deadline=None)


@FEW
@given(PROCESSES)
def test_figures_are_in_order_and_within_the_samples(processes: list[tuple[int, ...]]) -> None:
    found = figures(processes)
    samples = [sample / 1e6 for process in processes for sample in process]
    slack = 1 + 1e-9
    assert found.n == len(samples)
    assert min(samples) <= found.p50 * slack
    assert found.p50 <= found.p90 * slack
    assert found.p90 <= max(samples) * slack
    assert min(samples) <= found.mean * slack
    assert found.mean <= max(samples) * slack
    assert 0 <= found.mad <= max(samples)
    low, high = found.interval_p50
    assert min(samples) <= low * slack
    assert low <= high <= max(samples) * slack


@FEW
@given(PROCESSES, st.integers(2, 9))
def test_figures_scale_with_the_samples(processes: list[tuple[int, ...]], factor: int) -> None:
    slower = [tuple(sample * factor for sample in process) for process in processes]
    found, scaled = figures(processes), figures(slower)
    assert scaled.p50 == pytest.approx(found.p50 * factor)
    assert scaled.mad == pytest.approx(found.mad * factor, abs=1e-9)
    assert scaled.interval_p50[1] == pytest.approx(found.interval_p50[1] * factor)


@FEW
@given(PROCESSES)
def test_the_same_samples_give_the_same_interval(processes: list[tuple[int, ...]]) -> None:
    assert median_interval(processes) == median_interval(processes)


def test_there_is_no_p99_of_too_few() -> None:
    few = figures([range(1, P99_MIN_SAMPLES)])
    assert few.p99 is None
    assert few.p99_why == "367 samples; the interval of a p99 exists from 368 on"
    enough = figures([range(1, P99_MIN_SAMPLES + 1)])
    assert enough.p99 == pytest.approx(364.33 / 1e6)
    assert enough.p99_why is None


def test_the_least_count_is_where_the_order_statistic_begins_to_exist() -> None:
    assert 0.99**P99_MIN_SAMPLES <= 0.025 < 0.99 ** (P99_MIN_SAMPLES - 1)
    assert tail(np.ones(P99_MIN_SAMPLES)) == (1.0, None)


def test_no_outlier_is_dropped() -> None:
    found = figures([(1_000_000,) * 99 + (1_000_000_000,)])
    assert found.mean == pytest.approx(10.99)
    assert found.p50 == 1.0
    assert found.unstable


def test_unstable_from_a_tenth_on() -> None:
    assert why_unstable([1.0]) is None
    assert why_unstable([0.91, 1.09]) is None
    assert why_unstable([0.89, 1.11]) == "the standard deviation passes 10 % of the mean"


def test_even_samples_may_be_of_a_slow_moment() -> None:
    even = [(1000,) * 9]
    assert not figures(even).unstable
    slow = figures(even, "a neighbour")
    assert (slow.unstable, slow.unstable_why) == (True, "a neighbour")


def test_processes_that_differ_widen_the_interval() -> None:
    random = np.random.default_rng(0)
    alike = [random.normal(1.0, 0.01, 200) for _ in range(5)]
    apart = [group + shift for group, shift in zip(alike, np.linspace(0, 0.2, 5), strict=True)]
    low, high = median_interval(alike)
    wide_low, wide_high = median_interval(apart)
    assert wide_high - wide_low > 10 * (high - low)


def test_a_million_samples_take_little_time() -> None:
    group = np.random.default_rng(0).normal(1.0, 0.05, 1_000_000)
    low, high = median_interval([group])
    assert 0.99 < low < 1.0 < high < 1.01
