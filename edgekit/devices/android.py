"""What Android says of its battery and its heat: ``dumpsys battery``, ``dumpsys thermalservice``.

Formats after AOSP: ``BatteryService.dumpInternal`` and ``ThermalManagerService`` (frameworks/base,
``services/core/java/com/android/server``); the meaning of the numbers after the public
``BatteryManager`` (temperature in tenths of a degree Celsius), ``PowerManager`` (thermal status)
and ``android.os.Temperature`` (type). Services of makers add lines and leave some out: what is
not understood is ``None``.
"""

from __future__ import annotations

import re

from msgspec import Struct

from edgekit.devices.output import clean

THERMAL_STATUS = ("none", "light", "moderate", "severe", "critical", "emergency", "shutdown")
"""``PowerManager.THERMAL_STATUS_*``, from 0: throttling that nobody feels (``light``), that one
may (``moderate``), that one does (``severe``)."""

_POWERED = ("AC", "USB", "Wireless", "Dock")
_TENTHS = 10
_COLDEST_C, _HOTTEST_C = -40.0, 150.0
_SKIN = 3
_CURRENT = "Current temperatures from HAL:"
_TEMPERATURE = re.compile(
    r"Temperature\{mValue=(?P<celsius>-?[\d.]+), mType=(?P<type>-?\d+), "
    r"mName=(?P<name>[^,}]*), mStatus=\d+\}"
)
_MAX_SENSORS = 200


class Battery(Struct, frozen=True, kw_only=True):
    """A battery.

    Attributes:
        level: from 0 to 1.
        powered: whether the device is on a charger or a cable.
        is_real: whether these are measured values: ``dumpsys battery set`` pretends others.
    """

    temperature_c: float | None
    level: float | None
    powered: bool | None
    is_real: bool


class Heat(Struct, frozen=True, kw_only=True):
    """How hot it is.

    Attributes:
        status: one of ``THERMAL_STATUS``.
        skin_c: of what a hand feels, the hottest such sensor.
        temperatures_c: of every sensor, by its name.
        is_real: whether the status is measured: ``cmd thermalservice`` pretends others.
    """

    status: str | None
    skin_c: float | None
    temperatures_c: dict[str, float]
    is_real: bool


def battery(said: str) -> Battery | None:
    """What ``dumpsys battery`` means; ``None`` without a battery, or where it said none of it."""
    fields: dict[str, str] = {}
    for line in said.splitlines():
        key, colon, value = line.partition(":")
        if colon:
            fields.setdefault(key.strip(), value.strip())
    if fields.get("present") == "false" or "level" not in fields:
        return None
    tenths, scale = _whole(fields.get("temperature")), _whole(fields.get("scale"))
    level = _whole(fields["level"])
    known = [fields[f"{how} powered"] for how in _POWERED if f"{how} powered" in fields]
    return Battery(
        temperature_c=_believed(tenths / _TENTHS) if tenths is not None else None,
        level=level / scale if level is not None and scale and 0 <= level <= scale else None,
        powered="true" in known if known else None,
        is_real="UPDATES STOPPED" not in said,
    )


def heat(said: str) -> Heat | None:
    """What ``dumpsys thermalservice`` means; ``None`` where there is no such service."""
    status = re.search(r"^Thermal Status: (\d+)\s*$", said, re.MULTILINE)
    # What the sensors say now, where that is told; else what they said last.
    _, current, now = said.partition(_CURRENT)
    found = _sensors(now) if current else []
    found = found or _sensors(said)
    if status is None and not found:
        return None
    number = int(status[1]) if status else len(THERMAL_STATUS)
    skins = [celsius for _, kind, celsius in found if kind == _SKIN]
    return Heat(
        status=THERMAL_STATUS[number] if number < len(THERMAL_STATUS) else None,
        skin_c=max(skins, default=None),
        temperatures_c={name: celsius for name, _, celsius in found},
        is_real="IsStatusOverride: true" not in said,
    )


def _sensors(said: str) -> list[tuple[str, int, float]]:
    """Name, type and degrees of every sensor whose value can be one."""
    found = []
    for row in list(_TEMPERATURE.finditer(said))[:_MAX_SENSORS]:
        try:
            celsius = _believed(float(row["celsius"]))
        except ValueError:
            continue
        if celsius is not None:
            found.append((clean(row["name"]), int(row["type"]), celsius))
    return found


def _whole(text: str | None) -> int | None:
    return int(text) if text and re.fullmatch(r"-?\d{1,9}", text) else None


def _believed(celsius: float) -> float | None:
    """Sensors that are not there say 0 K, or minus the largest number."""
    return celsius if _COLDEST_C <= celsius <= _HOTTEST_C else None
