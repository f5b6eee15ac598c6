"""Why a candidate stands where it stands, as a person would say it."""

from __future__ import annotations

from collections.abc import Iterable

from edgekit.domain import (
    CPU,
    DeviceProfile,
    Mode,
    ModelSummary,
    Prediction,
    Recipe,
)
from edgekit.planning.budgets import Budget
from edgekit.planning.placement import Fallback, Placement
from edgekit.planning.recipes import INT8_NATIVE

Priced = tuple[Recipe, Prediction]

_LISTED = 4


def expected(
    summary: ModelSummary, profile: DeviceProfile, priced: Priced, known: bool
) -> tuple[str, ...]:
    """What it should cost, and how sure that is: ``known`` from a calibration."""
    how = "calibrated there" if known else "not calibrated on the device"
    recipe, p = priced
    where = recipe.accelerator if recipe.accelerator != CPU else profile.cpu.clusters[0].core
    return (
        f"{p.latency_ms.mid:.3g} ms expected on {where} ({p.latency_ms.low:.2g} to "
        f"{p.latency_ms.high:.2g}, {how})",
        f"{p.size_bytes.mid / 1e6:.3g} MB against {summary.parameter_bytes / 1e6:.3g} MB of "
        "weights in the source",
    )


def variant(profile: DeviceProfile, recipe: Recipe) -> tuple[str, ...]:
    """Why this variant of int8, or this precision on an accelerator."""
    quantization = recipe.quantization
    if quantization is None:
        return ()
    if quantization.wide:
        return (f"16-bit activations, which {recipe.runtime} has no fast kernels for",)
    if quantization.symmetric_activations:
        return (f"symmetric int8: {recipe.accelerator} takes no zero points",)
    if recipe.accelerator != CPU:
        return (f"{quantization.weights}: {recipe.accelerator} computes it natively",)
    if quantization.mode is not Mode.STATIC:
        return ()
    pair = "u8s8" if quantization.activations == "uint8" else "s8s8"
    core = profile.cpu.clusters[0]
    native = INT8_NATIVE & set(core.extensions)
    how = (
        f"{core.core} multiplies int8 natively"
        if native
        else f"{core.core} has no int8 dot product"
    )
    range_ = "; 7-bit weights, because AVX2 saturates" if quantization.reduced_range else ""
    return (f"{pair}, {quantization.granularity.value}: {how}{range_}",)


def split(recipe: Recipe, placement: Placement, fallback: Fallback) -> tuple[str, ...]:
    """What stays on the CPU, and what that costs."""
    if not placement.fallen_back:
        return ()
    return (
        f"{recipe.accelerator} runs {placement.partitions} "
        f"{'part' if placement.partitions == 1 else 'parts'} of the graph; {left(placement)} on "
        f"the CPU: {fallback.compute_ms:.2g} ms, and {fallback.transfer_ms:.2g} ms to move "
        f"{fallback.transfer_bytes / 1e6:.2g} MB to and fro",
    )


def left(placement: Placement) -> str:
    """The operators that the accelerator does not take: ``3 TopK and 1 NonZero stay``."""
    listed = [f"{count} {op}" for op, count in placement.fallen_back.items()]
    shown = ", ".join(listed[:_LISTED]) + (" and others" if len(listed) > _LISTED else "")
    return f"{shown} {'stays' if sum(placement.fallen_back.values()) == 1 else 'stay'}"


def elsewhere(chosen: Recipe, others: Iterable[Priced]) -> tuple[str, ...]:
    """What other numbers of threads would have taken; one line, the fewest threads first."""
    told = [
        f"{recipe.threads} would take {prediction.latency_ms.mid:.3g} ms"
        for recipe, prediction in sorted(others, key=lambda pair: pair[0].threads)
        if recipe.power_mode == chosen.power_mode and recipe.threads != chosen.threads
    ]
    noun = "thread" if chosen.threads == 1 else "threads"
    return (f"{chosen.threads} {noun}: {', '.join(told)}",) if told else ()


def power(profile: DeviceProfile, chosen: Recipe, others: Iterable[Priced]) -> tuple[str, ...]:
    """The assumed power mode, and what another would bring."""
    modes = profile.power
    if len(modes.modes) == 1:
        return ()
    told = [
        f"{modes.mode(recipe.power_mode).name} would take {prediction.latency_ms.mid:.3g} ms and "
        f"{prediction.energy_mj.mid:.3g} mJ"
        for recipe, prediction in others
        if recipe.power_mode != chosen.power_mode
    ]
    assumed = modes.mode(chosen.power_mode)
    default = " (the device's default)" if chosen.power_mode is None else ""
    return (f"in the {assumed.name} mode{default}; {', '.join(told)}",)


def tight(prediction: Prediction, budgets: Iterable[Budget]) -> tuple[str, ...]:
    """Budgets that may be passed: inside the interval, to be settled by measuring."""
    return tuple(
        f"the {budget.what} budget of {budget.limit:g} {budget.unit} lies inside the interval: "
        "measure it on the device"
        for budget in budgets
        if budget.lies_inside(prediction)
    )
