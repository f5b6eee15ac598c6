"""What was measured on a device; raw samples are kept, figures are derived from them."""

from __future__ import annotations

from typing import Any

from msgspec import Struct


class Target(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where to run: ``local``, a host reached over SSH, or an Android device.

    Attributes:
        host: over adb the device's serial number, which may hold a port; empty: the only one.
        workdir: the folder on the device; relative to the home folder unless absolute;
            ``None``: the transport's default.
    """

    transport: str
    host: str = ""
    port: int | None = None
    user: str | None = None
    workdir: str | None = None

    def __str__(self) -> str:
        if self.transport == "local":
            return f"local:{self.workdir}" if self.workdir else "local"
        if self.transport == "adb":
            return f"adb://{self.host}{self.workdir or ''}"
        user = f"{self.user}@" if self.user else ""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = f":{self.port}" if self.port else ""
        return f"{self.transport}://{user}{host}{port}{self.workdir or ''}"


class DeviceRuntimeFound(Struct, frozen=True, kw_only=True):
    """A runtime found on the device: the Python module that provides it, and its version."""

    name: str
    module: str
    version: str


class DeviceFacts(Struct, frozen=True, kw_only=True):
    """What a device says about itself. Unknown fields are ignored: devices differ.

    Attributes:
        python: path of the interpreter that answered.
        abi: what compiled modules of that interpreter are marked by (its ``SOABI``):
            implementation, version and the processor that it was compiled for.
        fingerprint: sha256 over machine, CPU model, cores and memory: the same device
            gives the same one.
    """

    python: str
    python_version: str
    numpy_version: str | None
    system: str
    machine: str
    libc: str
    cpu_model: str
    cores: int
    memory_total_bytes: int | None
    cpu_flags: tuple[str, ...] = ()
    runtimes: tuple[DeviceRuntimeFound, ...] = ()
    fingerprint: str = ""
    abi: str = ""


class Deployment(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A verified bundle on a device."""

    target: str
    bundle_sha256: str
    path: str
    pushed_bytes: int
    skipped_bytes: int
    elapsed_s: float


class GoldenResult(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The golden vectors compared on the device."""

    passed: bool
    max_error: float
    sample_count: int


class ProcessSamples(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One measuring process: its loads, its first inference and every steady-state run."""

    first_load_ns: int
    first_inference_ns: int
    samples_ns: tuple[int, ...]


class Placement(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where a runtime that chooses among processors runs the artifact, or means to.

    Attributes:
        compute_units: what it may choose from.
        operations: how many run on each processor; ``None``: the system does not tell.
        partitions: into how many stretches each of them cuts the graph, where that is known.
    """

    compute_units: str
    operations: dict[str, int] | None
    partitions: dict[str, int] | None = None


class PowerSeen(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a sensor saw for a while: mean watts, and how much its readings differ from it."""

    seconds: float
    watts: float
    deviation_w: float
    readings: int


class Energy(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What inferences took beyond idling; without a sensor ``why`` says so, and the rest is empty.

    Attributes:
        source: ``ina3221``, ``tegrastats``, ``pmic`` or ``rapl``; ``rail``: what it sees.
        resolution_w: the smallest step that it tells.
        estimate: it does not see all that the device takes.
        idle: the model loaded, nothing running; ``busy``: one inference after another.
        runs: inferences meanwhile.
    """

    why: str = ""
    source: str = ""
    rail: str = ""
    resolution_w: float = 0.0
    estimate: bool = False
    idle: PowerSeen | None = None
    busy: PowerSeen | None = None
    runs: int = 0


class Heat(Struct, frozen=True, kw_only=True):
    """What changes while a device runs hot; ``None``: it does not tell."""

    frequency_khz: float | None = None
    frequency_cap_khz: float | None = None
    temperature_celsius: float | None = None
    throttle_bits: str | None = None
    thermal_status: int | None = None
    battery_celsius: float | None = None


class SustainedWindow(Heat, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A stretch of a long run: when it began, and the median of its runs."""

    at_s: float
    runs: int
    median_ns: int


class Sustained(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A long run without a pause, window by window."""

    before: Heat
    windows: tuple[SustainedWindow, ...]


class OperationTime(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What one operation of the graph takes, as the runtime names it, and where it runs."""

    name: str
    kind: str
    where: str
    median_ns: int


class Profile(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The operations in the order of execution; empty, and ``why``, where a runtime has none."""

    why: str = ""
    runs: int = 0
    operations: tuple[OperationTime, ...] = ()


class Trtexec(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What NVIDIA's own tool told of an engine that it built; or ``why`` it told nothing.

    Attributes:
        version: of TensorRT.
        built_s: ``None``: the engine was there already.
        log: where the build's log is kept on the device.
        max_error: the largest of its golden outputs.
        processes_ns: transfer in, computing and transfer out of each run, a process each.
    """

    why: str = ""
    version: str = ""
    built_s: float | None = None
    log: str = ""
    max_error: float = 0.0
    processes_ns: tuple[tuple[int, ...], ...] = ()


class BenchmarkResult(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A measurement on a device, with all it takes to compare it or to refuse it.

    Attributes:
        processes: raw samples, a process each.
        peak_memory_bytes: ``VmHWM`` of a process that only loads and runs; ``None``
            where the system does not tell.
        energy_mj: per inference, beyond idling; ``None`` without a sensor, or where idling takes
            as much.
        placement: where the operations run.
        energy: how ``energy_mj`` was measured; ``None``, as ``profile``, ``sustained`` and
            ``trtexec``: nobody asked.
        valid: whether the figures may be believed; ``why_invalid`` says why not.
    """

    bundle_sha256: str
    artifact_sha256: str
    target: str
    device: DeviceFacts
    runtime: DeviceRuntimeFound
    threads: int
    golden: GoldenResult
    processes: tuple[ProcessSamples, ...]
    peak_memory_bytes: int | None
    energy_mj: float | None
    pushed_bytes: int
    environment: dict[str, Any]
    valid: bool
    why_invalid: str | None
    placement: Placement | None = None
    energy: Energy | None = None
    profile: Profile | None = None
    sustained: Sustained | None = None
    trtexec: Trtexec | None = None

    @property
    def samples_ns(self) -> tuple[int, ...]:
        """Every steady-state sample of every process, in order."""
        return tuple(sample for process in self.processes for sample in process.samples_ns)
