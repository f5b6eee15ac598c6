"""The decision: what to build for a device and a goal, in which order, and why not the rest.

Pure: equal inputs give an equal plan, nothing is read, built or measured.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from edgekit.domain import (
    CPU,
    MIB,
    Candidate,
    DeviceProfile,
    Format,
    Goal,
    Mode,
    ModelSummary,
    Plan,
    Prediction,
    Prefer,
    Range,
    Recipe,
    Rejection,
)
from edgekit.errors import GoalError, InputError
from edgekit.planning import coreml, cost
from edgekit.planning.cost import OpFamily
from edgekit.planning.recipes import INT8_NATIVE, MAKES, Unreachable, recipes

_ACCURACY_ORDER = (
    *("float32", "float16", "int8-weight-only", "palettized-6bit", "int8-dynamic", "int8-static"),
    *("int4-weight-only", "palettized-4bit"),
)
_QUANTIZES_DYNAMICALLY = frozenset({OpFamily.DENSE, OpFamily.RECURRENT})

_POSSIBLE: tuple[tuple[str, Callable[[Prediction], Range], float], ...] = (
    ("{} ms", lambda p: p.latency_ms, 1),
    ("{} MB in storage", lambda p: p.size_bytes, 1e6),
    ("{} MB in memory", lambda p: p.peak_memory_bytes, 1e6),
    ("{} mJ", lambda p: p.energy_mj, 1),
)
"""What an impossible goal is answered with: in words, from a prediction, in the words' unit."""


class Choice(Struct, frozen=True, kw_only=True):
    """What the user narrows the search to, and what there is to work with.

    Attributes:
        calibration: calibration data are at hand: static quantization can be done.
        formats: only these; empty: every format the device takes.
        precisions: only these; empty: every precision.
    """

    calibration: bool = True
    formats: tuple[Format, ...] = ()
    precisions: tuple[str, ...] = ()


def plan(
    summary: ModelSummary, profile: DeviceProfile, goal: Goal, choice: Choice | None = None
) -> Plan:
    """Decide what to build.

    Raises:
        InputError: the device takes no format that edgekit makes or that was asked for.
        GoalError: nothing can meet the goal; the message says what would be possible.
    """
    choice = choice or Choice()
    _check_formats(profile, choice)
    candidates: list[Candidate] = []
    rejected: list[Rejection] = []
    for recipe in recipes(profile, summary):
        if isinstance(recipe, Unreachable):
            rejected.append(_unreachable(recipe))
            continue
        prediction = cost.predict(summary, profile, recipe)
        if unfit := _unfit(summary, recipe, choice):
            rejected.append(Rejection(recipe=recipe, reason=unfit))
        elif reason := _over(prediction, profile, goal):
            rejected.append(Rejection(recipe=recipe, reason=reason, prediction=prediction))
        else:
            reasons = _reasons(summary, profile, recipe, prediction, goal)
            candidates.append(Candidate(recipe=recipe, prediction=prediction, reasons=reasons))
    candidates, unpaid = _paying(candidates, goal)
    made = Plan(
        model_sha256=summary.sha256,
        device=profile.name,
        goal=goal,
        candidates=tuple(sorted(candidates, key=_order(goal))),
        rejected=(*rejected, *unpaid),
    )
    if not made.candidates:
        raise _impossible(made)
    return made


def _check_formats(profile: DeviceProfile, choice: Choice) -> None:
    usable = [f for f in profile.formats if f in MAKES]
    made = ", ".join(f.value for f in MAKES)
    if not usable:
        takes = ", ".join(f.value for f in profile.formats)
        raise InputError(
            f"{profile.name} takes {takes}; this edgekit makes {made}",
            "choose a device of another format: `edgekit devices` shows them",
        )
    if choice.formats and not set(choice.formats) & set(usable):
        raise InputError(
            f"{profile.name} does not take {choice.formats[0].value}",
            f"it takes {', '.join(f.value for f in usable)}",
        )


def _unreachable(found: Unreachable) -> Rejection:
    recipe = Recipe(
        format=found.runtime.formats[0],
        runtime=found.runtime.name,
        accelerator=found.accelerator.name,
    )
    return Rejection(recipe=recipe, reason=f"{found.accelerator.name}: {found.reason}")


def _unfit(summary: ModelSummary, recipe: Recipe, choice: Choice) -> str | None:
    """Why a recipe cannot or should not be made of this model at all."""
    quantization = recipe.quantization
    if choice.formats and recipe.format not in choice.formats:
        return "another format was asked for"
    if choice.precisions and recipe.precision not in choice.precisions:
        return "another precision was asked for"
    if quantization is None:
        return None
    if summary.quantized:
        return "the model is already quantized: quantizing it again would only lose accuracy"
    if quantization.mode is Mode.STATIC and not choice.calibration:
        return "static int8 needs calibration data (--calibration X.npz)"
    if quantization.mode is Mode.DYNAMIC and recipe.format is Format.ONNXRUNTIME:
        return _dynamic_unfit(summary)
    return None


def _dynamic_unfit(summary: ModelSummary) -> str | None:
    """ONNX Runtime gains from dynamic int8 in matrix products only."""
    dense = sum(n.macs for n in summary.nodes if cost.family(n) in _QUANTIZES_DYNAMICALLY)
    if 2 * dense < summary.macs:
        share = 1 - dense / summary.macs
        return (
            f"dynamic int8 is for matrix products, and convolutions do {share:.0%} of the "
            "multiply-accumulates: they would stay in float or run several times slower"
        )
    return None


def _over(prediction: Prediction, profile: DeviceProfile, goal: Goal) -> str | None:
    """The first budget that is out of reach: even the low end of the prediction passes it."""
    budgets: tuple[tuple[str, Range, float | None, float, str], ...] = (
        ("memory", prediction.peak_memory_bytes, profile.memory.model_budget_mib, MIB, "MiB"),
        ("memory", prediction.peak_memory_bytes, goal.max_memory_mb, 1e6, "MB"),
        ("size", prediction.size_bytes, goal.max_size_mb, 1e6, "MB"),
        ("latency", prediction.latency_ms, goal.max_latency_ms, 1, "ms"),
        ("energy", prediction.energy_mj, goal.max_energy_mj, 1, "mJ"),
    )
    for what, predicted, budget, unit, name in budgets:
        if budget is not None and predicted.low > budget * unit:
            return f"{what}: at least {predicted.low / unit:.3g} {name}, the budget is {budget:g}"
    return None


def _paying(
    candidates: list[Candidate], goal: Goal
) -> tuple[list[Candidate], tuple[Rejection, ...]]:
    """Drop what costs accuracy and brings nothing: slower than float and not smaller."""
    floats = [c for c in candidates if c.recipe.quantization is None]
    kept, unpaid = [], []
    for candidate in candidates:
        better = [f for f in floats if _dominated(candidate, f, goal)]
        if candidate.recipe.quantization is not None and better:
            unpaid.append(_not_paying(candidate, better[0]))
        else:
            kept.append(candidate)
    return kept, tuple(unpaid)


def _dominated(candidate: Candidate, plain: Candidate, goal: Goal) -> bool:
    """Slower than float on the same processor, when speed was asked for or nothing is saved.

    Savings are compared at the low end, as budgets are: where a budget keeps float out, it
    keeps out what float held back, and a tighter budget never brings a candidate in.
    """
    mine, other = candidate.prediction, plain.prediction
    same = candidate.recipe.accelerator == plain.recipe.accelerator
    slower = mine.latency_ms.mid > other.latency_ms.mid * 1.05
    smaller = (
        mine.size_bytes.low < other.size_bytes.low
        or mine.peak_memory_bytes.low < other.peak_memory_bytes.low
    )
    wanted = goal.prefer is Prefer.SIZE or goal.max_size_mb or goal.max_memory_mb
    return same and slower and not (smaller and wanted)


def _not_paying(candidate: Candidate, plain: Candidate) -> Rejection:
    mine, other = candidate.prediction, plain.prediction
    return Rejection(
        recipe=candidate.recipe,
        prediction=mine,
        reason=(
            f"does not pay: {mine.latency_ms.mid:.3g} ms expected where {plain.recipe.label} "
            f"takes {other.latency_ms.mid:.3g}, at {mine.size_bytes.mid / 1e6:.3g} MB "
            f"against {other.size_bytes.mid / 1e6:.3g}"
        ),
    )


def _order(goal: Goal) -> Callable[[Candidate], tuple[float, float, float, str]]:
    """The sort key: what the goal prefers, then the others; the label makes it total."""

    def key(candidate: Candidate) -> tuple[float, float, float, str]:
        p, recipe = candidate.prediction, candidate.recipe
        accuracy = _ACCURACY_ORDER.index(recipe.precision)
        first = {
            Prefer.LATENCY: p.latency_ms.mid,
            Prefer.SIZE: p.size_bytes.mid,
            Prefer.ENERGY: p.energy_mj.mid,
            Prefer.ACCURACY: float(accuracy),
        }[goal.prefer]
        return (first, p.latency_ms.mid, p.size_bytes.mid, recipe.label)

    return key


def _reasons(
    summary: ModelSummary, profile: DeviceProfile, recipe: Recipe, p: Prediction, goal: Goal
) -> tuple[str, ...]:
    """Why a candidate stands where it stands, as a person would say it."""
    where = recipe.accelerator if recipe.accelerator != CPU else profile.cpu.clusters[0].core
    return (
        f"{p.latency_ms.mid:.3g} ms expected on {where} ({p.latency_ms.low:.2g} to "
        f"{p.latency_ms.high:.2g}, not calibrated on the device)",
        f"{p.size_bytes.mid / 1e6:.3g} MB against {summary.parameter_bytes / 1e6:.3g} MB of "
        "weights in the source",
        *(coreml.reasons(recipe) or _variant_reason(profile, recipe)),
        *_tight(p, goal),
    )


def _variant_reason(profile: DeviceProfile, recipe: Recipe) -> tuple[str, ...]:
    """Why this variant of int8."""
    quantization = recipe.quantization
    if quantization is None or quantization.mode is not Mode.STATIC:
        return ()
    if quantization.symmetric_activations:
        return (f"symmetric int8: {recipe.accelerator} takes no zero points",)
    if recipe.accelerator != CPU:
        return (f"int8: {recipe.accelerator} computes it natively",)
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


def _tight(p: Prediction, goal: Goal) -> tuple[str, ...]:
    """Budgets that may be passed: inside the interval, to be settled by measuring."""
    budgets = (
        ("latency", p.latency_ms, goal.max_latency_ms, 1.0),
        ("memory", p.peak_memory_bytes, goal.max_memory_mb, 1e6),
        ("energy", p.energy_mj, goal.max_energy_mj, 1.0),
    )
    return tuple(
        f"the {what} budget of {budget:g} lies inside the interval: measure it on the device"
        for what, predicted, budget, unit in budgets
        if budget is not None and predicted.high > budget * unit
    )


def _impossible(made: Plan) -> GoalError:
    """No candidate is left: say why, and what would be possible."""
    reasons = "; ".join(dict.fromkeys(f"{r.recipe.precision}: {r.reason}" for r in made.rejected))
    predicted = {r.recipe.label: r.prediction for r in made.rejected if r.prediction}
    hint = "nothing was left to choose from"
    if predicted:
        hint = "possible here: " + "; ".join(
            _least(what, {label: take(p) for label, p in predicted.items()}, unit)
            for what, take, unit in _POSSIBLE
        )
    return GoalError(f"no recipe meets the goal on {made.device}: {reasons}", hint)


def _least(what: str, predicted: dict[str, Range], unit: float) -> str:
    label, least = min(predicted.items(), key=lambda pair: pair[1].mid)
    return f"{what.format(f'{least.low / unit:.3g} to {least.high / unit:.3g}')} ({label})"
