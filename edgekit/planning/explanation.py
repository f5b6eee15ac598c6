"""Why a plan is as it is: the device's limits, the layers that weigh, the alternatives."""

from __future__ import annotations

from edgekit.calibrations import Basis
from edgekit.domain import (
    CPU,
    MIB,
    Alternative,
    DeviceProfile,
    Explanation,
    LayerCost,
    MemorySplit,
    ModelSummary,
    Plan,
    Prediction,
    Recipe,
)
from edgekit.planning import cost, pruned

HEAVIEST = 10


def explain(
    summary: ModelSummary, profile: DeviceProfile, made: Plan, basis: Basis | None = None
) -> Explanation:
    """Explain a plan by its first candidate.

    Args:
        summary: the network it was made for.
        profile: the device it was made for.
        made: as ``plan`` gave it: with a candidate at least.
        basis: what it was made with.
    """
    chosen = made.candidates[0]
    alternatives = [
        *((c.recipe, c.prediction, None) for c in made.candidates[1:]),
        *((r.recipe, r.prediction, r.reason) for r in made.rejected if r.prediction),
    ]
    return Explanation(
        limits=_limits(profile, chosen.recipe),
        layers=_layers(summary, profile, chosen.recipe, basis or Basis()),
        memory=_memory(summary, profile, chosen.prediction),
        alternatives=tuple(
            _against(chosen.prediction, recipe, prediction, why_not)
            for recipe, prediction, why_not in alternatives
        ),
    )


def _limits(profile: DeviceProfile, recipe: Recipe) -> tuple[str, ...]:
    """What bounds the device in the recipe's power mode, a sentence each."""
    mode, memory = profile.power.mode(recipe.power_mode), profile.memory
    default = "its default mode" if recipe.power_mode is None else "one of its modes"
    clusters = " and ".join(
        f"{c.cores} {c.core} at {c.max_clock_mhz * mode.cpu_share:.0f} MHz"
        for c in profile.cpu.clusters
    )
    on = f", {mode.cpu_cores} of them on" if mode.cpu_cores else ""
    return (
        f"{mode.watts:g} W in {mode.name}, {default}; {profile.power.idle_watts:g} W idle",
        f"{clusters}{on}",
        f"{memory.model_budget_mib:g} MiB of its {memory.total_mib:g} MiB for a model, at "
        f"{memory.bandwidth_gb_per_s:g} GB/s",
        *_accelerator(profile, recipe, mode.accelerator_share),
    )


def _accelerator(profile: DeviceProfile, recipe: Recipe, share: float) -> tuple[str, ...]:
    """The throughput of the accelerator that the recipe runs on."""
    if recipe.accelerator == CPU:
        return ()
    (found,) = [a for a in profile.accelerators if a.name == recipe.accelerator]
    peaks = {"int8": found.tops.int8, "float16": found.tops.float16, "float32": found.tops.float32}
    known = ", ".join(f"{peak * share:.3g} TOPS {name}" for name, peak in peaks.items() if peak)
    return (f"{found.name}: {known}",)


def _layers(
    summary: ModelSummary, profile: DeviceProfile, recipe: Recipe, basis: Basis
) -> tuple[LayerCost, ...]:
    """The heaviest by time, the heaviest first; of equals the first to run."""
    summary = pruned.scaled(summary, recipe.pruning)
    costs = cost.node_costs(summary, profile, recipe, basis.calibration)
    total = sum(costs) or 1.0
    ranked = sorted(zip(summary.nodes, costs, strict=True), key=lambda pair: -pair[1])
    return tuple(
        LayerCost(
            name=node.name,
            op=node.op,
            latency_ms=milliseconds,
            latency_share=milliseconds / total,
            weight_bytes=node.parameter_bytes,
            weight_share=node.parameter_bytes / (summary.parameter_bytes or 1),
            activation_elements=node.output_elements,
        )
        for node, milliseconds in ranked[:HEAVIEST]
        if milliseconds
    )


def _memory(summary: ModelSummary, profile: DeviceProfile, prediction: Prediction) -> MemorySplit:
    """The expected peak: the artifact's bytes, the live activations, and all the rest."""
    peak, weights = prediction.peak_memory_bytes.mid, prediction.size_bytes.mid
    activations = min(float(summary.activation_peak_bytes), peak - weights)
    return MemorySplit(
        peak=peak,
        weights=weights,
        activations=activations,
        rest=peak - weights - activations,
        budget=profile.memory.model_budget_mib * MIB,
    )


def _against(
    chosen: Prediction, recipe: Recipe, other: Prediction, why_not: str | None
) -> Alternative:
    return Alternative(
        recipe=recipe,
        latency=other.latency_ms.mid / chosen.latency_ms.mid,
        size=other.size_bytes.mid / chosen.size_bytes.mid,
        memory=other.peak_memory_bytes.mid / chosen.peak_memory_bytes.mid,
        energy=other.energy_mj.mid / chosen.energy_mj.mid,
        why_not=why_not,
    )
