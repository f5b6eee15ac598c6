"""Energy from what a sensor saw: per inference, beyond idling, with its uncertainty."""

from __future__ import annotations

from math import hypot, sqrt

from msgspec import Struct

from edgekit.domain import Energy, PowerSeen

_DEVIATIONS = 2
"""Of a mean: about 95 %."""


class EnergyFigures(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The energy of one inference, in millijoules.

    Attributes:
        uncertainty: half of a 95 % interval, of what the sensor's readings scatter and of the
            smallest step that it tells. A fault of the sensor itself is not in it.
        idle_watts: with the model loaded and nothing running.
        readings_per_s: while it ran.
    """

    mj: float
    uncertainty: float
    idle_watts: float
    busy_watts: float
    seconds: float
    readings_per_s: float


def figures(energy: Energy | None) -> EnergyFigures | None:
    """The figures; ``None`` where there is no sensor."""
    if energy is None or not (energy.idle and energy.busy and energy.runs):
        return None
    idle, busy = energy.idle, energy.busy
    mj_per_watt = 1e3 * busy.seconds / energy.runs
    doubt = hypot(_error(idle, energy.resolution_w), _error(busy, energy.resolution_w))
    return EnergyFigures(
        mj=(busy.watts - idle.watts) * mj_per_watt,
        uncertainty=_DEVIATIONS * doubt * mj_per_watt,
        idle_watts=idle.watts,
        busy_watts=busy.watts,
        seconds=busy.seconds,
        readings_per_s=busy.readings / busy.seconds,
    )


def beyond_idling(energy: Energy | None) -> float | None:
    """Millijoules of an inference; ``None`` where it cannot be told from idling."""
    found = figures(energy)
    return found.mj if found and found.mj > found.uncertainty else None


def _error(seen: PowerSeen, resolution_w: float) -> float:
    """The standard error of the mean; a step's own is that of a uniform distribution."""
    return hypot(seen.deviation_w / sqrt(seen.readings), resolution_w / sqrt(12))
