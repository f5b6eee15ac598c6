"""Ranges of activations: what samples show, and what to keep of it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from edgekit.compression import ranges
from edgekit.compression.ranges import Range, Values


def shown(*samples: np.ndarray) -> Values:
    def values() -> Iterator[dict[str, np.ndarray]]:
        return ({"t": sample.astype(np.float32)} for sample in samples)

    return values


def error(reach: Range, values: np.ndarray) -> float:
    """Squared, of 256 steps between the two ends."""
    step = (reach.high - reach.low) / 255
    made = np.clip(np.round(values / step) * step, reach.low, reach.high)
    return float(np.mean((made - values) ** 2))


def bell(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(20_000)


def test_the_whole_range_is_over_all_samples_whatever_their_order() -> None:
    samples = [np.array([0.5, -1.0]), np.array([3.0]), np.array([np.nan, np.inf, 2.0])]
    assert ranges.whole(shown(*samples)) == {"t": (-1.0, 3.0)}
    assert ranges.whole(shown(*samples[::-1])) == {"t": (-1.0, 3.0)}
    assert ranges.whole(shown(np.array([]))) == {}


def test_one_value_in_a_million_is_cut_off() -> None:
    """It would make every step coarser."""
    values = np.append(np.random.default_rng(0).standard_normal(1_000_000), 12.0)
    samples = np.array_split(values, 3)
    seen = ranges.whole(shown(*samples))
    (found,) = ranges.least_error(shown(*samples), seen).values()
    assert seen["t"].high == 12
    assert found.high < 9
    assert error(found, values) < 0.8 * error(seen["t"], values)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_no_candidate_leaves_less_error(scale: float) -> None:
    values = scale * np.random.default_rng(1).laplace(size=50_000)
    seen = ranges.whole(shown(values))
    (found,) = ranges.least_error(shown(values), seen).values()
    low, high = seen["t"]
    others = [error(Range(low * share, high * share), values) for share in np.linspace(0.2, 1, 41)]
    assert error(found, values) <= 1.05 * min(others)
    assert found.high < high


def test_what_is_spread_evenly_is_kept_whole() -> None:
    values = np.linspace(-1, 1, 10_000)
    seen = ranges.whole(shown(values))
    assert ranges.least_error(shown(values), seen) == seen


def test_zero_lies_in_every_range() -> None:
    """An integer must stand for it: padding is zero."""
    values = np.linspace(5, 6, 1000)
    (found,) = ranges.least_error(shown(values), ranges.whole(shown(values))).values()
    assert found.low == 0
    assert found.high == pytest.approx(6)


def test_symmetric_ranges_reach_as_far_on_both_sides() -> None:
    values = np.maximum(bell(), -0.5)
    seen = ranges.whole(shown(values))
    (found,) = ranges.least_error(shown(values), seen, symmetric=True).values()
    assert found.low == -found.high
    assert found.high > 2


def test_a_tensor_of_one_value_has_nothing_to_choose() -> None:
    constant = np.full(10, 3.0)
    seen = ranges.whole(shown(constant))
    assert ranges.least_error(shown(constant), seen) == {}
