"""A long run's curve: what is first, what is settled, and what the sensors say of it."""

from __future__ import annotations

from typing import Any

import pytest

from edgekit.benchmarking.sustained import figures
from edgekit.domain import Heat, Sustained, SustainedWindow


def run(*ms: float, each_s: float = 10.0, **heat: list[Any]) -> Sustained:
    """Windows of these medians; of the sensors a value for each of them."""
    windows = (
        SustainedWindow(
            at_s=i * each_s,
            runs=5,
            median_ns=int(value * 1e6),
            **{name: values[i] for name, values in heat.items()},
        )
        for i, value in enumerate(ms)
    )
    return Sustained(before=Heat(frequency_cap_khz=2_400_000), windows=tuple(windows))


def test_the_first_minute_beside_what_it_settles_at() -> None:
    """Ten minutes: one at 1 ms, then slower and slower, and 2 ms in the last quarter."""
    found = figures(run(*[1.0] * 6, *[1.5] * 39, *[2.0] * 15))
    assert (found.minutes, found.first, found.settled, found.slowdown) == (10, 1.0, 2.0, 2.0)
    assert found.steady
    assert found.throttled is None
    assert found.hottest_celsius is None


def test_a_run_shorter_than_four_minutes_has_quarters() -> None:
    found = figures(run(1.0, 1.1, 1.2, 1.3, each_s=0.5))
    assert (found.first, found.settled) == (1.0, 1.3)
    assert found.minutes == pytest.approx(2 / 60)


def test_what_still_changes_has_not_settled() -> None:
    assert not figures(run(*(1 + i / 20 for i in range(60)))).steady
    assert not figures(run(1.0)).steady, "one window tells nothing"


def test_one_window_is_as_long_as_its_runs() -> None:
    found = figures(run(2000.0))
    assert found.minutes == pytest.approx(10 / 60)
    assert found.first == found.settled == 2000


def test_windows_out_of_order_are_no_reason_to_end() -> None:
    """A file may hold them; the drive takes none from a device."""
    windows = (SustainedWindow(at_s=at_s, runs=1, median_ns=1_000_000) for at_s in (5.0, 4.0))
    assert figures(Sustained(before=Heat(), windows=tuple(windows))).first == 1.0


@pytest.mark.parametrize(
    ("heat", "told"),
    [
        ({"throttle_bits": ["0x0", "0x0", "0x4"]}, "from 20 s on: the firmware reports 0x4"),
        ({"throttle_bits": ["0x0"] * 3}, None),
        ({"thermal_status": [1, 1, 2]}, "from 20 s on: Android's thermal status is moderate"),
        ({"thermal_status": [1, 1, 0]}, None),
        ({"frequency_cap_khz": [2_400_000, 1_500_000, 1_500_000]}, "from 10 s on: the clock's"),
        ({"frequency_cap_khz": [2_400_000] * 3}, None),
        (
            {
                "temperature_celsius": [60, 82, 85],
                "frequency_khz": [2_400_000, 2_400_000, 1_800_000],
            },
            "from 20 s on: at 85 degrees the clock fell from 2400 to 1800 MHz",
        ),
        ({"temperature_celsius": [40, 40, 40], "frequency_khz": [2_400_000, 1, 1]}, None),
    ],
)
def test_what_the_sensors_say(heat: dict[str, list[Any]], told: str | None) -> None:
    found = figures(run(1.0, 1.0, 1.0, **heat)).throttled
    assert found == told or (told and found and found.startswith(told))
