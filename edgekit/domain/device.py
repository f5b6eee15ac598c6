"""What is known about a device: facts with units, no host and no credentials.

The field names are the keys of ``device_profiles/*.toml``; every unit is in its key.
"""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Literal

from msgspec import Meta, Struct

Positive = Annotated[float, Meta(gt=0)]
Count = Annotated[int, Meta(ge=1)]
Slug = Annotated[str, Meta(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]

MIB = 1024 * 1024


Architecture = Literal["aarch64", "x86_64"]


class Family(Enum):
    """The kind of device, as ``edgekit devices`` groups them."""

    BOARD = "board"
    JETSON = "jetson"
    ANDROID = "android"
    APPLE = "apple"
    PC = "pc"


class Format(Enum):
    """The model formats edgekit makes; the value is the name used on the command line."""

    LITERT = "litert"
    ONNXRUNTIME = "onnxruntime"
    COREML = "coreml"


class Extension(Enum):
    """Vector extensions that decide int8 and float16 speed."""

    SSE4 = "sse4"
    AVX2 = "avx2"
    AVX_VNNI = "avx-vnni"
    AVX512 = "avx512"
    AVX512_VNNI = "avx512-vnni"
    AMX_INT8 = "amx-int8"
    NEON = "neon"
    FP16 = "fp16"
    DOTPROD = "dotprod"
    I8MM = "i8mm"
    BF16 = "bf16"
    SVE2 = "sve2"


class Requirement(Enum):
    """What an accelerator demands of a model before it takes it."""

    FULL_INT8 = "full-int8"
    SYMMETRIC_INT8 = "symmetric-int8"
    FLOAT16 = "float16"
    STATIC_SHAPES = "static-shapes"


class Throughput(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Multiply-accumulates per clock cycle of one core, by precision; ``None``: not native."""

    float32: Positive
    float16: Positive | None = None
    int8: Positive


class CpuCluster(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Cores of one kind."""

    core: Slug
    cores: Count
    max_clock_mhz: Positive
    extensions: tuple[Extension, ...]
    macs_per_cycle: Throughput


class Cpu(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The processor; clusters in order of speed, the fastest first."""

    architecture: Architecture
    clusters: Annotated[tuple[CpuCluster, ...], Meta(min_length=1)]

    @property
    def cores(self) -> int:
        return sum(cluster.cores for cluster in self.clusters)


class Tops(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Published peak of an accelerator, dense, in tera-operations per second (1 MAC = 2)."""

    int8: Positive | None = None
    float16: Positive | None = None
    float32: Positive | None = None


class Accelerator(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A processor beside the CPU and the way a runtime reaches it.

    Attributes:
        reached_by: the runtime's delegate or execution provider, by runtime name.
        requires: what a model must be before this accelerator takes it.
    """

    name: Slug
    kind: str
    tops: Tops
    reached_by: dict[str, str]
    requires: tuple[Requirement, ...] = ()


class Memory(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Main memory; ``model_budget_mib`` is what one model may take of it."""

    total_mib: Positive
    model_budget_mib: Positive
    bandwidth_gb_per_s: Positive


class PowerMode(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A power mode: its budget, and its share of the CPU's and accelerators' full speed."""

    name: Slug
    watts: Positive
    cpu_share: Annotated[float, Meta(gt=0, le=1)] = 1.0
    accelerator_share: Annotated[float, Meta(gt=0, le=1)] = 1.0
    cpu_cores: Count | None = None


class Power(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Power modes, the default first, and the draw when idle."""

    idle_watts: Positive
    modes: Annotated[tuple[PowerMode, ...], Meta(min_length=1)]

    def mode(self, name: str | None) -> PowerMode:
        """The mode of that name; ``None``: the default one."""
        return next(mode for mode in self.modes if name in (None, mode.name))


class Storage(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where a bundle lands."""

    kind: str
    total_gib: Positive
    read_mb_per_s: Positive


class DeviceRuntime(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A runtime the device takes; ``versions`` is a PEP 440 specifier."""

    name: Slug
    versions: str
    formats: Annotated[tuple[Format, ...], Meta(min_length=1)]


class DeviceProfile(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything planning knows about a device.

    Attributes:
        name: lower case with hyphens, the file's stem.
        runtimes: in order of preference.
        sources: dotted key (or its prefix) -> where its numbers are from; each number
            in the profile is covered by one.
    """

    name: Slug
    title: str
    family: Family
    os: str
    cpu: Cpu
    memory: Memory
    power: Power
    storage: Storage
    runtimes: Annotated[tuple[DeviceRuntime, ...], Meta(min_length=1)]
    accelerators: tuple[Accelerator, ...] = ()
    sources: dict[str, str]

    @property
    def formats(self) -> tuple[Format, ...]:
        """The formats this device takes, in order of preference, each once."""
        return tuple(dict.fromkeys(f for runtime in self.runtimes for f in runtime.formats))
