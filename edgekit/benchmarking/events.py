"""What the runner says, line by line: decoded strictly, because a device may say anything.

The runner travels in the bundle, so its lines are an interface between versions: unknown
fields are ignored, known ones must be right.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from edgekit.devices.android import THERMAL_STATUS
from edgekit.devices.output import clean
from edgekit.errors import RunnerFailed

MAX_SAMPLES = 1_000_000
"""Per process; the runner stops there too."""

_SHOWN = 120

Nanoseconds = Annotated[int, Meta(ge=0, le=10**15)]
Took = Annotated[int, Meta(ge=1, le=10**15)]
Bytes = Annotated[int, Meta(ge=0, le=2**53)]
MAX_OPERATIONS = 2000
MAX_WINDOWS = 10_000
MAX_TRTEXEC_PROCESSES = 16

Text = Annotated[str, Meta(max_length=500, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]
"""Without control characters: it ends up on terminals and in reports."""


Counts = Annotated[dict[Text, Annotated[int, Meta(ge=0)]], Meta(max_length=16)]


class _Event(Struct, frozen=True, kw_only=True, tag_field="event"):
    """One line of the runner's output."""


class Runtime(Struct, frozen=True, kw_only=True):
    """The runtime that ran the artifact."""

    name: Text
    module: Text
    version: Text


class Phase(_Event, tag="phase", frozen=True, kw_only=True):
    """Something begins that takes a while."""

    name: Text


class Device(_Event, tag="device", frozen=True, kw_only=True):
    """It is measured on another device than the runner runs on: this one, attached to it."""

    system: Text
    machine: Text
    cpu_model: Text
    cores: Annotated[int, Meta(ge=1, le=4096)]
    memory_total_bytes: Bytes


class Golden(_Event, tag="golden", frozen=True, kw_only=True):
    """The golden vectors were compared.

    Attributes:
        max_error: largest absolute error of all outputs; ``None``: not a number.
        worst_error: that of the output furthest beyond its tolerance.
    """

    passed: bool
    max_error: float | None
    worst_output: Text
    worst_error: float | None
    tolerance: float
    sample_count: Annotated[int, Meta(ge=1)]
    runtime: Runtime


class Process(_Event, tag="process", frozen=True, kw_only=True):
    """One measuring process ended.

    Attributes:
        windows_ns: what an undisturbed run took in each window, where it took turns with another
            process.
    """

    first_load_ns: Nanoseconds
    first_inference_ns: Nanoseconds
    samples_ns: Annotated[tuple[Nanoseconds, ...], Meta(min_length=1, max_length=MAX_SAMPLES)]
    windows_ns: Annotated[tuple[Took, ...], Meta(max_length=MAX_WINDOWS)] = ()


class Turn(_Event, tag="turn", frozen=True, kw_only=True):
    """What comes next is about the first (0) or the second (1) of two."""

    of: Literal[0, 1]


class Memory(_Event, tag="memory", frozen=True, kw_only=True):
    """The memory pass ended.

    Attributes:
        before_bytes: before a runtime was loaded, where that was asked for.
    """

    peak_memory_bytes: Bytes | None
    before_bytes: Bytes | None = None


class Placement(_Event, tag="placement", frozen=True, kw_only=True):
    """Where the runtime means to run the artifact.

    Attributes:
        operations: how many run on each processor; ``None``: the system does not tell.
    """

    compute_units: Text
    operations: Counts | None
    partitions: Counts | None = None


class PowerSeen(Struct, frozen=True, kw_only=True):
    """What a sensor saw for a while."""

    seconds: Annotated[float, Meta(gt=0, le=1e6)]
    watts: Annotated[float, Meta(ge=0, le=1e5)]
    deviation_w: Annotated[float, Meta(ge=0, le=1e5)]
    readings: Annotated[int, Meta(ge=1)]


class Energy(_Event, tag="energy", frozen=True, kw_only=True):
    """The energy pass ended; without a sensor it tells why, and nothing else."""

    why: Text = ""
    source: Text = ""
    rail: Text = ""
    resolution_w: Annotated[float, Meta(ge=0)] = 0.0
    estimate: bool = False
    idle: PowerSeen | None = None
    busy: PowerSeen | None = None
    runs: Annotated[int, Meta(ge=0)] = 0


class OperationTime(Struct, frozen=True, kw_only=True):
    """One operation of the graph; what a runtime calls it is not clean yet."""

    name: str
    kind: str
    where: str
    median_ns: Nanoseconds


class Profile(_Event, tag="profile", frozen=True, kw_only=True):
    """The profile pass ended; where the runtime has no profile it tells why, and nothing else."""

    why: Text = ""
    runs: Annotated[int, Meta(ge=0)] = 0
    operations: Annotated[tuple[OperationTime, ...], Meta(max_length=MAX_OPERATIONS)] = ()


class Trtexec(_Event, tag="trtexec", frozen=True, kw_only=True):
    """NVIDIA's own tool has measured; where it could not it tells why, and nothing else."""

    why: Text = ""
    version: Text = ""
    built_s: Annotated[float, Meta(ge=0, le=1e6)] | None = None
    log: Text = ""
    max_error: Annotated[float, Meta(ge=0)] = 0.0
    processes_ns: Annotated[
        tuple[Annotated[tuple[Took, ...], Meta(min_length=1, max_length=MAX_SAMPLES)], ...],
        Meta(max_length=MAX_TRTEXEC_PROCESSES),
    ] = ()


class Swept(_Event, tag="swept", frozen=True, kw_only=True):
    """One of many models was timed; ``windows_ns`` holds the median of each of its windows.

    Attributes:
        counting_ns: what counting took beside each window: how disturbed the device was.
        error: why it could not be run; not clean yet.
    """

    model: Text
    windows_ns: tuple[Nanoseconds, ...]
    counting_ns: tuple[Nanoseconds, ...]
    error: str | None = None


class Heat(Struct, frozen=True, kw_only=True):
    """What changes while a device runs hot; ``None``: it does not tell.

    Attributes:
        throttle_bits: a Raspberry Pi's; ``thermal_status``: Android's, by its number.
    """

    frequency_khz: float | None = None
    frequency_cap_khz: float | None = None
    temperature_celsius: float | None = None
    throttle_bits: Text | None = None
    thermal_status: Annotated[int, Meta(ge=0, lt=len(THERMAL_STATUS))] | None = None
    battery_celsius: float | None = None


class State(Heat, frozen=True, kw_only=True):
    """What decided the device's speed at one moment; ``None``: it does not tell.

    Attributes:
        power_mode: a Jetson's; ``clocks_locked``: whether they may not change there.
    """

    load_average: float | None = None
    governor: Text | None = None
    throttle_count: int | None = None
    power_mode: Text | None = None
    clocks_locked: bool | None = None
    gpu_frequency_cap_khz: float | None = None


class SustainedWindow(Heat, frozen=True, kw_only=True):
    """A stretch of a long run."""

    at_s: Annotated[float, Meta(ge=0, le=1e6)]
    runs: Annotated[int, Meta(ge=1)]
    median_ns: Annotated[int, Meta(ge=1, le=10**15)]


class Sustained(_Event, tag="sustained", frozen=True, kw_only=True):
    """The sustained pass ended."""

    before: Heat
    windows: Annotated[tuple[SustainedWindow, ...], Meta(min_length=1, max_length=MAX_WINDOWS)]


class Environment(_Event, tag="environment", frozen=True, kw_only=True):
    """The device before and after the measurement.

    Attributes:
        background_cores: how many cores others kept busy meanwhile, on average.
        device_lock: what kept others from measuring meanwhile; ``None``: nothing but the working
            folder's own lock.
        counting_ns: what the interpreter took to count beside the runs, in the median.
        least_counting_ns: the least of that, of all benches that the device remembers.
    """

    before: State
    after: State
    background_cores: float | None = None
    device_lock: Text | None = None
    counting_ns: Took | None = None
    least_counting_ns: Took | None = None
    clock: Text | None = None
    clock_resolution_s: float | None = None
    clock_source: Text | None = None


class Done(_Event, tag="done", frozen=True, kw_only=True):
    """All went well; nothing comes after this."""


class Error(_Event, tag="error", frozen=True, kw_only=True):
    """It did not go well; nothing comes after this. The texts are not clean yet."""

    kind: str
    message: str
    hint: str = ""


Measured = Memory | Energy | Profile | Trtexec | Sustained | Placement | Environment
"""What is told once, after the golden vectors."""

Event = Phase | Device | Golden | Process | Turn | Measured | Swept | Done | Error
_DECODER: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)


def decode(line: str) -> Event:
    """One line.

    Raises:
        RunnerFailed: it is not what the runner says.
    """
    try:
        return _DECODER.decode(line)
    except msgspec.MsgspecError as error:
        raise RunnerFailed(
            f"the runner said {clean(line[:_SHOWN])!r}, which is no answer: {clean(str(error))}",
            "something else writes to its standard output, or the answer was tampered with",
        ) from error
