"""How sure a difference on the same samples is."""

from __future__ import annotations

import numpy as np
import pytest

from edgekit import paired


def right(count: int, share: float, rng: np.random.Generator) -> np.ndarray:
    return rng.random(count) < share


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    """A network that turns 3 % of the right answers wrong, and 1 % of all right."""
    rng, truth, held = np.random.default_rng(0), 0.9 * 0.03 - 0.1 * 0.01, 0
    for _ in range(1000):
        before = right(500, 0.9, rng)
        after = np.where(before, rng.random(500) >= 0.03, rng.random(500) < 0.01)
        low, high = paired.interval(before, after)
        held += low <= truth <= high
    assert held >= 930


def test_means_of_other_scores_are_held_as_often() -> None:
    rng, held = np.random.default_rng(1), 0
    for _ in range(1000):
        before = rng.normal(1.0, 0.3, 40)
        low, high = paired.interval(before, before - 0.02 + rng.normal(0, 0.05, 40))
        held += low <= 0.02 <= high
    assert 930 <= held <= 970


def test_few_samples_that_agree_settle_nothing() -> None:
    """Twenty of twenty the same may still hide a loss of several points; of 20,000, none."""
    assert paired.interval(np.ones(20, bool), np.ones(20, bool))[1] > 0.05
    assert paired.interval(np.ones(20_000, bool), np.ones(20_000, bool))[1] < 1e-3


def test_the_sign_is_what_is_lost() -> None:
    before, after = np.ones(1000, bool), np.arange(1000) >= 100
    low, high = paired.interval(before, after)
    assert 0.08 < low < 0.1 < high < 0.12
    assert paired.interval(after, before)[1] == pytest.approx(-low)


def test_one_sample_tells_nothing() -> None:
    assert paired.interval(np.array([0.5]), np.array([0.4])) == (-np.inf, np.inf)


def test_as_many_as_needed_settle_it() -> None:
    """Half the gap takes four times the samples."""
    assert paired.needed((-0.01, 0.03), 0.02, 100) == 400
    assert paired.needed((-0.01, 0.03), 0.015, 100) == 1600
    assert paired.needed((-0.01, 0.03), 0.01, 100) is None
