"""The decision: what to build for a device and a goal, in which order, and why not the rest.

Pure: equal inputs give an equal plan, nothing is read, built or measured. The order of
profiles' tables and of the user's choices decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec
from msgspec import structs

from edgekit.calibrations import Basis
from edgekit.domain import (
    CPU,
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
from edgekit.errors import GoalError
from edgekit.planning import coreml, kernels, rates, reasons, worth
from edgekit.planning.budgets import over, overrun, what_would_fit
from edgekit.planning.pruned import pruned
from edgekit.planning.question import Choice, Question, ask
from edgekit.planning.recipes import (
    RUNTIME_REFUSES,
    SQUEEZED,
    Unreachable,
    accuracy_class,
    recipes,
    stage,
)
from edgekit.planning.search import Placed, left_to_cpu, placed, slower_than_cpu

_PRUNABLE = (0.25, 0.4, 0.5)
"""Fractions that are looked at where nothing else would do; more is seldom left intact."""

_PREFERRED: dict[Prefer, Callable[[Prediction], Range]] = {
    Prefer.LATENCY: lambda p: p.latency_ms,
    Prefer.SIZE: lambda p: p.size_bytes,
    Prefer.ENERGY: lambda p: p.energy_mj,
}


def plan(
    summary: ModelSummary,
    profile: DeviceProfile,
    goal: Goal,
    choice: Choice | None = None,
    basis: Basis | None = None,
) -> Plan:
    """Decide what to build.

    No candidate passes a budget even at the low end of its prediction. Those whose expected
    values keep every budget come first, then those that pass one, the nearest first; among
    equals the goal's preference decides. So a tighter budget never gives a first candidate
    that is expected to take more of what was tightened, unless its interval is so wide that
    the low end takes less.

    Pruning is the last stage of all: done only when asked for, and named where it would help.

    Weights at 4 bits and one scale for a whole tensor are a stage of their own: offered when
    size is preferred, or when nothing in 8 bits or more is expected to fit.

    Raises:
        InputError: the device takes no format that edgekit makes or that was asked for, or
            has no such power mode.
        GoalError: nothing can meet the goal; the message says what would.
    """
    question = ask(summary, profile, goal, choice or Choice(), basis or Basis())
    made = _decided(question)
    if not made.candidates:
        raise _impossible(made, question)
    return made


def _decided(question: Question) -> Plan:
    """The plan; without candidates, where nothing can meet the goal."""
    judged = [_judged(recipe, question) for recipe in _offered(question)]
    rejected = [found for found in judged if isinstance(found, Rejection)]
    fit = [found for found in judged if isinstance(found, Candidate)]
    needed, unneeded = _needed(fit, question)
    kept, unpaid = worth.paying(needed, question.goal, question.budgets)
    return Plan(
        model_sha256=question.summary.sha256,
        device=question.profile.name,
        goal=question.goal,
        candidates=tuple(sorted(worth.with_pareto(kept), key=lambda c: _key(c, question))),
        rejected=tuple(sorted((*rejected, *unneeded, *unpaid), key=_as_listed)),
        basis=question.basis.said,
    )


def _offered(question: Question) -> Iterator[Recipe | Unreachable]:
    found = recipes(question.profile)
    fraction = question.choice.prune
    return pruned(found, fraction, question) if fraction else found


def _judged(found: Recipe | Unreachable, question: Question) -> Candidate | Rejection:
    """A recipe at its best placement: worth considering, or why not."""
    if isinstance(found, Unreachable):
        return _unreachable(found, question)
    at = placed(found, question)
    why_not = (
        _unfit(question.summary, found, question.choice)
        or slower_than_cpu(at, question)
        or over(at.prediction, question.budgets)
    )
    if why_not:
        return Rejection(recipe=at.recipe, reason=why_not, prediction=at.prediction)
    return Candidate(recipe=at.recipe, prediction=at.prediction, reasons=_reasons(at, question))


def _unreachable(found: Unreachable, question: Question) -> Rejection:
    reason = f"{found.recipe.accelerator}: {found.reason}"
    if not found.known:
        return Rejection(recipe=found.recipe, reason=reason)
    at = placed(found.recipe, question)
    if at.placement and at.placement.fallen_back:
        reason += f"; {reasons.left(at.placement)} on the CPU then"
    return Rejection(recipe=found.recipe, reason=reason, prediction=at.prediction)


def _unfit(summary: ModelSummary, recipe: Recipe, choice: Choice) -> str | None:
    """Why a recipe cannot or should not be made of this model at all."""
    quantization = recipe.quantization
    if choice.formats and recipe.format not in choice.formats:
        return "another format was asked for"
    if choice.precisions and recipe.precision not in choice.precisions:
        return "another precision was asked for"
    if recipe.pruning and (why_not := _not_prunable(summary, choice)):
        return why_not
    if quantization is None:
        return None
    if summary.quantized:
        return "the model is already quantized: quantizing it again would only lose accuracy"
    if quantization.mode is Mode.STATIC and not choice.calibration:
        return "static int8 needs calibration data (--calibration X.npz)"
    if quantization.mode is Mode.DYNAMIC and recipe.format is Format.ONNXRUNTIME:
        return _dynamic_unfit(summary)
    return RUNTIME_REFUSES.get((recipe.runtime, recipe.precision))


def _not_prunable(summary: ModelSummary, choice: Choice) -> str | None:
    if not choice.calibration:
        return "pruning needs calibration data (--calibration X.npz)"
    if summary.quantized:
        return "the model is already quantized: its channels cannot be pruned any more"
    return None


def _dynamic_unfit(summary: ModelSummary) -> str | None:
    """ONNX Runtime gains from dynamic int8 in matrix products only."""
    dense = sum(n.macs for n in summary.nodes if kernels.is_product(n))
    if 2 * dense < summary.macs:
        share = 1 - dense / summary.macs
        return (
            f"dynamic int8 is for matrix products, and convolutions do {share:.0%} of the "
            "multiply-accumulates: they would stay in float or run several times slower"
        )
    return None


def _needed(
    candidates: list[Candidate], question: Question
) -> tuple[list[Candidate], list[Rejection]]:
    """Leave the last stage out while one before it is expected to fit."""
    room = [budget for budget in question.budgets if budget.weighs]
    fitting = [
        c for c in candidates if stage(c.recipe) < SQUEEZED and overrun(c.prediction, room) <= 1
    ]
    if question.goal.prefer is Prefer.SIZE or not fitting:
        return candidates, []
    first = min(fitting, key=lambda c: _key(c, question)).recipe.precision
    unneeded = [
        Rejection(
            recipe=c.recipe,
            prediction=c.prediction,
            reason=f"not needed: {first} fits",
        )
        for c in candidates
        if stage(c.recipe) == SQUEEZED
    ]
    return [c for c in candidates if stage(c.recipe) < SQUEEZED], unneeded


def _key(candidate: Candidate, question: Question) -> tuple[float | str | bytes, ...]:
    """The sort key: the budgets, the preference, then the others; the recipe makes it total."""
    p, recipe = candidate.prediction, candidate.recipe
    preferred = accuracy_class(recipe)
    if question.goal.prefer is not Prefer.ACCURACY:
        preferred = _PREFERRED[question.goal.prefer](p).mid
    return (
        overrun(p, question.budgets),
        preferred,
        p.latency_ms.mid,
        p.size_bytes.mid,
        recipe.label,
        msgspec.json.encode(recipe),
    )


def _as_listed(rejection: Rejection) -> tuple[bool, str]:
    recipe = rejection.recipe
    return (recipe.accelerator != CPU, recipe.label)


def _reasons(at: Placed, question: Question) -> tuple[str, ...]:
    recipe, prediction, where = at.recipe, at.prediction, at.placement
    profile = question.profile
    known = rates.measured(question.basis.calibration, recipe) is not None
    return (
        *reasons.expected(question.summary, profile, (recipe, prediction), known),
        *(coreml.reasons(recipe) or reasons.variant(profile, recipe)),
        *(reasons.split(recipe, where, left_to_cpu(recipe, question, where)) if where else ()),
        *reasons.elsewhere(recipe, at.others),
        *reasons.power(profile, recipe, at.others),
        *reasons.tight(prediction, question.budgets),
    )


def _impossible(made: Plan, question: Question) -> GoalError:
    """No candidate is left: say why, and what would fit."""
    first = {r.recipe.precision: r.reason for r in reversed(made.rejected)}
    told = "; ".join(f"{precision}: {reason}" for precision, reason in sorted(first.items()))
    beyond = [
        (r.recipe, r.prediction)
        for r in made.rejected
        if r.prediction and r.reason == over(r.prediction, question.budgets)
    ]
    hint = what_would_fit(beyond, question.budgets) if beyond else "nothing was left to choose from"
    return GoalError(
        f"no recipe meets the goal on {made.device}: {told}", hint + _by_pruning(question)
    )


def _by_pruning(question: Question) -> str:
    """How much pruning would meet the goal, if the last stage were taken."""
    if question.choice.prune:
        return ""
    for fraction in _PRUNABLE:
        choice = structs.replace(question.choice, prune=fraction, calibration=True)
        if found := _decided(structs.replace(question, choice=choice)).candidates:
            data = "" if question.choice.calibration else " and calibration data"
            return (
                f"; with `--prune {fraction:g}`{data}, {found[0].recipe.label} may, if its "
                "accuracy holds"
            )
    return ""
