"""Whether a measurement may be believed: a device that was throttled or busy measured itself."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgekit.benchmarking.events import Environment, State
from edgekit.devices.android import THERMAL_STATUS

SLOWER_BY = 1.2
"""Median of the last third over that of the first, from which on the device slowed down."""

SLOWER_COUNTING = 1.15
"""From this ratio on the device was slower than it can be.

Counting varies a little on a calm device, too. ``benchmarks/verdicts.py`` tells whether what
passes is right.
"""

HOT_CELSIUS = 80.0
_SPARE_CORES = 0.25


def why_invalid(
    processes: Sequence[Sequence[int]], environment: Environment, threads: int, cores: int
) -> str | None:
    """The reason not to believe the samples; ``None`` when there is none.

    Args:
        processes: nanoseconds per inference, in the order they were measured.
        environment: the device before and after.
        threads: CPU threads the runtime was given.
        cores: cores of the device.
    """
    return _throttled(processes, environment) or _busy(environment, threads, cores)


def why_slow(counting_ns: int | None, least_counting_ns: int | None) -> str | None:
    """Why the samples are of a slow moment, however even they are; ``None``: nothing says so.

    On a virtual machine a neighbour's work shows in nothing but the time that the same
    instructions take. It cannot be told of the first bench on a device.

    Args:
        counting_ns: what counting took beside the runs; ``None``: nobody counted.
        least_counting_ns: the least that it took beside any bench that the device remembers.
    """
    if not counting_ns or not least_counting_ns:
        return None
    ratio = counting_ns / least_counting_ns
    if ratio <= SLOWER_COUNTING:
        return None
    return f"the device was slow: counting took {ratio:.2f} times as long as at its best"


def _throttled(processes: Sequence[Sequence[int]], environment: Environment) -> str | None:
    before, after = environment.before, environment.after
    if events := throttle_events(before.throttle_bits, after.throttle_bits):
        return f"throttled: {events}"
    if status := android_slowed(before.thermal_status, after.thermal_status):
        return f"throttled: {status}"
    if (after.throttle_count or 0) > (before.throttle_count or 0):
        return "throttled: the processor counted thermal events during the measurement"
    if before.power_mode != after.power_mode:
        return f"throttled: the power mode changed from {before.power_mode} to {after.power_mode}"
    if before.frequency_cap_khz and (after.frequency_cap_khz or 0) < before.frequency_cap_khz:
        return "throttled: the clock's upper limit fell during the measurement"
    slower = slowdown(processes)
    if slower > SLOWER_BY and not _is_cool(after):
        what = "throttled" if after.temperature_celsius is not None else "throttled or disturbed"
        return f"{what}: the last third of the runs took {slower:.2f} times as long as the first"
    return None


def _is_cool(state: State) -> bool:
    """Known not to be hot; without a sensor, slowing down is all there is to go by."""
    return state.temperature_celsius is not None and state.temperature_celsius < HOT_CELSIUS


def slowdown(processes: Sequence[Sequence[int]]) -> float:
    """Median of the last third of all samples over the median of the first third."""
    samples = np.concatenate([np.asarray(samples, np.float64) for samples in processes])
    third = max(1, samples.size // 3)
    first, last = float(np.median(samples[:third])), float(np.median(samples[-third:]))
    return last / first if first else 1.0


def _busy(environment: Environment, threads: int, cores: int) -> str | None:
    """Others are in the way once the cores they leave are fewer than our threads need."""
    others = environment.background_cores
    if others is None or others <= max(0, cores - threads) + _SPARE_CORES:
        return None
    return (
        f"busy: other processes kept {others:.1f} of {cores} cores at work, "
        f"the benchmark needed {threads}"
    )


_NOW = {0: "under-voltage", 1: "the clock is capped", 2: "throttled", 3: "the soft limit of heat"}
_STICKY = 16
"""From this bit on the same has happened since the device was started."""


def throttle_events(before: str | None, after: str | None) -> str | None:
    """What the firmware of a Raspberry Pi reports of a while; ``None``: nothing.

    raspberrypi.com/documentation/computers/os.html#vcgencmd, ``get_throttled``: bits 0 to 3 are of
    this moment, bits 16 to 19 of all the time since the start. A sticky bit that was set before
    is of an earlier event.

    Args:
        before: the bits as the firmware writes them (``0x50000``); what is no number is none.
        after: likewise.
    """
    was, now = int_or_zero(before or ""), int_or_zero(after or "")
    seen = (now | now >> _STICKY & ~(was >> _STICKY)) & 0xF
    if not seen:
        return None
    told = ", ".join(name for bit, name in _NOW.items() if seen >> bit & 1)
    return f"the firmware reports {after} ({told})"


_MODERATE = THERMAL_STATUS.index("moderate")


def android_slowed(before: int | None, after: int | None) -> str | None:
    """What Android's thermal status says of a while; ``None``: nothing.

    developer.android.com/reference/android/os/PowerManager, ``THERMAL_STATUS_MODERATE``: the
    first at which throttling is such that one may notice. One that rises meanwhile is of a device
    that was slowed down in the end, and not in the beginning.

    Args:
        before: the status by its number; ``None``: Android did not tell.
        after: likewise.
    """
    known = [status for status in (before, after) if status is not None]
    highest = max(known, default=0)
    if highest >= _MODERATE:
        return f"Android's thermal status is {THERMAL_STATUS[highest]}"
    if before is not None and highest > before:
        return (
            f"Android's thermal status rose from {THERMAL_STATUS[before]} to "
            f"{THERMAL_STATUS[highest]}"
        )
    return None


def int_or_zero(text: str) -> int:
    """An integer as the firmware writes it (``0x50000``); 0 when it is none."""
    try:
        return int(text, 0)
    except ValueError:
        return 0
