"""One artifact where it runs best: which threads, which power mode, and what others would cost."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct, structs

from edgekit.domain import CPU, Prediction, Prefer, Range, Recipe
from edgekit.planning import cost, reasons
from edgekit.planning import pruned as pruning
from edgekit.planning.budgets import overrun
from edgekit.planning.placement import NO_FALLBACK, Fallback, Placement, fallback, place
from edgekit.planning.question import Question
from edgekit.planning.recipes import placements
from edgekit.planning.worth import NOTICEABLE

_LEAST = 0.01
"""What an accelerator leaves may even be faster on the CPU; time stays above zero."""


class Placed(Struct, frozen=True, kw_only=True):
    """An artifact at its best placement, and what others would have cost.

    Attributes:
        placement: which nodes its accelerator takes; ``None`` on the CPU.
        others: the other numbers of threads in the same power mode, and the other modes.
    """

    recipe: Recipe
    prediction: Prediction
    others: tuple[tuple[Recipe, Prediction], ...]
    placement: Placement | None


def placed(recipe: Recipe, question: Question) -> Placed:
    """The artifact where it serves the goal best, with as few threads as that takes."""
    profile = question.profile
    smaller = pruning.scaled(question.summary, recipe.pruning)
    question = structs.replace(question, summary=smaller)
    where = _split(recipe, question)
    options = placements(recipe, profile, question.choice.power_modes)
    if asked := question.choice.threads:
        options = tuple(dict.fromkeys(structs.replace(o, threads=asked) for o in options))
    priced = {option: _predicted(option, question, where) for option in options}
    ranked = sorted(options, key=lambda option: _placement_key(priced[option], question))
    best = ranked[0]
    as_good = (
        o
        for o in ranked
        if o.power_mode == best.power_mode
        and priced[o].latency_ms.mid <= priced[best].latency_ms.mid * (1 + NOTICEABLE)
        and overrun(priced[o], question.budgets) <= overrun(priced[best], question.budgets)
    )
    chosen = min(as_good, key=lambda o: o.threads)
    told = [
        (o, p)
        for o, p in (*priced.items(), *_outlook(chosen, question, where))
        if o != chosen and (o.threads == chosen.threads or o.power_mode == chosen.power_mode)
    ]
    return Placed(
        recipe=chosen,
        prediction=priced[chosen],
        others=tuple(dict(told).items()),
        placement=where,
    )


def _outlook(
    chosen: Recipe, question: Question, where: Placement | None
) -> Iterator[tuple[Recipe, Prediction]]:
    """The same in every power mode of the device."""
    _, *others = question.profile.power.modes
    for name in (None, *(mode.name for mode in others)):
        option = structs.replace(chosen, power_mode=name)
        yield option, _predicted(option, question, where)


def _split(recipe: Recipe, question: Question) -> Placement | None:
    if recipe.accelerator == CPU:
        return None
    accelerators = {a.name: a for a in question.profile.accelerators}
    return place(question.summary, accelerators[recipe.accelerator].reached_by[recipe.runtime])


def _predicted(recipe: Recipe, question: Question, where: Placement | None) -> Prediction:
    """What a recipe should cost, with what its accelerator leaves to the CPU."""
    predicted = cost.predict(question.summary, question.profile, recipe, question.basis.calibration)
    extra = left_to_cpu(recipe, question, where)
    if not extra.total_ms:
        return predicted
    factor = max(_LEAST, 1 + extra.total_ms / predicted.latency_ms.mid)
    return structs.replace(
        predicted,
        latency_ms=_times(predicted.latency_ms, factor),
        energy_mj=_times(predicted.energy_mj, factor),
    )


def left_to_cpu(recipe: Recipe, question: Question, where: Placement | None) -> Fallback:
    """What the nodes that a recipe's accelerator does not take add; nothing on the CPU."""
    if where is None:
        return NO_FALLBACK
    calibration = question.basis.calibration
    return fallback(question.summary, question.profile, recipe, where, calibration)


def slower_than_cpu(found: Placed, question: Question) -> str | None:
    """Whether what the accelerator leaves to the CPU makes it slower than the CPU alone."""
    where, recipe = found.placement, found.recipe
    if where is None or not where.fallen_back:
        return None
    if not where.partitions:
        return f"{recipe.accelerator} takes none of its operators: {reasons.left(where)} on the CPU"
    alone = placed(structs.replace(recipe, accelerator=CPU), question)
    expected, on_cpu = found.prediction.latency_ms.mid, alone.prediction.latency_ms.mid
    if expected < on_cpu:
        return None
    extra = left_to_cpu(recipe, question, where)
    return (
        f"{reasons.left(where)} on the CPU, {extra.transfer_ms:.2g} ms for "
        f"{extra.transfer_bytes / 1e6:.2g} MB to and fro: {expected:.3g} ms expected where the "
        f"CPU alone takes {on_cpu:.3g}"
    )


def _placement_key(p: Prediction, question: Question) -> tuple[float, ...]:
    """Of one artifact: the budgets, then what is preferred of what its placement decides."""
    first = p.energy_mj if question.goal.prefer is Prefer.ENERGY else p.latency_ms
    return (overrun(p, question.budgets), first.mid, p.latency_ms.mid, p.energy_mj.mid)


def _times(value: Range, factor: float) -> Range:
    return Range(value.low * factor, value.mid * factor, value.high * factor)
