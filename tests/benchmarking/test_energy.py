"""Energy from what a sensor saw: beyond idling, per inference, and how sure that is."""

from __future__ import annotations

import pytest
from msgspec import structs

from edgekit.benchmarking.energy import beyond_idling, figures
from edgekit.domain import Energy, PowerSeen

IDLE = PowerSeen(seconds=10, watts=2.0, deviation_w=0.1, readings=100)
BUSY = PowerSeen(seconds=10, watts=5.0, deviation_w=0.2, readings=400)
SEEN = Energy(source="ina3221", rail="VDD_IN", resolution_w=0.001, idle=IDLE, busy=BUSY, runs=1000)


def test_the_energy_of_an_inference() -> None:
    """3 W more for 10 s are 30 J; a thousandth of that is 30 mJ."""
    found = figures(SEEN)
    assert found
    assert found.mj == pytest.approx(30)
    # Standard errors of 0.01 W each, so 0.0141 W of the difference: 0.141 mJ, and twice that.
    assert found.uncertainty == pytest.approx(0.2829, rel=1e-3)
    assert found.readings_per_s == 40
    assert beyond_idling(SEEN) == found.mj


def test_a_coarse_sensor_is_less_sure() -> None:
    coarse = figures(structs.replace(SEEN, resolution_w=1.0))
    assert coarse
    assert coarse.uncertainty == pytest.approx(2 * (2 / 12) ** 0.5 * 10, rel=1e-2)


def test_no_more_than_idling_is_no_energy() -> None:
    level = structs.replace(SEEN, busy=structs.replace(BUSY, watts=2.01))
    assert figures(level) is not None
    assert beyond_idling(level) is None
    assert beyond_idling(structs.replace(SEEN, busy=structs.replace(BUSY, watts=1.0))) is None


def test_without_a_sensor_there_is_none() -> None:
    assert figures(Energy(why="there is no sensor")) is None
    assert beyond_idling(None) is None
