"""Which candidates are worth building: what pays for its loss of accuracy, and what is best.

A recipe is judged against those of earlier stages, which put less accuracy at stake. It has
to bring something for that: time, or bytes that are worth the time they cost.
"""

from __future__ import annotations

from msgspec import structs

from edgekit.domain import CPU, Candidate, Goal, Prediction, Prefer, Rejection
from edgekit.planning.budgets import Budget, overrun
from edgekit.planning.recipes import accuracy_class, stage

NOTICEABLE = 0.05
"""Smaller differences between predictions say nothing."""

_PRICE = {Prefer.LATENCY: 0.0, Prefer.ENERGY: 0.0, Prefer.ACCURACY: 1.0, Prefer.SIZE: 10.0}
"""What a share of the size may cost, in shares of the time.

Who asks for speed (or for energy, which is time at a device's power) pays nothing for
bytes: a smaller model is welcome only where it is no slower. Who asks for accuracy takes a
share for a share. Who asks for size pays ten: at a quarter of the bytes (saved: 0.75) up to
8.5 times the time, which lets 4-bit weights in and keeps out what a missing kernel makes 17
times slower. A budget needs no price of its own: what does not fit is out before this.
"""


def paying(
    candidates: list[Candidate], goal: Goal, budgets: tuple[Budget, ...]
) -> tuple[list[Candidate], list[Rejection]]:
    """Drop what puts accuracy at stake and brings nothing for it.

    Candidates are judged against kept ones of an earlier stage on the same processor or on
    the CPU, which is always there, and only against those that keep the budgets at least as
    well.
    """
    kept: list[Candidate] = []
    unpaid: list[Rejection] = []
    ordered = sorted(candidates, key=_by_accuracy)
    for candidate in ordered:
        spared = (
            other
            for other in sorted(kept, key=lambda c: (_cost(c.prediction, goal), c.recipe.label))
            if _is_safer(other, candidate)
            and overrun(other.prediction, budgets) <= overrun(candidate.prediction, budgets)
            and not _pays(candidate.prediction, other.prediction, goal)
        )
        better = next(spared, None)
        if better is None:
            kept.append(candidate)
        else:
            unpaid.append(_not_paying(candidate, better))
    return kept, unpaid


def with_pareto(candidates: list[Candidate]) -> list[Candidate]:
    """The same candidates, those of the Pareto front marked."""
    figures = [_figures(candidate) for candidate in candidates]
    return [
        structs.replace(candidate, pareto=not any(_dominates(other, mine) for other in figures))
        for candidate, mine in zip(candidates, figures, strict=True)
    ]


def _by_accuracy(candidate: Candidate) -> tuple[float, bool, str]:
    recipe = candidate.recipe
    return accuracy_class(recipe), recipe.accelerator != CPU, recipe.label


def _is_safer(other: Candidate, candidate: Candidate) -> bool:
    """Whether the other puts less at stake: an earlier stage, or the same class on the CPU.

    Within a stage the difference between, say, static and dynamic int8 is for the gate to
    judge, on the data; a prediction is not sure enough to drop one for the other.
    """
    mine, its = candidate.recipe, other.recipe
    on_cpu = its.accelerator == CPU != mine.accelerator
    if not (on_cpu or its.accelerator == mine.accelerator):
        return False
    same = accuracy_class(its) == accuracy_class(mine)
    pruned = bool(its.pruning), bool(mine.pruning)
    earlier = (pruned[0], stage(its)) < (pruned[1], stage(mine))
    return earlier or (on_cpu and same)


def _pays(mine: Prediction, its: Prediction, goal: Goal) -> bool:
    """Noticeably faster; or noticeably smaller, and worth what it costs in time.

    "Worth" compares shares: the share of the time added against the share of the size
    saved, at the price that the goal's preference sets. Shares, because a megabyte saved of
    two is much and of a hundred is little, and so it is with milliseconds.
    """
    time = _cost(mine, goal) / _cost(its, goal)
    saved = 1 - mine.size_bytes.mid / its.size_bytes.mid
    if time < 1 - NOTICEABLE:
        return True
    added = time - 1 if time > 1 + NOTICEABLE else 0.0
    return saved >= NOTICEABLE and added <= _PRICE[goal.prefer] * saved


def _cost(prediction: Prediction, goal: Goal) -> float:
    if goal.prefer is Prefer.ENERGY:
        return prediction.energy_mj.mid
    return prediction.latency_ms.mid


def _not_paying(candidate: Candidate, better: Candidate) -> Rejection:
    mine, its = candidate.prediction, better.prediction
    return Rejection(
        recipe=candidate.recipe,
        prediction=mine,
        reason=(
            f"does not pay: {mine.latency_ms.mid:.3g} ms expected where {better.recipe.label} "
            f"takes {its.latency_ms.mid:.3g}, at {mine.size_bytes.mid / 1e6:.3g} MB "
            f"against {its.size_bytes.mid / 1e6:.3g}"
        ),
    )


def _figures(candidate: Candidate) -> tuple[float, ...]:
    p = candidate.prediction
    expected = (p.latency_ms, p.size_bytes, p.peak_memory_bytes, p.energy_mj)
    return (*(figure.mid for figure in expected), accuracy_class(candidate.recipe))


def _dominates(other: tuple[float, ...], mine: tuple[float, ...]) -> bool:
    return other != mine and all(a <= b for a, b in zip(other, mine, strict=True))
