"""Which ways there are to make a network run on a device: data about formats and runtimes.

The variant of int8 follows from the instruction set: VNNI multiplies unsigned by signed
bytes, Arm's dot product signed by signed, TensorRT takes symmetric scales only. Recipes
come in stages: as the source stores it (0), in 16 or 8 bits (1), squeezed further (2).
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct, structs

from edgekit.domain import (
    CPU,
    Accelerator,
    CpuCluster,
    DeviceProfile,
    DeviceRuntime,
    Extension,
    Format,
    Granularity,
    Mode,
    PowerMode,
    Quantization,
    Recipe,
    Requirement,
)
from edgekit.planning import coreml

MAKES = (Format.LITERT, Format.ONNXRUNTIME, Format.COREML)
"""The formats this edgekit makes."""

ALL_MODES = "all"
"""Stands for every power mode of a profile."""

_FAST_SHARE = 1 / 3
"""Clusters at least this fast, by core, share the work with the fastest: a runtime splits a
layer evenly, and waits for the slowest of its threads."""

_VNNI = {Extension.AVX_VNNI, Extension.AVX512_VNNI}
_X86 = "x86_64"

INT8_NATIVE = frozenset({*_VNNI, Extension.DOTPROD, Extension.I8MM, Extension.AMX_INT8})
"""Extensions that multiply and accumulate several int8 pairs in one instruction."""

SQUEEZED = 2
"""The last stage: weights at 4 bits, or one scale for a whole tensor."""

_ACCURACY = (
    "float32",
    "float16",
    "int8-weight-only",
    "int8-static-int16",
    "int8-dynamic",
    "int8-static",
    "palettized-6bit",
    "palettized-4bit",
    "int4-weight-only",
    "int4-dynamic",
)


_SQUEEZED_WEIGHTS = ("int4", "lut4", "lut6")


class Unreachable(Struct, frozen=True):
    """What an accelerator would run beside a runtime, and why edgekit cannot make it run.

    Attributes:
        known: enough is known of the accelerator to say what it would cost.
    """

    recipe: Recipe
    reason: str
    known: bool = False


_UNREACHABLE_DELEGATES = {
    "edgetpu": "the Edge TPU takes only what Google's edgetpu_compiler has compiled, which "
    "edgekit cannot run; compile the full-int8 artifact with it",
}

_FOUR_BITS = "tflite-runtime 2.14 does not prepare 4-bit weights"
RUNTIME_REFUSES = {
    # Seen: ResNet-20 by ai-edge-quantizer 0.10 on tflite-runtime 2.14, top-1 0.05.
    ("tflite-runtime", "int8-dynamic"): "tflite-runtime 2.14 computes today's dynamic int8 "
    "wrongly, without an error",
    ("tflite-runtime", "int4-dynamic"): _FOUR_BITS,
    ("tflite-runtime", "int4-weight-only"): _FOUR_BITS,
}
"""(runtime, precision) -> why that runtime is not given such an artifact."""


def accuracy_class(recipe: Recipe) -> float:
    """How much accuracy a recipe puts at stake, as a rank: the smaller, the less."""
    pruned = len(_ACCURACY) if recipe.pruning else 0
    return pruned + _ACCURACY.index(recipe.precision) + 0.5 * _per_tensor(recipe.quantization)


def stage(recipe: Recipe) -> int:
    """How far a recipe goes to make the model small; see the module."""
    quantization = recipe.quantization
    if quantization is None:
        return 0
    squeezed = quantization.weights in _SQUEEZED_WEIGHTS or _per_tensor(quantization)
    return SQUEEZED if squeezed else 1


def runtimes(profile: DeviceProfile) -> tuple[DeviceRuntime, ...]:
    """One runtime for each format that edgekit makes: the one the profile prefers."""
    first = {f: r for r in reversed(profile.runtimes) for f in r.formats if f in MAKES}
    return tuple(r for r in profile.runtimes if r in first.values())


def recipes(profile: DeviceProfile) -> Iterator[Recipe | Unreachable]:
    """Every artifact worth a prediction, on every processor, the CPU first.

    With as many threads as the default power mode has fast cores.
    """
    for runtime in runtimes(profile):
        (format_,) = [f for f in runtime.formats if f in MAKES][:1]
        if format_ is Format.COREML:
            yield from _coreml(profile, runtime)
            continue
        for quantization in cpu_variants(format_, profile):
            yield Recipe(
                format=format_,
                runtime=runtime.name,
                quantization=quantization,
                threads=thread_counts(profile, profile.power.modes[0])[-1],
            )
        for accelerator in profile.accelerators:
            yield from _accelerated(format_, runtime, accelerator)


def _coreml(profile: DeviceProfile, runtime: DeviceRuntime) -> Iterator[Recipe | Unreachable]:
    """What the oldest system of the device can load, on each of its processors."""
    plain = Recipe(format=Format.COREML, runtime=runtime.name)
    release = coreml.release(profile, runtime)
    if release is None:
        reason = f"its system may have Core ML {runtime.versions}, too old for ML Programs"
        for accelerator in profile.accelerators:
            yield Unreachable(structs.replace(plain, accelerator=accelerator.name), reason)
        return
    processors = {CPU: None, **{a.name: a for a in profile.accelerators}}
    for name, processor in processors.items():
        for quantization in coreml.variants(processor, release):
            yield structs.replace(plain, accelerator=name, quantization=quantization)


def placements(
    recipe: Recipe, profile: DeviceProfile, modes: tuple[str, ...] = ()
) -> tuple[Recipe, ...]:
    """The same artifact with every number of threads and power mode worth a prediction.

    Args:
        recipe: one of ``recipes``.
        profile: the device.
        modes: names of power modes, or ``all``; empty: the default one.
    """
    default = profile.power.modes[0]
    named = profile.power.modes if ALL_MODES in modes else (*map(profile.power.mode, modes),)
    return tuple(
        structs.replace(recipe, threads=threads, power_mode=_named(mode, default))
        for mode in named or (default,)
        for threads in (thread_counts(profile, mode) if _is_told_threads(recipe) else (1,))
    )


def _is_told_threads(recipe: Recipe) -> bool:
    """Core ML decides for itself, and so does an accelerator."""
    return recipe.accelerator == CPU and recipe.format is not Format.COREML


def thread_counts(profile: DeviceProfile, mode: PowerMode) -> list[int]:
    """1, 2, 4 and so on up to the fast cores that the mode leaves on."""
    peaks = [_peak(cluster) for cluster in profile.cpu.clusters]
    clusters = zip(profile.cpu.clusters, peaks, strict=True)
    fast = sum(c.cores for c, peak in clusters if peak >= _FAST_SHARE * peaks[0])
    most = min(fast, mode.cpu_cores or fast)
    return [*(2**n for n in range(most.bit_length()) if 2**n < most), most]


def cpu_variants(format_: Format, profile: DeviceProfile) -> Iterator[Quantization | None]:
    """How a format's CPU kernels want a network quantized; ``None``: float32."""
    x86 = profile.cpu.architecture == _X86 and format_ is Format.ONNXRUNTIME
    reduced = x86 and not _VNNI & set(profile.cpu.clusters[0].extensions)
    static = Quantization(
        mode=Mode.STATIC,
        weights="int8",
        activations="uint8" if x86 else "int8",
        reduced_range=reduced,
    )
    dynamic = Quantization(
        mode=Mode.DYNAMIC, weights="int8", activations="float32", reduced_range=reduced
    )
    yield None
    yield Quantization(mode=Mode.FLOAT16, weights="float16", activations="float32")
    yield static
    yield dynamic
    yield Quantization(mode=Mode.WEIGHT_ONLY, weights="int8", activations="float32")
    yield structs.replace(static, granularity=Granularity.PER_TENSOR)
    if format_ is Format.ONNXRUNTIME:
        yield structs.replace(static, activations="uint16", reduced_range=False)
    if format_ is Format.LITERT:
        yield structs.replace(static, activations="int16", symmetric_activations=True)
        yield Quantization(mode=Mode.WEIGHT_ONLY, weights="int4", activations="float32")
        yield structs.replace(dynamic, weights="int4")


def _named(mode: PowerMode, default: PowerMode) -> str | None:
    """A mode as a recipe names it."""
    return None if mode == default else mode.name


def _peak(cluster: CpuCluster) -> float:
    return cluster.max_clock_mhz * cluster.macs_per_cycle.float32


def _per_tensor(quantization: Quantization | None) -> bool:
    return quantization is not None and quantization.granularity is Granularity.PER_TENSOR


def _accelerated(
    format_: Format, runtime: DeviceRuntime, accelerator: Accelerator
) -> Iterator[Recipe | Unreachable]:
    plain = Recipe(format=format_, runtime=runtime.name, accelerator=accelerator.name)
    variants = [
        structs.replace(plain, quantization=quantization)
        for quantization in _accelerator_variants(accelerator)
    ]
    delegate = accelerator.reached_by.get(runtime.name)
    if delegate is None:
        yield Unreachable(plain, f"{runtime.name} has no way to reach it")
    elif not variants:
        yield Unreachable(plain, "its throughput is not published")
    elif delegate in _UNREACHABLE_DELEGATES:
        yield Unreachable(variants[0], _UNREACHABLE_DELEGATES[delegate], known=True)
    else:
        yield from variants


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
