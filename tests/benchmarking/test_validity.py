"""When a measurement may not be believed, and when it may."""

from __future__ import annotations

from typing import Any

import pytest

from edgekit.benchmarking.events import Environment, State
from edgekit.benchmarking.validity import (
    android_slowed,
    slowdown,
    throttle_events,
    why_invalid,
    why_slow,
)

STEADY = [(1000,) * 30, (1010,) * 30]
SLOWING = [(1000,) * 30, (1500,) * 30]


def environment(
    before: dict[str, Any] | None = None, after: dict[str, Any] | None = None, others: float = 0.0
) -> Environment:
    return Environment(
        before=State(**(before or {})), after=State(**(after or {})), background_cores=others
    )


def test_a_calm_device_is_believed() -> None:
    assert why_invalid(STEADY, environment(), threads=1, cores=2) is None


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {"throttle_bits": "0x50000"}),
        ({"throttle_bits": "0x0"}, {"throttle_bits": "0x40000"}),
        ({"throttle_bits": "0x10000"}, {"throttle_bits": "0x50000"}),
        ({"throttle_bits": "0x50005"}, {"throttle_bits": "0x50005"}),
        ({"thermal_status": 0}, {"thermal_status": 1}),
        ({"thermal_status": 2}, {"thermal_status": 2}),
        ({"thermal_status": 3}, {"thermal_status": 0}),
        ({}, {"thermal_status": 2}),
        ({"power_mode": "MAXN (0)"}, {"power_mode": "15W (2)"}),
        ({"throttle_count": 3}, {"throttle_count": 4}),
        ({"frequency_cap_khz": 2_400_000}, {"frequency_cap_khz": 1_500_000}),
    ],
)
def test_what_the_system_reports(before: dict[str, Any], after: dict[str, Any]) -> None:
    why = why_invalid(STEADY, environment(before, after), threads=1, cores=2)
    assert why
    assert why.startswith("throttled: ")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {"throttle_bits": "0x0"}),
        ({"throttle_bits": "0x50000"}, {"throttle_bits": "0x50000"}),
        ({"thermal_status": 0}, {"thermal_status": 0}),
        ({"thermal_status": 1}, {"thermal_status": 1}),
        ({"thermal_status": 1}, {"thermal_status": 0}),
        ({}, {"thermal_status": 1}),
        ({"thermal_status": 0}, {}),
        ({"power_mode": "MAXN (0)"}, {"power_mode": "MAXN (0)"}),
        ({}, {"throttle_bits": "VCHI initialization failed"}),
        ({"throttle_count": 3}, {"throttle_count": 3}),
        ({"frequency_cap_khz": 2_400_000}, {"frequency_cap_khz": 2_400_000}),
        ({"frequency_khz": 2_400_000}, {"frequency_khz": 600_000}),
    ],
)
def test_what_is_no_throttling(before: dict[str, Any], after: dict[str, Any]) -> None:
    assert why_invalid(STEADY, environment(before, after), threads=1, cores=2) is None


@pytest.mark.parametrize(("celsius", "believed"), [(None, False), (85.0, False), (50.0, True)])
def test_slowing_down_is_throttling_unless_it_is_known_to_be_cool(
    celsius: float | None, believed: bool
) -> None:
    seen = environment(after={"temperature_celsius": celsius})
    assert (why_invalid(SLOWING, seen, threads=1, cores=2) is None) is believed


@pytest.mark.parametrize(
    ("others", "threads", "cores", "believed"),
    [
        (1.0, 1, 2, True),
        (1.5, 1, 2, False),
        (0.5, 2, 2, False),
        (0.1, 4, 4, True),
        (9, 1, 1, False),
    ],
)
def test_others_are_in_the_way_when_they_leave_too_few_cores(
    others: float, threads: int, cores: int, believed: bool
) -> None:
    why = why_invalid(STEADY, environment(others=others), threads, cores)
    assert (why is None) is believed
    assert believed or (why or "").startswith("busy: ")


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("0x0", "0x1", "the firmware reports 0x1 (under-voltage)"),
        ("0x0", "0x50000", "the firmware reports 0x50000 (under-voltage, throttled)"),
        ("0x10000", "0x50000", "the firmware reports 0x50000 (throttled)"),
        ("0x80000", "0x80008", "the firmware reports 0x80008 (the soft limit of heat)"),
        ("0xf0000", "0xf0000", None),
        (None, "0x0", None),
        (None, None, None),
        ("0x0", "error=1", None),
    ],
)
def test_what_a_raspberry_pi_says(before: str | None, after: str | None, told: str | None) -> None:
    """Sticky bits tell of earlier events, too: only those that are new count."""
    assert throttle_events(before, after) == told


def test_slowdown_compares_thirds() -> None:
    assert slowdown(SLOWING) == 1.5
    assert slowdown([(5,)]) == 1.0
    assert slowdown([(0, 0, 1)]) == 1.0


def test_androids_status_is_named() -> None:
    assert android_slowed(0, 1) == "Android's thermal status rose from none to light"
    assert android_slowed(1, 2) == "Android's thermal status is moderate"


@pytest.mark.parametrize(
    ("counted", "least"), [(None, None), (1000, None), (None, 1000), (1000, 1000), (1150, 1000)]
)
def test_a_device_as_fast_as_it_had_been(counted: int | None, least: int | None) -> None:
    assert why_slow(counted, least) is None


def test_a_device_that_was_slower_than_it_had_been() -> None:
    assert why_slow(1310, 1000) == (
        "the device was slow: counting took 1.31 times as long as at its best"
    )
