"""A long run's curve: the first minute, what it settles at, and whether it was slowed down."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from msgspec import Struct

from edgekit.benchmarking.validity import HOT_CELSIUS, android_slowed, throttle_events
from edgekit.domain import Sustained, SustainedWindow

_FIRST_S = 60.0
_FIRST_SHARE = 0.25
_SETTLED_SHARE = 0.25
_STEADY = 0.03
"""The last quarter's halves differ by less than this where the curve has settled."""

_NS_PER_MS = 1e6


class SustainedFigures(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a long run comes to, in milliseconds.

    Attributes:
        minutes: how long it was.
        first: the median over the first minute; over the first quarter of a shorter run.
        settled: the median over the last quarter.
        slowdown: ``settled`` over ``first``.
        steady: the curve has settled; else ``settled`` is where it had come to.
        throttled: what the sensors told of that; ``None``: nothing. Without sensors there is only
            the slowdown to go by.
        hottest_celsius: ``None`` without a sensor.
    """

    minutes: float
    first: float
    settled: float
    slowdown: float
    steady: bool
    throttled: str | None
    hottest_celsius: float | None


def figures(run: Sustained) -> SustainedFigures:
    """The figures of a long run."""
    windows, seconds = run.windows, run.windows[-1].at_s + _length_s(run.windows)
    first_s = min(_FIRST_S, _FIRST_SHARE * seconds)
    first = _median_ms([w for w in windows if w.at_s < first_s] or [windows[0]])
    last = [w for w in windows if w.at_s >= (1 - _SETTLED_SHARE) * seconds] or [windows[-1]]
    settled = _median_ms(last)
    return SustainedFigures(
        minutes=seconds / 60,
        first=first,
        settled=settled,
        slowdown=settled / first,
        steady=_is_steady(last),
        throttled=_throttled(run),
        hottest_celsius=max((w.temperature_celsius or 0 for w in windows), default=0) or None,
    )


def _length_s(windows: Sequence[SustainedWindow]) -> float:
    """Of the last window, which is as long as the others: only their beginnings are told."""
    if len(windows) > 1:
        return windows[-1].at_s - windows[-2].at_s
    return windows[0].runs * windows[0].median_ns / 1e9


def _median_ms(windows: Sequence[SustainedWindow]) -> float:
    return median(window.median_ns for window in windows) / _NS_PER_MS


def _is_steady(last: Sequence[SustainedWindow]) -> bool:
    """A single window tells nothing of where the curve goes."""
    middle = len(last) // 2
    if not middle:
        return False
    return abs(_median_ms(last[middle:]) / _median_ms(last[:middle]) - 1) < _STEADY


def _throttled(run: Sustained) -> str | None:
    before = run.before
    for window in run.windows:
        if events := throttle_events(before.throttle_bits, window.throttle_bits):
            return f"from {window.at_s:.0f} s on: {events}"
        if status := android_slowed(before.thermal_status, window.thermal_status):
            return f"from {window.at_s:.0f} s on: {status}"
        cap, least = before.frequency_cap_khz, window.frequency_cap_khz
        if cap and least and least < cap:
            return f"from {window.at_s:.0f} s on: the clock's upper limit fell"
    return _slower_when_hot(run.windows)


def _slower_when_hot(windows: Sequence[SustainedWindow]) -> str | None:
    """The clock itself fell, and the device was hot then: nothing else was going on."""
    fastest = 0.0
    for window in windows:
        fastest = max(fastest, window.frequency_khz or 0)
        hot = (window.temperature_celsius or 0) >= HOT_CELSIUS
        if hot and window.frequency_khz and window.frequency_khz < 0.95 * fastest:
            return (
                f"from {window.at_s:.0f} s on: at {window.temperature_celsius:.0f} degrees the "
                f"clock fell from {fastest / 1e3:.0f} to {window.frequency_khz / 1e3:.0f} MHz"
            )
    return None
