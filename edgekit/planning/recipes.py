"""Which ways there are to make a network run on a device: data about formats and runtimes.

The variant of int8 follows from the instruction set: VNNI multiplies unsigned by signed
bytes, Arm's dot product signed by signed, TensorRT takes symmetric scales only.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from edgekit.domain import (
    CPU,
    Accelerator,
    CpuCluster,
    DeviceProfile,
    DeviceRuntime,
    Extension,
    Format,
    Mode,
    ModelSummary,
    Quantization,
    Recipe,
    Requirement,
)
from edgekit.planning import coreml

MAKES = (Format.LITERT, Format.ONNXRUNTIME, Format.COREML)
"""The formats this edgekit makes."""

MAX_THREADS = 4
_WORTH_THREADS_MACS = 50_000_000
"""Under this much work per inference, waking other cores costs about what it saves."""

_VNNI = {Extension.AVX_VNNI, Extension.AVX512_VNNI}
_X86 = "x86_64"

INT8_NATIVE = frozenset({*_VNNI, Extension.DOTPROD, Extension.I8MM, Extension.AMX_INT8})
"""Extensions that multiply and accumulate several int8 pairs in one instruction."""


class Unreachable(Struct, frozen=True):
    """An accelerator, beside a runtime, that no recipe can use, and why."""

    accelerator: Accelerator
    runtime: DeviceRuntime
    reason: str


_UNREACHABLE_DELEGATES = {
    "edgetpu": "the Edge TPU takes only what Google's edgetpu_compiler has compiled, which "
    "edgekit cannot run; compile the full-int8 artifact with it",
}


def runtimes(profile: DeviceProfile) -> tuple[DeviceRuntime, ...]:
    """One runtime for each format that edgekit makes: the one the profile prefers."""
    first = {f: r for r in reversed(profile.runtimes) for f in r.formats if f in MAKES}
    return tuple(r for r in profile.runtimes if r in first.values())


def recipes(profile: DeviceProfile, summary: ModelSummary) -> Iterator[Recipe | Unreachable]:
    """Every recipe worth a prediction, the CPU's first, in the order of the profile."""
    for runtime in runtimes(profile):
        (format_,) = [f for f in runtime.formats if f in MAKES][:1]
        if format_ is Format.COREML:
            yield from _coreml(profile, summary, runtime)
            continue
        cluster = profile.cpu.clusters[0]
        for quantization in cpu_variants(format_, profile.cpu.architecture, cluster):
            yield Recipe(
                format=format_,
                runtime=runtime.name,
                quantization=quantization,
                threads=threads(profile, summary),
            )
        for accelerator in profile.accelerators:
            yield from _accelerated(format_, runtime, accelerator)


def _coreml(
    profile: DeviceProfile, summary: ModelSummary, runtime: DeviceRuntime
) -> Iterator[Recipe | Unreachable]:
    """What the oldest system of the device can load, on each of its processors."""
    release = coreml.release(profile, runtime)
    if release is None:
        reason = f"its system may have Core ML {runtime.versions}, too old for ML Programs"
        yield from (Unreachable(a, runtime, reason) for a in profile.accelerators)
        return
    for accelerator in (None, *profile.accelerators):
        for quantization in coreml.variants(accelerator, release):
            yield Recipe(
                format=Format.COREML,
                runtime=runtime.name,
                accelerator=accelerator.name if accelerator else CPU,
                quantization=quantization,
                threads=1 if accelerator else threads(profile, summary),
            )


def threads(profile: DeviceProfile, summary: ModelSummary) -> int:
    """One for small work, else the fastest cores, up to four."""
    if summary.macs < _WORTH_THREADS_MACS:
        return 1
    return min(profile.cpu.clusters[0].cores, MAX_THREADS, profile.cpu.cores)


def cpu_variants(
    format_: Format, architecture: str, cluster: CpuCluster
) -> tuple[Quantization | None, ...]:
    """How a format's CPU kernels of that core want a network quantized; ``None``: float32."""
    x86 = architecture == _X86 and format_ is Format.ONNXRUNTIME
    vnni = bool(_VNNI & set(cluster.extensions))
    static = Quantization(
        mode=Mode.STATIC,
        weights="int8",
        activations="uint8" if x86 else "int8",
        reduced_range=x86 and not vnni,
    )
    return (
        None,
        Quantization(mode=Mode.FLOAT16, weights="float16", activations="float32"),
        static,
        Quantization(
            mode=Mode.DYNAMIC,
            weights="int8",
            activations="float32",
            reduced_range=x86 and not vnni,
        ),
        Quantization(mode=Mode.WEIGHT_ONLY, weights="int8", activations="float32"),
    )


def _accelerated(
    format_: Format, runtime: DeviceRuntime, accelerator: Accelerator
) -> Iterator[Recipe | Unreachable]:
    delegate = accelerator.reached_by.get(runtime.name)
    if delegate is None:
        yield Unreachable(accelerator, runtime, f"{runtime.name} has no way to reach it")
    elif delegate in _UNREACHABLE_DELEGATES:
        yield Unreachable(accelerator, runtime, _UNREACHABLE_DELEGATES[delegate])
    elif not (variants := tuple(_accelerator_variants(accelerator))):
        yield Unreachable(accelerator, runtime, "its throughput is not published")
    else:
        for quantization in variants:
            yield Recipe(
                format=format_,
                runtime=runtime.name,
                accelerator=accelerator.name,
                quantization=quantization,
            )


def _accelerator_variants(accelerator: Accelerator) -> Iterator[Quantization | None]:
    """What an accelerator computes natively, by its published throughput and demands."""
    full_int8 = Requirement.FULL_INT8 in accelerator.requires
    if accelerator.tops.int8:
        symmetric = Requirement.SYMMETRIC_INT8 in accelerator.requires
        yield Quantization(
            mode=Mode.STATIC, weights="int8", activations="int8", symmetric_activations=symmetric
        )
    if accelerator.tops.float16 and not full_int8:
        yield Quantization(mode=Mode.FLOAT16, weights="float16", activations="float16")
    if accelerator.tops.float32 and not full_int8:
        yield None
