"""The runner's sensors and the boards' own tools.

There is no such board here. The outputs are written after the documentation that each parser
cites; where a tool is run it is a small program that prints them, and where the kernel is read
it is a folder laid out as the kernel lays it out. The arithmetic behind is the real one.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Puts a program on the PATH that runs these lines of shell; nothing else is on it."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def add(name: str, lines: str) -> None:
        (folder / name).write_text(f"#!/bin/sh\n{lines}\n")
        (folder / name).chmod(0o755)

    return add


def lay(root: Path, files: Mapping[str, str]) -> Path:
    """Files of the kernel's, under a root of our own."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return root


# The power mode and the clocks of a Jetson


@pytest.mark.parametrize(
    ("said", "mode"),
    [
        ("NV Power Mode: MAXN\n0\n", "MAXN (0)"),
        ("NV Power Mode: MAXN\n0", "MAXN (0)"),
        ("NV Fan Mode:quiet\nNV Power Mode: 15W\n2\n", "15W (2)"),
        ("NV Power Mode: MODE_15W_6CORE", "MODE_15W_6CORE"),
        (
            "NVPM VERB: Config file: /etc/nvpmodel.conf\n"
            "NVPM VERB: Current mode: NV Power Mode: MODE_15W_6CORE\n2\n"
            "NVPM VERB: PARAM CPU_ONLINE: ARG CORE_0: PATH /sys/x: REAL_VAL: 1 CONF_VAL: 1\n",
            "MODE_15W_6CORE (2)",
        ),
        ("NVPM WARN: power mode is not set!", None),
        ("NV Power Mode: ", None),
        ("", None),
    ],
)
def test_power_mode(runner: ModuleType, said: str, mode: str | None) -> None:
    assert runner.power_mode(said) == mode


CORES = """SOC family:tegra234  Machine:NVIDIA Jetson Orin Nano Developer Kit
Online CPUs: 0-1
cpu0: Online=1 Governor=schedutil MinFreq={low} MaxFreq=1510400 CurrentFreq=1510400 IdleStates: WFI=1 c7=1
cpu1: Online=1 Governor=schedutil MinFreq={low} MaxFreq=1510400 CurrentFreq=729600 IdleStates: WFI=1 c7=1
cpu2: Online=0 Governor=schedutil MinFreq=115200 MaxFreq=1510400 CurrentFreq=729600 IdleStates: WFI=1
GPU MinFreq={gpu} MaxFreq=624750000 CurrentFreq=306000000
EMC MinFreq=204000000 MaxFreq=2133000000 CurrentFreq=2133000000 FreqOverride=0
NV Power Mode: 15W
"""  # noqa: E501


@pytest.mark.parametrize(
    ("said", "locked", "cap"),
    [
        (CORES.format(low=1510400, gpu=624750000), True, 624750),
        (CORES.format(low=115200, gpu=624750000), False, 624750),
        (CORES.format(low=1510400, gpu=306000000), False, 624750),
        ("Error: please run this program as root", None, None),
        ("", None, None),
    ],
)
def test_jetson_clocks(runner: ModuleType, said: str, locked: bool | None, cap: float) -> None:
    assert runner.jetson_clocks(said) == {"clocks_locked": locked, "gpu_frequency_cap_khz": cap}


# The heat of a phone

HOT = """IsStatusOverride: false
ThermalEventListeners:
\tcallbacks: 2
Thermal Status: 2
Cached temperatures:
\tTemperature{mValue=41.2, mType=3, mName=skin, mStatus=2}
"""
BATTERY = """Current Battery Service state:
  AC powered: false
  USB powered: true
  level: 87
  scale: 100
  voltage: 4210
  temperature: 412
  technology: Li-ion
"""


@pytest.mark.parametrize(
    ("said", "status"),
    [
        (HOT, 2),
        (HOT.replace("Override: false", "Override: true"), None),
        (HOT.replace("Status: 2\n", "Status: 9\n"), None),
        ("Thermal Status: 0", 0),
        ("Can't find service: thermalservice", None),
        ("Permission Denial: can't dump thermalservice from pid=1, uid=10123", None),
        ("", None),
    ],
)
def test_thermal_status(runner: ModuleType, said: str, status: int | None) -> None:
    assert runner.thermal_status(said) == status


@pytest.mark.parametrize(
    ("said", "celsius"),
    [
        (BATTERY, 41.2),
        (BATTERY.replace("412", "-35"), -3.5),
        (
            BATTERY.replace("state:\n", "state:\n  (UPDATES STOPPED -- use 'reset' to restart)\n"),
            None,
        ),
        (BATTERY.replace("temperature: 412", ""), None),
        ("", None),
    ],
)
def test_battery_celsius(runner: ModuleType, said: str, celsius: float | None) -> None:
    assert runner.battery_celsius(said) == celsius


def test_the_state_is_of_the_phones_own_tool(runner: ModuleType, tools: Any) -> None:
    tools(
        "dumpsys",
        f'case $1 in battery) /bin/cat <<"END"\n{BATTERY}END\n;; '
        f'thermalservice) /bin/cat <<"END"\n{HOT}END\n;; esac',
    )
    seen = runner.heat()
    assert (seen["thermal_status"], seen["battery_celsius"]) == (2, 41.2)


def test_the_state_is_of_the_boards_own_tools(runner: ModuleType, tools: Any) -> None:
    tools("nvpmodel", '[ "$1" = -q ] && echo "NV Power Mode: 15W" && echo 2')
    tools("jetson_clocks", "exit 1")
    tools("vcgencmd", '[ "$1" = get_throttled ] && echo throttled=0x50005')
    seen = runner.state()
    assert seen["power_mode"] == "15W (2)"
    assert seen["clocks_locked"] is None
    assert seen["throttle_bits"] == "0x50005"


# The power of a Jetson

NANO = (
    "RAM 2460/3957MB (lfb 28x4MB) SWAP 0/1978MB (cached 0MB) IRAM 0/252kB(lfb 252kB) "
    "CPU [13%@921,off,off,12%@921] EMC_FREQ 0% GR3D_FREQ 0% PLL@30C CPU@33.5C thermal@33C "
    "POM_5V_IN 1532/1540 POM_5V_GPU 0/0 POM_5V_CPU 163/172"
)
ORIN = (
    "10-05-2026 21:03:35 RAM 5137/62841MB (lfb 2x4MB) SWAP 0/31420MB (cached 0MB) "
    "CPU [1%@729,25%@729] GR3D_FREQ 0% cpu@52.875C tj@52.875C VDD_GPU_SOC 2371mW/2371mW "
    "VDD_CPU_CV 395mW/400mW VIN_SYS_5V0 2627mW/2630mW"
)


@pytest.mark.parametrize(
    ("line", "rails"),
    [
        (NANO, {"POM_5V_IN": 1.532, "POM_5V_GPU": 0.0, "POM_5V_CPU": 0.163}),
        (ORIN, {"VDD_GPU_SOC": 2.371, "VDD_CPU_CV": 0.395, "VIN_SYS_5V0": 2.627}),
        (
            "VDD_IN 4572mW/4572mW VDD_CPU_GPU_CV 519mW/51",
            {"VDD_IN": 4.572, "VDD_CPU_GPU_CV": 0.519},
        ),
        ("RAM 1/2MB CPU [0%@1]", {}),
        ("VDD_IN -4mW/4mW", {}),
        ("VDD_IN 4572mW", {}),
        ("", {}),
    ],
)
def test_tegrastats(runner: ModuleType, line: str, rails: dict[str, float]) -> None:
    assert runner.tegrastats_watts(line) == rails


def test_tegrastats_is_read_line_by_line(runner: ModuleType, tools: Any, tmp_path: Path) -> None:
    tools(
        "tegrastats",
        '[ "$1 $2" = "--interval 100" ] || exit 1\n'
        "/bin/sleep 0.1; for i in 0 1 2; do echo VDD_IN 9000mW/1mW VDD_SOC 900mW/1mW; done\n"
        "/bin/sleep 0.2; echo VDD_IN 4000mW/1mW VDD_SOC 900mW/1mW\n"
        "/bin/sleep 0.2; echo VDD_IN 5000mW/1mW; exec /bin/sleep 60",
    )
    meter, _ = runner.best_meter(tmp_path)
    try:
        assert (meter.source, meter.rail, meter.estimate) == ("tegrastats", "VDD_IN", False)
        time.sleep(0.1)  # a line that is read late is not a reading of now
        first, second = meter.reading(), meter.reading()
        assert second[1] / (second[0] - first[0]) == pytest.approx(4.5)
    finally:
        meter.close()


def test_a_tegrastats_that_tells_no_rails_is_no_meter(
    runner: ModuleType, tools: Any, tmp_path: Path
) -> None:
    tools("tegrastats", "echo RAM 1/2MB; exec /bin/sleep 60")
    assert runner.best_meter(tmp_path) == (None, "there is no sensor")


# The power of a Raspberry Pi

PMIC = """     3V7_WL_SW_A current(0)=0.08979210A
       VDD_CORE_A current(7)=1.50000000A
         HDMI_A current(22)=0.01000000A
     3V7_WL_SW_V volt(8)=3.70000000V
       VDD_CORE_V volt(15)=0.80000000V
          EXT5V_V volt(24)=5.15046000V
           BATT_V volt(25)=0.00000000V
"""


def test_pmic_multiplies_what_tells_both(runner: ModuleType) -> None:
    watts = runner.pmic_watts(PMIC)
    assert watts == {"3V7_WL_SW": pytest.approx(0.33223077), "VDD_CORE": pytest.approx(1.2)}


@pytest.mark.parametrize(
    "said", ["", "error=1 error_msg='Command not registered'", "VDD_CORE_A current(7)=nanA"]
)
def test_pmic_that_says_nothing(runner: ModuleType, said: str) -> None:
    assert runner.pmic_watts(said) == {}


def test_the_pmic_is_an_estimate(runner: ModuleType, tools: Any, tmp_path: Path) -> None:
    tools("vcgencmd", f'[ "$1" = pmic_read_adc ] && /bin/cat <<"END"\n{PMIC}END')
    meter, _ = runner.best_meter(tmp_path)
    assert (meter.source, meter.rail, meter.estimate) == ("pmic", "3V7_WL_SW + VDD_CORE", True)
    first, second = meter.reading(), meter.reading()
    assert second[1] / (second[0] - first[0]) == pytest.approx(1.53223077)


# INA3221


def ina3221(number: int, **rails: tuple[int, int]) -> dict[str, str]:
    folder = f"sys/class/hwmon/hwmon{number}"
    files = {f"{folder}/name": "ina3221", f"{folder}/in7_label": "sum of shunt voltages"}
    for n, (label, (millivolts, milliamperes)) in enumerate(rails.items(), 1):
        files[f"{folder}/in{n}_label"] = label
        files[f"{folder}/in{n}_input"] = str(millivolts)
        files[f"{folder}/curr{n}_input"] = str(milliamperes)
    return files


def test_ina3221_of_a_board_with_a_rail_for_all(
    runner: ModuleType, tools: Any, tmp_path: Path
) -> None:
    rails = ina3221(3, VDD_IN=(5000, 900), VDD_CPU_GPU_CV=(5000, 100), VDD_SOC=(5000, 200))
    root = lay(tmp_path, {"sys/class/hwmon/hwmon0/name": "tmp451", **rails})
    meter, _ = runner.best_meter(root)
    assert (meter.source, meter.rail) == ("ina3221", "VDD_IN")
    assert runner.ina3221_rails(root)["VDD_IN"]() == pytest.approx(4.5)


def test_ina3221_of_a_board_without_one_adds_up(
    runner: ModuleType, tools: Any, tmp_path: Path
) -> None:
    rails = ina3221(1, VDD_GPU_SOC=(20000, 100), VDD_CPU_CV=(20000, 0), NC=(0, 0))
    meter, _ = runner.best_meter(lay(tmp_path, rails))
    assert meter.rail == "VDD_GPU_SOC + VDD_CPU_CV", "a rail that takes nothing now is one, too"
    first, second = meter.reading(), meter.reading()
    assert second[1] / (second[0] - first[0]) == pytest.approx(2.0)


def test_ina3221_of_the_older_driver(runner: ModuleType, tools: Any, tmp_path: Path) -> None:
    folder = "sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0"
    files = {f"{folder}/rail_name_0": "POM_5V_IN", f"{folder}/in_power0_input": "1532"}
    files |= {f"{folder}/rail_name_1": "POM_5V_GPU", f"{folder}/in_power1_input": "0"}
    meter, _ = runner.best_meter(lay(tmp_path, files))
    assert (meter.source, meter.rail) == ("ina3221", "POM_5V_IN")


def test_ina3221_that_cannot_be_read_is_none(
    runner: ModuleType, tools: Any, tmp_path: Path
) -> None:
    rails = ina3221(1, VDD_IN=(5000, 900)) | {"sys/class/hwmon/hwmon1/curr1_input": ""}
    assert runner.best_meter(lay(tmp_path, rails)) == (None, "there is no sensor")


# RAPL


def rapl(number: str, name: str, energy_uj: str, end_uj: str = "262143328850") -> dict[str, str]:
    zone = f"sys/class/powercap/intel-rapl:{number}"
    return {
        f"{zone}/name": name,
        f"{zone}/energy_uj": energy_uj,
        f"{zone}/max_energy_range_uj": end_uj,
    }


def test_rapl_counts_on_where_it_wraps(runner: ModuleType, tools: Any, tmp_path: Path) -> None:
    inner = rapl("0:0", "core", "1")
    lay(tmp_path, rapl("0", "package-0", "9000000", "10000000") | inner)
    meter, _ = runner.best_meter(tmp_path)
    assert (meter.source, meter.rail) == ("rapl", "package-0")
    counter = tmp_path / "sys/class/powercap/intel-rapl:0/energy_uj"
    joules = []
    for told in ("9500000", "500000", "500000", "400000"):
        counter.write_text(told)
        joules.append(meter.reading()[1])
    # 0.5 J, over the end 1 J more, nothing, and almost once around.
    assert joules == pytest.approx([0.5, 1.5, 1.5, 11.4])
    counter.write_text("")
    assert meter.reading() is None


def test_rapl_of_two_processors_and_of_a_platform(
    runner: ModuleType, tools: Any, tmp_path: Path
) -> None:
    both = rapl("0", "package-0", "1") | rapl("1", "package-1", "1")
    assert runner.best_meter(lay(tmp_path, both))[0].rail == "package-0 + package-1"
    lay(tmp_path, rapl("2", "psys", "1"))
    assert runner.best_meter(tmp_path)[0].rail == "psys", "the processors are in it"


def test_rapl_for_the_superuser_only(runner: ModuleType, tools: Any, tmp_path: Path) -> None:
    root = lay(tmp_path, rapl("0", "package-0", ""))
    assert runner.best_meter(root) == (
        None,
        "the processor counts its joules, but tells them to the superuser only",
    )


# Integration


def test_watts_are_integrated_by_trapezoids(
    runner: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """2 W for a second, a second's way up to 4 W, and a reading that fails between."""
    watts, clock = iter([2.0, 2.0, None, 4.0]), iter([10.0, 11.0, 11.5, 12.0])
    monkeypatch.setattr(runner.time, "monotonic", lambda: next(clock))
    meter = runner.Gauge("ina3221", ["VDD_IN"], lambda: next(watts), 0.05)
    readings = [meter.reading() for _ in range(4)]
    assert readings == [(10.0, 0.0), (11.0, 2.0), None, (12.0, 5.0)]


def test_the_mean_is_over_time_and_not_over_readings(runner: ModuleType) -> None:
    """1 W for 9 s in one step, 11 W for 1 s in four: 2 W on average."""
    readings = [(0.0, 0.0), (9.0, 9.0), *((9 + q / 4, 9 + 11 * q / 4) for q in range(1, 5))]
    found = runner.averaged(readings)
    assert found["watts"] == pytest.approx(2.0)
    assert (found["seconds"], found["readings"]) == (10.0, 6)
    assert found["deviation_w"] == pytest.approx(20**0.5, rel=1e-6)


def test_too_few_readings_tell_nothing(runner: ModuleType) -> None:
    assert runner.averaged([(0.0, 0.0), (1.0, 1.0)]) is None
    deaf = runner.Gauge("ina3221", ["VDD_IN"], lambda: None, 0.001)
    assert runner.metered(deaf, lambda: "done") == (None, "done")


def test_a_meter_is_read_beside_what_runs(runner: ModuleType) -> None:
    meter = runner.Gauge("ina3221", ["VDD_IN"], lambda: 3.0, 0.005)
    seen, done = runner.metered(meter, lambda: time.sleep(0.3) or "done")
    assert done == "done"
    assert seen["watts"] == pytest.approx(3.0)
    assert seen["readings"] > 10
    assert seen["seconds"] >= 0.3
