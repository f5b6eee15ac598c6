"""What a runtime's kernels cost on a device: measured there, or scaled from a machine that was.

``reference.json`` is what ``edgekit devices calibrate`` found on an x86-64 machine with
AMX. For a device without a calibration of its own its prices are scaled by
clock, throughput and bandwidth: an estimate, and the interval says so.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import msgspec
from msgspec import structs

from edgekit import profiles, resources
from edgekit.domain import (
    Calibration,
    CpuCluster,
    DeviceProfile,
    Extension,
    Format,
    MemoryUse,
    Mode,
    Rates,
    Recipe,
    RuntimeCalibration,
    Scaling,
)

_REFERENCE = Path(__file__).with_name("reference.json")

SAME_KERNELS = {
    (Format.LITERT, "float16"): "float32",
    (Format.ONNXRUNTIME, "float16"): "float32",
}
"""Precisions that differ in how weights are stored, not in what computes."""

SLOWER = {
    (Format.LITERT, "int8-static-int16"): 75.0,
    (Format.ONNXRUNTIME, "int8-static-int16"): 4.0,
}
"""Precisions that no kernel is made for, and how many times longer they take than float32.

The smaller of two figures, DS-CNN and ResNet-8 on one x86-64 core. LiteRT 2.3 falls back to its
reference kernels (76 and 127 times); ONNX Runtime 1.31 computes in float, and rounds between
the nodes (4.2 and 4.6 times).
"""

_UNPACKED = (Mode.WEIGHT_ONLY, Mode.PALETTIZED)
"""Core ML computes these in float16, on every processor."""

_STAND_INS = {Format.COREML: Format.ONNXRUNTIME}
"""Nobody has measured Core ML's kernels on the CPU here: those of another format serve."""

USUAL_SCALING = Scaling(serial=0.1, sync_ns=5000.0)
"""Amdahl with a tenth serial, and a wake-up per operator: two cores tell little about eight."""

_GAIN = 0.75
"""The exponent with which peak throughput counts: twice the peak is 1.7 times the speed.

One for arithmetic and for moving data, which a fit cannot tell well apart: both gain from
wide vectors, neither in proportion.
"""

_LANES = {Extension.AVX512: 16, Extension.AVX2: 8}
_FEWEST_LANES = 4
"""Elements of float32 in a vector: NEON and SSE have four."""

_REACHED = {("aarch64", Format.LITERT): 1.3}
"""How much more of its peak a core reaches than the reference does: narrow vectors waste less
of a block than AVX-512, and XNNPACK, which LiteRT runs on, has direct convolutions for them."""

_INT8_GAINS = {
    ("aarch64", Format.LITERT, "int8-static"): 1.0,
    ("aarch64", Format.LITERT, "int8-dynamic"): 0.7,
    ("aarch64", Format.ONNXRUNTIME, "int8-static"): 0.6,
    ("aarch64", Format.ONNXRUNTIME, "int8-dynamic"): 0.6,
    ("x86_64", Format.LITERT, "int8-static"): 0.8,
    ("x86_64", Format.LITERT, "int8-dynamic"): 0.6,
    ("x86_64", Format.ONNXRUNTIME, "int8-static"): 1.0,
    ("x86_64", Format.ONNXRUNTIME, "int8-dynamic"): 1.0,
}
"""How much of what int8 promises over float a runtime brings: estimates.

The reference multiplies int8 by AMX; what that takes says nothing about other cores. On
them int8 is float, faster by the ratio of the core's peaks. On Arm ONNX Runtime goes
through im2col. Dynamic int8 pays for finding the ranges of every activation.
"""

_DYNAMIC_FAMILIES = ("matmul", "dense", "recurrent")
"""What ONNX Runtime computes in dynamic int8: convolutions stay in float."""


def measured(calibration: Calibration | None, recipe: Recipe) -> Rates | None:
    """The prices measured on the device; ``None``: not calibrated for this precision."""
    runtime = _runtime(calibration, recipe.format)
    found = runtime.rates.get(_kernels_of(recipe)) if runtime else None
    return found and _slowed(found, recipe)


def scaled(profile: DeviceProfile, recipe: Recipe) -> Rates:
    """The reference's prices, scaled to the profile's fastest cores."""
    reference, cluster, bandwidth = _reference()
    own = profile.cpu.clusters[0]
    format_ = _STAND_INS.get(recipe.format, recipe.format)
    known = reference.runtimes[format_.value].rates
    found = _slowed(known[_kernels_of(recipe)], recipe)
    gains: dict[str, float] = {}
    if _is_int8(recipe) and Extension.AMX_INT8 not in own.extensions:
        found, gains = known["float32"], _int8_gains(profile, recipe, known["float32"])
    clock = cluster.max_clock_mhz / own.max_clock_mhz
    reached = _REACHED.get((profile.cpu.architecture, recipe.format), 1.0)
    computing = clock * _peak_ratio(cluster, own, recipe) ** _GAIN / reached
    fixed = {"calls": clock, "spilled": bandwidth / profile.memory.bandwidth_gb_per_s}
    return structs.replace(
        found,
        kernels={
            name: structs.replace(
                kernel,
                ns={
                    what: ns * fixed.get(what, computing) / gains.get(name, 1.0)
                    for what, ns in kernel.ns.items()
                },
                output_tile=max(1, round(kernel.output_tile * _lanes(own) / _lanes(cluster))),
            )
            for name, kernel in found.kernels.items()
        },
        call_ns=found.call_ns * clock,
        input_ns=found.input_ns * computing,
        output_ns=found.output_ns * computing,
    )


def _slowed(found: Rates, recipe: Recipe) -> Rates:
    """The prices of what has no kernel of its own."""
    factor = SLOWER.get((recipe.format, recipe.precision))
    if factor is None:
        return found
    kernels = {
        name: structs.replace(kernel, ns={what: factor * ns for what, ns in kernel.ns.items()})
        for name, kernel in found.kernels.items()
    }
    return structs.replace(found, kernels=kernels)


def scaling(calibration: Calibration | None, recipe: Recipe) -> Scaling:
    """What threads bring, as measured on the device; else what is usual."""
    found = _runtime(calibration, recipe.format)
    return found.scaling if found else USUAL_SCALING


def memory(calibration: Calibration | None, recipe: Recipe) -> tuple[MemoryUse, bool]:
    """What the runtime takes, and whether that was measured on the device."""
    found = _runtime(calibration, recipe.format)
    slow = (recipe.format, recipe.precision) in SLOWER
    precision = "int8-static" if slow else recipe.precision
    if found and precision in found.memory:
        return found.memory[precision], True
    format_ = _STAND_INS.get(recipe.format, recipe.format)
    precision = precision if format_ is recipe.format else "float32"
    return _reference()[0].runtimes[format_.value].memory[precision], False


def process_bytes(calibration: Calibration | None) -> float:
    """What a Python process takes before any runtime is loaded."""
    return (calibration or _reference()[0]).process_bytes


def _runtime(calibration: Calibration | None, format_: Format) -> RuntimeCalibration | None:
    return calibration.runtimes.get(format_.value) if calibration else None


def computed(recipe: Recipe) -> str:
    """The precision that is computed in, where weights are only stored in another."""
    quantization = recipe.quantization
    unpacked = quantization is not None and quantization.mode in _UNPACKED
    return "float16" if recipe.format is Format.COREML and unpacked else recipe.precision


def _kernels_of(recipe: Recipe) -> str:
    if recipe.format in _STAND_INS:
        return "float32"
    if (recipe.format, recipe.precision) in SLOWER:
        return "float32"
    return SAME_KERNELS.get((recipe.format, recipe.precision), recipe.precision)


def _is_int8(recipe: Recipe) -> bool:
    return recipe.format not in _STAND_INS and recipe.precision in ("int8-static", "int8-dynamic")


def _int8_gains(profile: DeviceProfile, recipe: Recipe, found: Rates) -> dict[str, float]:
    """Operator family -> how much faster than in float it is in int8."""
    own = profile.cpu.clusters[0].macs_per_cycle
    brought = _INT8_GAINS[profile.cpu.architecture, recipe.format, recipe.precision]
    gain = max(1.0, brought * (own.int8 / own.float32) ** _GAIN)
    partly = recipe.format is Format.ONNXRUNTIME and recipe.precision == "int8-dynamic"
    return dict.fromkeys(_DYNAMIC_FAMILIES if partly else found.kernels, gain)


def _peak_ratio(reference: CpuCluster, own: CpuCluster, recipe: Recipe) -> float:
    peaks = own.macs_per_cycle
    halves = recipe.format is Format.COREML and computed(recipe) == "float16"
    return reference.macs_per_cycle.float32 / ((halves and peaks.float16) or peaks.float32)


def _lanes(cluster: CpuCluster) -> int:
    return max((_LANES.get(e, 0) for e in cluster.extensions), default=0) or _FEWEST_LANES


@cache
def _reference() -> tuple[Calibration, CpuCluster, float]:
    """The shipped calibration, the cores it was made on, and their memory's bandwidth."""
    calibration = msgspec.json.decode(_REFERENCE.read_bytes(), type=Calibration)
    folder = resources.folder(profiles.PROJECT_FOLDER)
    profile = profiles.read(folder / f"{calibration.device}.toml")
    return calibration, profile.cpu.clusters[0], profile.memory.bandwidth_gb_per_s
