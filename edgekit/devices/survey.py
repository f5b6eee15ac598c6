"""What a device is: processor, memory, accelerators, sensors, storage, and its Pythons.

Asked by one POSIX shell script that reads what Linux tells anyone (``/proc/cpuinfo``, ``/sys``),
so that a device without Python answers, too. The files are those of the kernel's
Documentation: ``ABI/stable/sysfs-devices-system-cpu``, ``admin-guide/pm/cpufreq``,
``driver-api/thermal/sysfs-api``, ``hwmon/sysfs-interface``, ``power/powercap``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from msgspec import Struct

from edgekit.devices import android
from edgekit.devices.android import Battery, Heat
from edgekit.devices.output import clean
from edgekit.devices.probe import probe
from edgekit.devices.transport import Transport
from edgekit.domain import DeviceFacts, Extension
from edgekit.errors import DeviceError, RunnerFailed

_SCRIPT = r"""
section() { printf '\n@@ %s\n' "$1"; }
each() { for f; do [ -r "$f" ] && printf '%s %s\n' "$f" "$(tr '\0\n' '  ' < "$f")"; done; }
section uname; uname -srm
section cpuinfo; cat /proc/cpuinfo
section meminfo; cat /proc/meminfo
section os; cat /etc/os-release
section board
each /sys/firmware/devicetree/base/model /sys/class/dmi/id/product_name
command -v getprop >/dev/null && echo "android $(getprop ro.product.manufacturer) \
$(getprop ro.product.model), Android $(getprop ro.build.version.release)"
section cpus
each /sys/devices/system/cpu/cpu[0-9]*/cpufreq/cpuinfo_max_freq \
  /sys/devices/system/cpu/cpu[0-9]*/topology/thread_siblings_list
section nodes; ls -d /dev/* /dev/dri/* /dev/accel/*
section usb; each /sys/bus/usb/devices/*/idVendor /sys/bus/usb/devices/*/idProduct
section thermal; each /sys/class/thermal/thermal_zone*/type
section hwmon; each /sys/class/hwmon/hwmon*/name
section powercap; each /sys/class/powercap/*/name
section battery; each /sys/class/power_supply/*/type
section tools
for tool in vcgencmd nvpmodel jetson_clocks tegrastats nvidia-smi trtexec dumpsys; do
  command -v $tool
done
if command -v dumpsys >/dev/null; then
  section battery_service; dumpsys battery
  section thermal_service; dumpsys thermalservice
fi
section disk
d=$1; while [ ! -d "$d" ]; do d=$(dirname "$d"); done; df -Pk "$d"
exit 0
"""
_SCRIPT_S = 60.0
_SECTION = re.compile(r"^@@ (\w+)$", re.MULTILINE)
_DF = re.compile(r"\s(\d+)\s+\d+\s+(-?\d+)\s+\d+%\s")
_CPU = re.compile(r"/cpu(\d+)/")
_KIB, _MHZ_KHZ = 1024, 1000
_MAX_CPUS = 1024

# MIDR_EL1's implementer and part: the kernel's arch/arm64/include/asm/cputype.h, and for what it
# does not need to know util-linux's sys-utils/lscpu-arm.c.
_ARM_CORES = {
    ("0x41", part): f"cortex-{name}"
    for part, name in {
        "0xd03": "a53", "0xd04": "a35", "0xd05": "a55", "0xd07": "a57", "0xd08": "a72",
        "0xd09": "a73", "0xd0a": "a75", "0xd0b": "a76", "0xd0d": "a77", "0xd0e": "a76ae",
        "0xd41": "a78", "0xd42": "a78ae", "0xd44": "x1", "0xd46": "a510", "0xd47": "a710",
        "0xd48": "x2", "0xd4b": "a78c", "0xd4c": "x1c", "0xd4d": "a715", "0xd4e": "x3",
        "0xd80": "a520", "0xd81": "a720", "0xd82": "x4", "0xd85": "x925", "0xd87": "a725",
    }.items()
} | {
    ("0x41", "0xd0c"): "neoverse-n1", ("0x41", "0xd40"): "neoverse-v1",
    ("0x41", "0xd49"): "neoverse-n2", ("0x41", "0xd4f"): "neoverse-v2",
    ("0x4e", "0x003"): "denver2", ("0x4e", "0x004"): "carmel",
    ("0x51", "0x802"): "kryo-385-gold", ("0x51", "0x803"): "kryo-385-silver",
    ("0x51", "0x804"): "kryo-485-gold", ("0x51", "0x805"): "kryo-485-silver",
}  # fmt: skip

# As the kernel spells them: arch/arm64/kernel/cpuinfo.c, arch/x86/include/asm/cpufeatures.h.
_EXTENSIONS = {
    "sse4_1": Extension.SSE4, "avx2": Extension.AVX2, "avx_vnni": Extension.AVX_VNNI,
    "avx512f": Extension.AVX512, "avx512_vnni": Extension.AVX512_VNNI,
    "amx_int8": Extension.AMX_INT8, "asimd": Extension.NEON, "neon": Extension.NEON,
    "asimdhp": Extension.FP16, "asimddp": Extension.DOTPROD, "i8mm": Extension.I8MM,
    "bf16": Extension.BF16, "sve2": Extension.SVE2,
}  # fmt: skip

_ACCELERATORS = {
    r"/dev/apex_\d+": "Edge TPU (PCIe)",
    r"/dev/hailo\d+": "Hailo",
    r"/dev/nvidia\d+|/dev/nvhost-gpu|/dev/nvgpu": "NVIDIA GPU",
    r"/dev/nvhost-nvdla\d+": "NVDLA",
    r"/dev/mali\d+": "Mali GPU",
    r"/dev/kgsl-3d\d+": "Adreno GPU",
    r"/dev/rknpu": "Rockchip NPU",
    r"/dev/accel/accel\d+": "compute accelerator",
    r"/dev/dri/renderD\d+": "GPU (render node)",
}
"""Device files of drivers, and what they drive."""

_USB_ACCELERATORS = {
    ("1a6e", "089a"): "Edge TPU (USB)",
    ("18d1", "9302"): "Edge TPU (USB)",
    ("03e7", "2485"): "Movidius Myriad X (USB)",
}
_SENSORS = {"thermal": "temperature", "hwmon": "hwmon", "powercap": "energy", "battery": "supply"}
_POWER_MONITORS = ("ina3221", "ina219", "ina226", "ina2xx")


class CoreCluster(Struct, frozen=True, kw_only=True):
    """Cores of one kind.

    Attributes:
        core: as profiles name it; ``None``: a part that is not known.
        cores: physical ones.
        max_clock_mhz: ``None`` where the system does not tell, as in virtual machines.
    """

    core: str | None
    cores: int
    max_clock_mhz: float | None
    extensions: tuple[Extension, ...]


class Survey(Struct, frozen=True, kw_only=True):
    """What a device told about itself.

    Attributes:
        board: its maker's name for it; empty: it does not tell.
        clusters: the fastest first.
        accelerators: what device files of drivers, and USB, show.
        sensors: what could tell temperature, power or energy.
        tools: of its vendor, on the PATH.
        pythons: every interpreter that answered, with its runtimes.
        python_problem: why none did, though there is one.
        battery_state: of a phone; ``None``: it tells of none.
        heat: likewise.
    """

    target: str
    system: str
    machine: str
    os: str
    board: str
    clusters: tuple[CoreCluster, ...]
    memory_total_bytes: int | None
    storage_total_bytes: int | None
    storage_free_bytes: int | None
    accelerators: tuple[str, ...]
    sensors: tuple[str, ...]
    tools: tuple[str, ...]
    pythons: tuple[DeviceFacts, ...]
    python_problem: str | None = None
    battery_state: Battery | None = None
    heat: Heat | None = None

    @property
    def cores(self) -> int:
        return sum(cluster.cores for cluster in self.clusters)


def survey(transport: Transport) -> Survey:
    """Ask a device what it is.

    Raises:
        ConnectionFailed: the connection was lost.
        DeviceError: it runs no shell.
    """
    argv = ["sh", "-c", _SCRIPT, "sh", transport.workdir]
    done = transport.run(argv, timeout_s=_SCRIPT_S)
    if not done.ok:
        raise DeviceError(f"{transport.target}: it runs no shell: {clean(done.stderr)}")
    problem = None
    try:
        pythons = probe(transport)
    except RunnerFailed as error:
        pythons, problem = (), error.message
    return read(done.stdout.decode("utf-8", "replace"), str(transport.target), pythons, problem)


def read(
    said: str, target: str, pythons: tuple[DeviceFacts, ...] = (), problem: str | None = None
) -> Survey:
    """What the script's output means; what it lacks is ``None`` or empty."""
    parts = _SECTION.split(said)
    sections = dict(zip(parts[1::2], parts[2::2], strict=True))
    disk = _DF.findall(sections.get("disk", ""))
    system = clean(sections.get("uname", ""))
    return Survey(
        target=target,
        system=system,
        machine=system.rpartition(" ")[2],
        os=_os(sections.get("os", "")),
        board=_board(sections.get("board", "")),
        clusters=_clusters(sections.get("cpuinfo", ""), _by_file(sections.get("cpus", ""))),
        memory_total_bytes=_memory(sections.get("meminfo", "")),
        storage_total_bytes=int(disk[-1][0]) * _KIB if disk else None,
        storage_free_bytes=max(0, int(disk[-1][1])) * _KIB if disk else None,
        accelerators=_accelerators(sections),
        sensors=_sensors(sections),
        tools=_last_parts(sections.get("tools", "").split()),
        pythons=pythons,
        python_problem=problem,
        battery_state=android.battery(sections.get("battery_service", "")),
        heat=android.heat(sections.get("thermal_service", "")),
    )


def _by_file(section: str) -> dict[str, str]:
    """The lines of ``each``: a file, and what it says."""
    rows = (line.partition(" ") for line in section.splitlines() if line.startswith("/"))
    return {path: clean(value) for path, _, value in rows}


def _last_parts(paths: Iterable[str]) -> tuple[str, ...]:
    return tuple(clean(path.rpartition("/")[2]) for path in paths)


def _os(release: str) -> str:
    found = re.search(r'^PRETTY_NAME="?([^"\n]*)', release, re.MULTILINE)
    return clean(found[1]) if found else ""


def _board(section: str) -> str:
    android = [line for line in section.splitlines() if line.startswith("android ")]
    if android:
        return clean(android[0].removeprefix("android "))
    return next((value for value in _by_file(section).values() if value), "")


def _memory(meminfo: str) -> int | None:
    found = re.search(r"^MemTotal:\s+(\d+) kB", meminfo, re.MULTILINE)
    return int(found[1]) * _KIB if found else None


def _clusters(cpuinfo: str, files: Mapping[str, str]) -> tuple[CoreCluster, ...]:
    """Cores that are of one part and one clock together; hyperthreads of a core count once."""
    counts: dict[tuple[str | None, float | None, tuple[Extension, ...]], int] = {}
    for number, fields in _processors(cpuinfo):
        siblings = files.get(f"/sys/devices/system/cpu/cpu{number}/topology/thread_siblings_list")
        if siblings and re.split(r"[,-]", siblings)[0] != number:
            continue
        khz = files.get(f"/sys/devices/system/cpu/cpu{number}/cpufreq/cpuinfo_max_freq", "")
        clock_mhz = int(khz) / _MHZ_KHZ if khz.isdecimal() else None
        kind = (_core(fields), clock_mhz, _extensions(fields))
        counts[kind] = counts.get(kind, 0) + 1
    found = (
        CoreCluster(core=core, cores=cores, max_clock_mhz=clock, extensions=extensions)
        for (core, clock, extensions), cores in counts.items()
    )
    return tuple(sorted(found, key=lambda cluster: -(cluster.max_clock_mhz or 0)))


def _processors(cpuinfo: str) -> list[tuple[str, dict[str, str]]]:
    """Each processor's number and fields."""
    found: list[tuple[str, dict[str, str]]] = []
    for line in cpuinfo.splitlines():
        key, _, value = (part.strip() for part in line.partition(":"))
        if key == "processor" and value.isdecimal() and len(found) < _MAX_CPUS:
            found.append((value, {}))
        elif found and key:
            found[-1][1].setdefault(key, value)
    return found


def _core(fields: Mapping[str, str]) -> str | None:
    if name := fields.get("model name"):
        slug = re.sub(r"\((R|TM|tm)\)|CPU|@.*", " ", name).lower()
        return "-".join(re.findall(r"[a-z0-9]+", slug)) or None
    part = fields.get("CPU implementer", ""), fields.get("CPU part", "").lower()
    return _ARM_CORES.get(part)


def _extensions(fields: Mapping[str, str]) -> tuple[Extension, ...]:
    words = set((fields.get("flags") or fields.get("Features") or "").split())
    found = {extension for word, extension in _EXTENSIONS.items() if word in words}
    return tuple(extension for extension in Extension if extension in found)


def _accelerators(sections: Mapping[str, str]) -> tuple[str, ...]:
    nodes = sections.get("nodes", "").split()
    driven = [
        name
        for pattern, name in _ACCELERATORS.items()
        if any(re.fullmatch(pattern, node) for node in nodes)
    ]
    files = _by_file(sections.get("usb", ""))
    plugged = [
        name
        for path, vendor in files.items()
        if path.endswith("/idVendor")
        and (name := _USB_ACCELERATORS.get((vendor, files.get(path[:-8] + "idProduct", ""))))
    ]
    return tuple(dict.fromkeys([*driven, *plugged]))


def _sensors(sections: Mapping[str, str]) -> tuple[str, ...]:
    found = []
    for section, kind in _SENSORS.items():
        for value in _by_file(sections.get(section, "")).values():
            of_power = section == "hwmon" and value.startswith(_POWER_MONITORS)
            found.append(f"{'power' if of_power else kind}: {value}")
    return tuple(dict.fromkeys(found))
