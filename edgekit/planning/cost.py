"""What a recipe should cost on a device: latency per node, memory, size and energy, as intervals.

On the CPU a node costs its quantities (``kernels``) at the prices of a calibration
(``rates``): the device's own, or the shipped one scaled to it. On an accelerator it takes
the longer of its arithmetic and its traffic, and a dispatch (Williams, Waterman,
Patterson: "Roofline", CACM 52(4), 2009): nobody has measured those here.
"""

from __future__ import annotations

from collections.abc import Collection

from msgspec import Struct, structs

from edgekit.domain import (
    CPU,
    MIB,
    Accelerator,
    Calibration,
    DeviceProfile,
    Family,
    Format,
    Granularity,
    MemoryUse,
    Mode,
    ModelSummary,
    NodeSummary,
    PowerMode,
    Prediction,
    Quantization,
    Range,
    Rates,
    Recipe,
    Scaling,
    coreml,
)
from edgekit.planning import kernels, rates
from edgekit.planning.kernels import Family as OpFamily

_ACCELERATOR_EFFICIENCY = 0.15
_ACCELERATOR_DISPATCH_NS = 8_000.0
_ACCELERATOR_CALL_NS = 150_000.0
_ACCELERATOR_RUNTIME_BYTES = 400 * MIB
_NODE_BYTES = {Format.LITERT: 220, Format.ONNXRUNTIME: 330, Format.COREML: 750}
_STORED_BYTES = {"int8": 1.0, "int4": 0.5}
_UNCALIBRATED = (0.4, 2.5)
"""Low and high of a latency that was not calibrated, as factors of the expected value."""

_UNCALIBRATED_MEMORY = 2.0
_CALIBRATED_MEMORY_SPREAD = (0.85, 1.15)
_OWN_PROCESS = (Family.ANDROID, Family.APPLE)
"""Here the runtime is a part of the application: no Python of the runner's beside it."""


class _Speed(Struct, frozen=True, kw_only=True):
    """What a recipe runs on: the prices of its kernels and what its threads make of them.

    Attributes:
        cores: how many of the fastest cores the threads amount to.
        share: of the clock that the prices are for.
    """

    rates: Rates
    scaling: Scaling
    threads: int
    cores: float
    share: float
    spread: tuple[float, float]


class Machine(Struct, frozen=True, kw_only=True):
    """Peak rates of an accelerator in a power mode, in operations and bytes per nanosecond."""

    macs_per_ns: float
    bytes_per_ns: float


def predict(
    summary: ModelSummary,
    profile: DeviceProfile,
    recipe: Recipe,
    calibration: Calibration | None = None,
) -> Prediction:
    """Latency, peak memory, artifact size and energy of one inference.

    Args:
        summary: the network.
        profile: the device.
        recipe: format, precision, accelerator, threads and power mode.
        calibration: of this very device; ``None``: the profile's numbers serve.
    """
    latency_ms = sum(node_costs(summary, profile, recipe, calibration))
    latency_ms += _call_ns(summary, profile, recipe, calibration) / 1e6
    low, high = _UNCALIBRATED
    if recipe.accelerator == CPU:
        low, high = _speed(profile, recipe, calibration).spread
    latency = Range(latency_ms * low, latency_ms, latency_ms * high)
    size = size_bytes(summary, recipe)
    return Prediction(
        latency_ms=latency,
        peak_memory_bytes=_memory(summary, profile, recipe, size, calibration),
        size_bytes=Range(size * 0.95, size, size * 1.1 + 4096),
        energy_mj=_energy(profile, recipe, latency),
    )


def node_costs(
    summary: ModelSummary,
    profile: DeviceProfile,
    recipe: Recipe,
    calibration: Calibration | None = None,
) -> tuple[float, ...]:
    """Milliseconds of each node of ``summary.nodes``, in order; 0 for one that is folded away."""
    if recipe.accelerator != CPU:
        machine = machine_of(profile, recipe)
        return tuple(_accelerated_ns(node, recipe, machine) / 1e6 for node in summary.nodes)
    speed = _speed(profile, recipe, calibration)
    total = sum(_weight_bytes(node, recipe) for node in summary.nodes)
    return tuple(_cpu_ns(node, speed, total) / 1e6 for node in summary.nodes)


def raising_ms(
    summary: ModelSummary,
    profile: DeviceProfile,
    recipe: Recipe,
    nodes: Collection[str],
    calibration: Calibration | None = None,
) -> float:
    """What it adds that some nodes are computed with one precision more.

    Args:
        summary: the network.
        profile: the device.
        recipe: of the other nodes; static int8 is raised to float, four bits to eight.
        nodes: the raised ones, by their names in the summary.
        calibration: of this very device.
    """
    eight = recipe.quantization and structs.replace(recipe.quantization, weights="int8")
    higher = structs.replace(recipe, quantization=None if recipe.is_static else eight)
    before = node_costs(summary, profile, recipe, calibration)
    after = node_costs(summary, profile, higher, calibration)
    moved = zip(summary.nodes, before, after, strict=True)
    return sum(higher_ms - ms for node, ms, higher_ms in moved if node.name in nodes)


def machine_of(profile: DeviceProfile, recipe: Recipe) -> Machine:
    """What the recipe's accelerator reaches at most in its precision and power mode."""
    (found,) = [a for a in profile.accelerators if a.name == recipe.accelerator]
    share = profile.power.mode(recipe.power_mode).accelerator_share
    return Machine(
        macs_per_ns=_accelerator_tops(found, recipe) / 2 * 1000 * share,
        bytes_per_ns=profile.memory.bandwidth_gb_per_s,
    )


def size_bytes(summary: ModelSummary, recipe: Recipe) -> float:
    """The artifact's size: weights as stored, and the graph around them."""
    weights = sum(_weight_bytes(node, recipe) for node in summary.nodes)
    return weights + _NODE_BYTES[recipe.format] * len(summary.nodes)


def _speed(profile: DeviceProfile, recipe: Recipe, calibration: Calibration | None) -> _Speed:
    mode = profile.power.mode(recipe.power_mode)
    measured = rates.measured(calibration, recipe)
    return _Speed(
        rates=measured or rates.scaled(profile, recipe),
        scaling=rates.scaling(calibration, recipe),
        threads=recipe.threads,
        cores=_cores(profile, recipe.threads, mode),
        # A calibration was made in the mode that the device is in by default.
        share=mode.cpu_share / (profile.power.modes[0].cpu_share if measured else 1.0),
        spread=measured.spread if measured else _UNCALIBRATED,
    )


def _cores(profile: DeviceProfile, threads: int, mode: PowerMode) -> float:
    """How many of the fastest cores ``threads`` amount to.

    Work is dealt out evenly, so the slowest core that takes part decides.
    """
    clusters = [(c.max_clock_mhz * c.macs_per_cycle.float32, c.cores) for c in profile.cpu.clusters]
    fastest = clusters[0][0]
    cores = sorted((speed for speed, count in clusters for _ in range(count)), reverse=True)
    used = cores[: max(1, min(threads, mode.cpu_cores or len(cores)))]
    return len(used) * used[-1] / fastest


def _cpu_ns(node: NodeSummary, speed: _Speed, weight_bytes: float) -> float:
    """One node on the CPU: its quantities at their prices, less what other threads take on."""
    kind = kernels.family(node)
    if kind is OpFamily.FOLDED:
        return 0.0
    # What no calibration network has, or no tool could make, is taken for a matrix product.
    priced = speed.rates.kernels
    kernel = priced.get(kind.value, priced[OpFamily.POINTWISE.value])
    amounts = kernels.quantities(node, kernel, weight_bytes)
    priced_ns = {name: kernel.ns.get(name, 0.0) * amount for name, amount in amounts.items()}
    # All cores share the way to the memory.
    fetching = priced_ns.pop("spilled", 0.0)
    computing = sum(priced_ns.values())
    if speed.threads > 1:
        serial = speed.scaling.serial
        computing = computing * (serial + (1 - serial) / speed.cores) + speed.scaling.sync_ns
    return computing / speed.share + fetching


def _call_ns(
    summary: ModelSummary,
    profile: DeviceProfile,
    recipe: Recipe,
    calibration: Calibration | None,
) -> float:
    """What one inference costs beside its nodes."""
    if recipe.accelerator != CPU:
        return _ACCELERATOR_CALL_NS
    speed = _speed(profile, recipe, calibration)
    taken = sum(spec.elements for spec in summary.inputs)
    given = sum(spec.elements for spec in summary.outputs)
    called = speed.rates.call_ns + speed.rates.input_ns * taken + speed.rates.output_ns * given
    return called / speed.share


def _accelerated_ns(node: NodeSummary, recipe: Recipe, machine: Machine) -> float:
    if kernels.is_folded(node):
        return 0.0
    arithmetic = node.macs / (machine.macs_per_ns * _ACCELERATOR_EFFICIENCY)
    traffic = _node_bytes(node, recipe) / machine.bytes_per_ns
    return max(arithmetic, traffic) + _ACCELERATOR_DISPATCH_NS


def _accelerator_tops(accelerator: Accelerator, recipe: Recipe) -> float:
    tops = accelerator.tops
    by_precision = {"int8-static": tops.int8, "float16": tops.float16, "float32": tops.float32}
    return by_precision.get(rates.computed(recipe)) or 0.001


def _memory(
    summary: ModelSummary,
    profile: DeviceProfile,
    recipe: Recipe,
    size: float,
    calibration: Calibration | None,
) -> Range:
    """The runtime, the weights as it keeps them, and the arena of live activations."""
    use, measured = rates.memory(calibration, recipe)
    arena = summary.activation_peak_bytes * recipe.activation_bytes / 4
    base = use.base_bytes
    if profile.family in _OWN_PROCESS:
        base -= rates.process_bytes(calibration)
    base += _ACCELERATOR_RUNTIME_BYTES if recipe.accelerator != CPU else 0
    mid = base + _model_bytes(use, size, arena)
    # Whatever the runtime does, it holds the weights and the activations once.
    least = min(mid, size + arena)
    low, high = _CALIBRATED_MEMORY_SPREAD if measured else (0.0, _UNCALIBRATED_MEMORY)
    return Range(max(least, low * mid), mid, mid * high)


def _model_bytes(use: MemoryUse, size: float, arena: float) -> float:
    return use.per_weight_byte * size + use.per_arena_byte * arena


def _energy(profile: DeviceProfile, recipe: Recipe, latency: Range) -> Range:
    """Watts times milliseconds are millijoules.

    The processor that works draws what the mode allows it; idle cores draw their part of
    the idle power. Low: half of what is above idle. High: all that the mode allows.
    """
    mode = profile.power.mode(recipe.power_mode)
    idle = min(profile.power.idle_watts, mode.watts)
    busy = mode.watts
    if recipe.accelerator == CPU:
        cores = mode.cpu_cores or profile.cpu.cores
        busy = idle + (mode.watts - idle) * (0.25 + 0.75 * min(1.0, recipe.threads / cores))
    low = latency.low * (busy - idle) / 2 or latency.low * busy / 4
    return Range(low, latency.mid * busy, latency.high * mode.watts)


def _weight_bytes(node: NodeSummary, recipe: Recipe) -> float:
    """Quantized weights carry a scale, a zero point and an int32 bias per channel."""
    quantization = recipe.quantization
    if quantization is None or not (node.macs and node.parameters):
        return node.parameter_bytes
    if recipe.format is Format.COREML:
        return node.parameters * coreml.weight_bits(quantization) / 8
    if quantization.mode is Mode.FLOAT16:
        return node.parameter_bytes / 2
    shared = quantization.granularity is Granularity.PER_TENSOR
    scales = 1 if shared else kernels.channels(node)
    return node.parameters * _STORED_BYTES[_stored(node, quantization)] + 12.0 * scales


def _stored(node: NodeSummary, quantization: Quantization) -> str:
    """The type of a node's weights: where the tool has no four bits it takes eight."""
    wide = kernels.family(node) is OpFamily.DEPTHWISE or node.op == "ConvTranspose"
    return "int8" if wide and quantization.weights == "int4" else quantization.weights


def _node_bytes(node: NodeSummary, recipe: Recipe) -> float:
    activations = (node.input_elements + node.output_elements) * recipe.activation_bytes
    return activations + _weight_bytes(node, recipe)
