"""What Android says of battery and heat, as AOSP writes it, and as some makers do."""

from __future__ import annotations

import pytest

from edgekit.devices.android import battery, heat

BATTERY = """Current Battery Service state:
  AC powered: false
  USB powered: true
  Wireless powered: false
  Dock powered: false
  Max charging current: 500000
  Max charging voltage: 5000000
  Charge counter: 2468000
  status: 2
  health: 2
  present: true
  level: 84
  scale: 100
  voltage: 4213
  temperature: 281
  technology: Li-ion
"""
HEAT = """IsStatusOverride: false
ThermalEventListeners:
\tcallbacks: 2
\tkilled: false
\tbroadcasts count: -1
ThermalStatusListeners:
\tcallbacks: 3
Thermal Status: 2
Cached temperatures:
\tTemperature{mValue=30.8, mType=3, mName=VIRTUAL-SKIN, mStatus=0}
HAL Ready: true
HAL connection:
\tThermalHAL AIDL 1 connected: yes
Current temperatures from HAL:
\tTemperature{mValue=49.071, mType=0, mName=cpu0, mStatus=0}
\tTemperature{mValue=36.2, mType=3, mName=VIRTUAL-SKIN, mStatus=1}
\tTemperature{mValue=38.5, mType=3, mName=quiet, mStatus=1}
\tTemperature{mValue=28.1, mType=2, mName=battery, mStatus=0}
Current cooling devices from HAL:
\tCoolingDevice{mValue=0, mType=1, mName=tpu}
"""


def test_a_battery() -> None:
    found = battery(BATTERY)
    assert found is not None
    assert (found.temperature_c, found.level, found.powered) == (28.1, 0.84, True)
    assert found.is_real


def test_a_battery_that_is_pretended_and_not_plugged_in() -> None:
    said = BATTERY.replace("USB powered: true", "USB powered: false").replace(
        "state:\n", "state:\n  (UPDATES STOPPED -- use 'reset' to restart)\n"
    )
    found = battery(said)
    assert found is not None
    assert (found.powered, found.is_real) == (False, False)


@pytest.mark.parametrize(
    ("old", "new", "temperature_c", "level"),
    [
        ("temperature: 281", "temperature: -53", -5.3, 0.84),
        ("temperature: 281", "temperature: 0", 0.0, 0.84),
        ("temperature: 281", "temperature: -2147483648", None, 0.84),
        ("temperature: 281", "temperature: -2731", None, 0.84),
        ("temperature: 281", "temperature: ", None, 0.84),
        ("  temperature: 281\n", "", None, 0.84),
        ("scale: 100", "scale: 0", 28.1, None),
        ("level: 84", "level: 101", 28.1, None),
        ("level: 84", "level: unknown", 28.1, None),
        # Samsung repeats fields further down, of another battery.
        ("Li-ion\n", "Li-ion\n  temperature: 999\n  level: 1\n", 28.1, 0.84),
        ("\n", "\r\n", 28.1, 0.84),
    ],
)
def test_odd_batteries(
    old: str, new: str, temperature_c: float | None, level: float | None
) -> None:
    found = battery(BATTERY.replace(old, new))
    assert found is not None
    assert (found.temperature_c, found.level) == (temperature_c, level)


@pytest.mark.parametrize(
    "said",
    [
        "",
        "Can't find service: battery\n",
        BATTERY.replace("present: true", "present: false"),
        "\x00\xff:\n::::",
    ],
)
def test_no_battery(said: str) -> None:
    assert battery(said) is None


def test_the_heat_of_now_and_not_of_then() -> None:
    found = heat(HEAT)
    assert found is not None
    assert (found.status, found.skin_c, found.is_real) == ("moderate", 38.5, True)
    assert found.temperatures_c["cpu0"] == 49.071
    assert found.temperatures_c["VIRTUAL-SKIN"] == 36.2


def test_without_the_hal_what_was_said_last_counts() -> None:
    found = heat(HEAT.partition("HAL Ready")[0] + "HAL Ready: false\n")
    assert found is not None
    assert (found.status, found.skin_c) == ("moderate", 30.8)


def test_a_status_that_is_pretended_or_unknown() -> None:
    found = heat(HEAT.replace("Override: false", "Override: true"))
    assert found is not None
    assert not found.is_real
    future = heat(HEAT.replace("Status: 2", "Status: 9"))
    assert future is not None
    assert future.status is None


def test_sensors_that_are_not_there() -> None:
    said = (
        HEAT.replace("49.071", "-3.4028235E38").replace("36.2", "-274.0").replace("28.1", "1.2.3")
    )
    found = heat(said)
    assert found is not None
    assert set(found.temperatures_c) == {"quiet"}


@pytest.mark.parametrize("said", ["", "Can't find service: thermalservice\n", "Thermal Status: ?"])
def test_no_thermal_service(said: str) -> None:
    assert heat(said) is None
