"""What a recipe should cost on a device: a roofline per node, with intervals.

Williams, Waterman, Patterson: "Roofline: an insightful visual performance model", CACM
52(4), 2009. A node takes the longer of its arithmetic at the runtime's efficiency and
its bytes at the memory's bandwidth, plus what the runtime spends to dispatch it. The
efficiencies are careful defaults, not calibrated on the device: the intervals say so.
"""

from __future__ import annotations

from enum import Enum

from msgspec import Struct

from edgekit.domain import (
    CPU,
    MIB,
    Accelerator,
    CpuCluster,
    DeviceProfile,
    Format,
    Mode,
    ModelSummary,
    NodeSummary,
    Prediction,
    Range,
    Recipe,
    coreml,
)


class OpFamily(Enum):
    """Operators whose kernels reach about the same share of the peak."""

    CONV = "conv"
    DEPTHWISE = "depthwise"
    DENSE = "dense"
    RECURRENT = "recurrent"
    OTHER = "other"


_FAMILIES = {
    "Conv": OpFamily.CONV,
    "ConvTranspose": OpFamily.CONV,
    "ConvInteger": OpFamily.CONV,
    "QLinearConv": OpFamily.CONV,
    "Gemm": OpFamily.DENSE,
    "MatMul": OpFamily.DENSE,
    "MatMulInteger": OpFamily.DENSE,
    "QLinearMatMul": OpFamily.DENSE,
    "LSTM": OpFamily.RECURRENT,
    "GRU": OpFamily.RECURRENT,
    "RNN": OpFamily.RECURRENT,
}

FUSED = frozenset(
    {"Relu", "LeakyRelu", "Clip", "Sigmoid", "HardSwish", "BatchNormalization", "Pad"}
    | {"Constant", "Identity", "Dropout", "Reshape", "Flatten", "Squeeze", "Unsqueeze"}
    | {"QuantizeLinear", "DequantizeLinear"}
)
"""Runtimes fold these into their neighbours: no dispatch and no traffic of their own."""

_EFFICIENCY = {
    "x86_64": {
        (Format.LITERT, "float32"): 0.45,
        (Format.LITERT, "int8-static"): 0.25,
        (Format.LITERT, "int8-dynamic"): 0.22,
        (Format.ONNXRUNTIME, "float32"): 0.55,
        (Format.ONNXRUNTIME, "float16"): 0.25,
        (Format.ONNXRUNTIME, "int8-static"): 0.33,
        (Format.ONNXRUNTIME, "int8-dynamic"): 0.30,
    },
    "aarch64": {
        (Format.LITERT, "float32"): 0.60,
        (Format.LITERT, "int8-static"): 0.45,
        (Format.LITERT, "int8-dynamic"): 0.40,
        (Format.ONNXRUNTIME, "float32"): 0.55,
        (Format.ONNXRUNTIME, "float16"): 0.25,
        (Format.ONNXRUNTIME, "int8-static"): 0.30,
        (Format.ONNXRUNTIME, "int8-dynamic"): 0.27,
        (Format.COREML, "float32"): 0.55,
        (Format.COREML, "float16"): 0.55,
    },
}
"""Share of the core's peak that convolutions reach, by architecture, format and precision.

x86: from ResNet-20 on AVX-512 VNNI. Arm: estimates; XNNPACK, which LiteRT runs on, has
direct int8 convolutions there where ONNX Runtime goes through im2col. Weights that are
only stored in fewer bits are unpacked when the model is loaded, and compute as float32.
"""

_STORED_ONLY = {(Format.LITERT, "float16"), (Format.LITERT, "int8-weight-only")} | {
    (Format.ONNXRUNTIME, "int8-weight-only")
}

_UNPACKED = (Mode.WEIGHT_ONLY, Mode.PALETTIZED)
"""Core ML computes these in float16, on every processor."""

_FAMILY_FACTOR = {
    OpFamily.CONV: 1.0,
    OpFamily.DEPTHWISE: 0.25,
    OpFamily.DENSE: 0.6,
    OpFamily.RECURRENT: 0.3,
    OpFamily.OTHER: 1.0,
}

_DYNAMIC_CONV_FACTOR = {Format.LITERT: 0.5, Format.ONNXRUNTIME: 0.06}
"""ONNX Runtime's ConvInteger is an unfused fallback: 5.2 ms where float takes 0.74 (ResNet-20)."""

_DISPATCH_NS = {Format.LITERT: 1500.0, Format.ONNXRUNTIME: 2500.0, Format.COREML: 2500.0}
_DISPATCH_CLOCK_MHZ = 3000.0
_ELEMENT_CYCLES = 0.25
"""Cycles per output element of operators without multiply-accumulates, vectorised."""

_ACCELERATOR_EFFICIENCY = 0.15
_ACCELERATOR_DISPATCH_NS = 8_000.0
_ACCELERATOR_CALL_NS = 150_000.0
_RUNTIME_BYTES = {Format.LITERT: 12 * MIB, Format.ONNXRUNTIME: 30 * MIB, Format.COREML: 20 * MIB}
_ACCELERATOR_RUNTIME_BYTES = 400 * MIB
_NODE_BYTES = {Format.LITERT: 220, Format.ONNXRUNTIME: 330, Format.COREML: 750}
_UNCALIBRATED = (0.4, 2.5)
"""Low and high of an uncalibrated latency, as factors of the expected value."""


class Machine(Struct, frozen=True, kw_only=True):
    """What a recipe runs on, at the device's default power mode: rates in operations per ns."""

    macs_per_ns: float
    clock_ghz: float
    bytes_per_ns: float
    watts: float
    idle_watts: float
    architecture: str


def predict(summary: ModelSummary, profile: DeviceProfile, recipe: Recipe) -> Prediction:
    """Latency, peak memory, artifact size and energy of one inference."""
    machine = machine_of(profile, recipe)
    busy_ns = sum(node_ns(node, recipe, machine) for node in summary.nodes)
    # Where every node is folded into another, one of them is still run.
    latency_ms = (busy_ns or _dispatch_ns(recipe, machine)) / 1e6
    if recipe.accelerator != CPU:
        latency_ms += _ACCELERATOR_CALL_NS / 1e6
    low, high = _UNCALIBRATED
    latency = Range(latency_ms * low, latency_ms, latency_ms * high)
    # Watts times milliseconds are millijoules.
    energy = (latency_ms * machine.watts, latency.high * machine.watts)
    size = size_bytes(summary, recipe)
    return Prediction(
        latency_ms=latency,
        peak_memory_bytes=_memory(summary, recipe, size),
        size_bytes=Range(size * 0.95, size, size * 1.1 + 4096),
        energy_mj=Range(latency.low * (machine.watts - machine.idle_watts) / 2, *energy),
    )


def family(node: NodeSummary) -> OpFamily:
    """Which kernels run a node."""
    if node.op in ("Conv", "QLinearConv") and node.channelwise:
        return OpFamily.DEPTHWISE
    return _FAMILIES.get(node.op, OpFamily.OTHER)


def machine_of(profile: DeviceProfile, recipe: Recipe) -> Machine:
    """The peak rates that the recipe's precision and processor have on the device."""
    mode = profile.power.modes[0]
    bandwidth = profile.memory.bandwidth_gb_per_s
    cluster = profile.cpu.clusters[0]
    clock = cluster.max_clock_mhz / 1000 * mode.cpu_share
    if recipe.accelerator == CPU:
        per_cycle = _macs_per_cycle(cluster, recipe)
        macs = per_cycle * clock * _speedup(min(recipe.threads, cluster.cores))
    else:
        (found,) = [a for a in profile.accelerators if a.name == recipe.accelerator]
        macs = _accelerator_tops(found, recipe) / 2 * 1000 * mode.accelerator_share
    return Machine(
        macs_per_ns=macs,
        clock_ghz=clock,
        bytes_per_ns=bandwidth,
        watts=mode.watts,
        idle_watts=min(profile.power.idle_watts, mode.watts),
        architecture=profile.cpu.architecture,
    )


def node_ns(node: NodeSummary, recipe: Recipe, machine: Machine) -> float:
    """One node's time in nanoseconds."""
    if node.op in FUSED:
        return 0.0
    accelerated = recipe.accelerator != CPU
    efficiency = _ACCELERATOR_EFFICIENCY
    if not accelerated:
        efficiency = _efficiency(recipe, machine.architecture) * _factor(node, recipe)
    arithmetic = node.macs / (machine.macs_per_ns * efficiency)
    if not node.macs and not accelerated:
        arithmetic = node.output_elements * _ELEMENT_CYCLES / machine.clock_ghz
    traffic = _node_bytes(node, recipe) / machine.bytes_per_ns
    return max(arithmetic, traffic) + _dispatch_ns(recipe, machine)


def size_bytes(summary: ModelSummary, recipe: Recipe) -> float:
    """The artifact's size: weights as stored, and the graph around them."""
    weights = sum(_weight_bytes(node, recipe) for node in summary.nodes)
    return weights + _NODE_BYTES[recipe.format] * len(summary.nodes)


def _memory(summary: ModelSummary, recipe: Recipe, size: float) -> Range:
    """Weights, the arena of live activations, and the runtime itself."""
    static = recipe.quantization is not None and recipe.quantization.mode is Mode.STATIC
    arena = summary.activation_peak_bytes * (0.25 if static else 1.0)
    runtime = _RUNTIME_BYTES[recipe.format]
    runtime += _ACCELERATOR_RUNTIME_BYTES if recipe.accelerator != CPU else 0
    packed = size * 2
    return Range(size + arena, runtime + packed + arena, runtime * 2 + packed * 1.5 + arena * 2)


def _dispatch_ns(recipe: Recipe, machine: Machine) -> float:
    if recipe.accelerator != CPU:
        return _ACCELERATOR_DISPATCH_NS
    return _DISPATCH_NS[recipe.format] * _DISPATCH_CLOCK_MHZ / 1000 / machine.clock_ghz


def _macs_per_cycle(cluster: CpuCluster, recipe: Recipe) -> float:
    rates = cluster.macs_per_cycle
    if recipe.format is Format.COREML:
        return (rates.float16 or rates.float32) if recipe.quantization else rates.float32
    if recipe.precision in ("int8-static", "int8-dynamic"):
        return rates.int8
    return rates.float32


def _efficiency(recipe: Recipe, architecture: str) -> float:
    key = (recipe.format, _computed(recipe))
    return _EFFICIENCY[architecture][(recipe.format, "float32") if key in _STORED_ONLY else key]


def _computed(recipe: Recipe) -> str:
    """The precision that is computed in, where weights are only stored in another."""
    quantization = recipe.quantization
    unpacked = quantization is not None and quantization.mode in _UNPACKED
    return "float16" if recipe.format is Format.COREML and unpacked else recipe.precision


def _accelerator_tops(accelerator: Accelerator, recipe: Recipe) -> float:
    tops = accelerator.tops
    by_precision = {"int8-static": tops.int8, "float16": tops.float16, "float32": tops.float32}
    return by_precision[_computed(recipe)] or 0.001


def _speedup(threads: int) -> float:
    """Amdahl with a tenth serial: what runtimes reach on networks of this size."""
    return threads / (1 + 0.1 * (threads - 1))


def _factor(node: NodeSummary, recipe: Recipe) -> float:
    kind = family(node)
    factor = _FAMILY_FACTOR[kind]
    if recipe.precision == "int8-dynamic" and kind in (OpFamily.CONV, OpFamily.DEPTHWISE):
        factor *= _DYNAMIC_CONV_FACTOR[recipe.format]
    return factor


def _weight_bytes(node: NodeSummary, recipe: Recipe) -> float:
    """Quantized weights carry a scale, a zero point and an int32 bias per channel."""
    quantized = node.macs and node.parameters and recipe.quantization is not None
    if not quantized:
        return node.parameter_bytes
    if recipe.format is Format.COREML:
        return node.parameters * coreml.weight_bits(recipe.quantization) / 8
    if recipe.precision == "float16":
        return node.parameter_bytes / 2
    convolved = family(node) in (OpFamily.CONV, OpFamily.DEPTHWISE)
    channels = node.output_shape[1 if convolved else -1] if node.output_shape else 1
    return node.parameters + 12.0 * channels


def _node_bytes(node: NodeSummary, recipe: Recipe) -> float:
    static = recipe.precision == "int8-static"
    activations = (node.input_elements + node.output_elements) * (1 if static else 4)
    return activations + _weight_bytes(node, recipe)
