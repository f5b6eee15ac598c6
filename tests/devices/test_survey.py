"""What devices say that they are, as the kernel's documentation has it, and as it is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekit import devices
from edgekit.devices.survey import Survey, read, survey
from edgekit.devices.transport import Transport
from edgekit.domain import Extension

PI4 = """

@@ uname
Linux 6.1.21-v8+ aarch64

@@ cpuinfo
{cpus}
Hardware\t: BCM2835
Model\t\t: Raspberry Pi 4 Model B Rev 1.4

@@ meminfo
MemTotal:        3884360 kB
MemFree:          123456 kB

@@ os
PRETTY_NAME="Debian GNU/Linux 11 (bullseye)"
NAME="Debian GNU/Linux"

@@ board
/sys/firmware/devicetree/base/model Raspberry Pi 4 Model B Rev 1.4

@@ cpus
{clocks}

@@ nodes
/dev/null
/dev/mem
/dev/dri/renderD128
/dev/apex_0

@@ usb
/sys/bus/usb/devices/1-1/idVendor 1a6e
/sys/bus/usb/devices/2-1/idVendor 1d6b
/sys/bus/usb/devices/1-1/idProduct 089a
/sys/bus/usb/devices/2-1/idProduct 0003

@@ thermal
/sys/class/thermal/thermal_zone0/type cpu-thermal

@@ hwmon
/sys/class/hwmon/hwmon0/name cpu_thermal
/sys/class/hwmon/hwmon1/name ina3221

@@ powercap

@@ battery

@@ tools
/usr/bin/vcgencmd

@@ disk
Filesystem     1024-blocks    Used Available Capacity Mounted on
/dev/root         30358492 4242424  24842188      15% /
"""
A72 = (
    "processor\t: {n}\nBogoMIPS\t: 108.00\nFeatures\t: fp asimd evtstrm crc32 cpuid\n"
    "CPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: 0xd08\n"
    "CPU revision\t: 3\n"
)
CLOCK = "/sys/devices/system/cpu/cpu{n}/cpufreq/cpuinfo_max_freq {khz}"


def test_a_raspberry_pi_4() -> None:
    found = read(
        PI4.format(
            cpus="\n".join(A72.format(n=n) for n in range(4)),
            clocks="\n".join(CLOCK.format(n=n, khz=1800000) for n in range(4)),
        ),
        "ssh://pi",
    )
    assert (found.machine, found.board) == ("aarch64", "Raspberry Pi 4 Model B Rev 1.4")
    assert found.os == "Debian GNU/Linux 11 (bullseye)"
    (cluster,) = found.clusters
    assert (cluster.core, cluster.cores, cluster.max_clock_mhz) == ("cortex-a72", 4, 1800.0)
    assert cluster.extensions == (Extension.NEON,)
    assert found.memory_total_bytes == 3884360 * 1024
    assert (found.storage_total_bytes, found.storage_free_bytes) == (
        30358492 * 1024,
        24842188 * 1024,
    )
    assert found.accelerators == ("Edge TPU (PCIe)", "GPU (render node)", "Edge TPU (USB)")
    assert found.sensors == ("temperature: cpu-thermal", "hwmon: cpu_thermal", "power: ina3221")
    assert found.tools == ("vcgencmd",)


def test_a_phone_with_three_kinds_of_cores() -> None:
    features = "fp asimd evtstrm aes asimdhp cpuid asimddp i8mm bf16 sve2"
    parts = ["0xd46"] * 4 + ["0xd4d"] * 4 + ["0xd4e"]
    khz = [1704000] * 4 + [2367000] * 4 + [2914000]
    cpus = "\n".join(
        f"processor\t: {n}\nFeatures\t: {features}\nCPU implementer\t: 0x41\nCPU part\t: {part}\n"
        for n, part in enumerate(parts)
    )
    clocks = "\n".join(CLOCK.format(n=n, khz=hertz) for n, hertz in enumerate(khz))
    found = read(
        f"@@ uname\nLinux 5.15.137 aarch64\n@@ cpuinfo\n{cpus}\n@@ cpus\n{clocks}\n"
        "@@ board\nandroid Google Pixel 8, Android 14\n@@ nodes\n/dev/mali0 /dev/kgsl-3d0x\n"
        "@@ battery_service\n  present: true\n  level: 50\n  scale: 100\n  temperature: 301\n"
        "@@ thermal_service\nThermal Status: 3\n",
        "adb",
    )
    assert [(c.core, c.cores, c.max_clock_mhz) for c in found.clusters] == [
        ("cortex-x3", 1, 2914.0),
        ("cortex-a715", 4, 2367.0),
        ("cortex-a510", 4, 1704.0),
    ]
    assert found.clusters[0].extensions == (
        Extension.NEON,
        Extension.FP16,
        Extension.DOTPROD,
        Extension.I8MM,
        Extension.BF16,
        Extension.SVE2,
    )
    assert found.board == "Google Pixel 8, Android 14"
    assert found.accelerators == ("Mali GPU",)
    assert found.battery_state is not None
    assert (found.battery_state.level, found.battery_state.temperature_c) == (0.5, 30.1)
    assert found.heat is not None
    assert found.heat.status == "severe"


@pytest.mark.parametrize("siblings", ["0,2 1,3 0,2 1,3", "0-1 0-1 2-3 2-3"])
def test_hyperthreads_are_one_core(siblings: str) -> None:
    cpus = "\n".join(
        f"processor\t: {n}\nmodel name\t: Intel(R) Core(TM) i3-7100U CPU @ 2.40GHz\n"
        "flags\t\t: fpu sse4_1 avx2\n"
        for n in range(4)
    )
    rows = "\n".join(
        f"/sys/devices/system/cpu/cpu{n}/topology/thread_siblings_list {list_}"
        for n, list_ in enumerate(siblings.split())
    )
    (cluster,) = read(f"@@ cpuinfo\n{cpus}\n@@ cpus\n{rows}\n", "x").clusters
    assert (cluster.core, cluster.cores, cluster.max_clock_mhz) == ("intel-core-i3-7100u", 2, None)
    assert cluster.extensions == (Extension.SSE4, Extension.AVX2)


@pytest.mark.parametrize(
    "said",
    [
        "",
        "@@ uname\n",
        "@@ cpuinfo\nprocessor\n:\n@@ meminfo\nMemTotal: many kB\n@@ disk\ndf: /: no\n",
        "@@ cpus\n/sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq <unknown>\n",
        "\x00\xff@@\n@@ uname uname\n@@ disk\n 1 2 3",
    ],
)
def test_what_is_not_said_is_not_known(said: str) -> None:
    found = read(said, "x")
    assert (found.clusters, found.memory_total_bytes, found.storage_total_bytes) == ((), None, None)
    assert (found.accelerators, found.sensors, found.board) == ((), (), "")


def test_a_part_that_is_not_known_and_a_clock_that_is_nonsense() -> None:
    said = (
        "@@ cpuinfo\nprocessor : 0\nCPU implementer : 0x99\nCPU part : 0x1\nFeatures : asimd\n"
        "@@ cpus\n/sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq -5\n"
    )
    (cluster,) = read(said, "x").clusters
    assert (cluster.core, cluster.max_clock_mhz) == (None, None)


def test_what_a_device_says_is_disarmed() -> None:
    board = "@@ board\n/sys/class/dmi/id/product_name \x1b[31mEvil\x1b]0;t\x07 Box\n"
    found = read(f"{board}@@ uname\nA \x1b[0m B\n", "x")
    assert (found.board, found.system) == ("Evil Box", "A B")


def check_this_machine(found: Survey) -> None:
    assert found.machine in ("x86_64", "aarch64")
    assert found.cores >= 1
    assert found.memory_total_bytes
    assert found.storage_total_bytes
    assert found.pythons


def test_this_machine(local: Transport) -> None:
    check_this_machine(survey(local))


def test_over_ssh(ssh: Transport) -> None:
    check_this_machine(survey(ssh))


def test_a_device_without_python_answers(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    for tool in ("sh", "cat", "uname", "tr", "ls", "df", "dirname"):
        (bin_folder / tool).symlink_to(
            f"/bin/{tool}" if Path(f"/bin/{tool}").exists() else f"/usr/bin/{tool}"
        )
    monkeypatch.setattr("edgekit.devices.local.LocalTransport.pythons", ())
    monkeypatch.setenv("PATH", str(bin_folder))
    with devices.connect(devices.parse(f"local:{tmp_path / 'work'}")) as device:
        found = survey(device)
    assert found.cores >= 1
    assert (found.pythons, found.python_problem) == ((), None)
