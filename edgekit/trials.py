"""Trying a plan's candidates in order until one passes, and repairing what nearly does."""

from __future__ import annotations

import shutil
from pathlib import Path

from msgspec import Struct

from edgekit.domain import Attempt, Candidate, Format, Outcome, Price
from edgekit.errors import ConversionFailed, GateError, ToolError, ToolMissing
from edgekit.observer import OnStage
from edgekit.repair import repaired
from edgekit.trial import Bench, Made, refusal, tried


class Passed(Struct, frozen=True, kw_only=True):
    """What passed, and all that was tried, it among them."""

    made: Made
    attempts: tuple[Attempt, ...]


def first_that_passes(bench: Bench, work: Path, on_stage: OnStage) -> Passed:
    """Make and judge the candidates, the plan's first choice first.

    Args:
        bench: what they are made from and judged by.
        work: scratch space; what fails is removed again.
        on_stage: told the stages as they begin.

    Raises:
        GateError: every candidate was made, none passed.
        ToolError: no candidate could be made.
        ToolMissing: a tool is not installed and cannot be.
        DataError: calibration or evaluation data that will not do.
    """
    attempts: list[Attempt] = []
    unconvertible: dict[Format, ConversionFailed] = {}
    for index, candidate in enumerate(bench.plan.candidates):
        folder = work / f"candidate-{index}"
        folder.mkdir()
        found = _one(bench, candidate, folder, unconvertible, on_stage)
        attempts += found.attempts
        if found.made:
            return Passed(made=found.made, attempts=tuple(attempts))
        shutil.rmtree(folder)
    raise _none_passed(attempts)


class _Found(Struct, frozen=True):
    """What came of a candidate: the attempts at it, and what passed."""

    attempts: tuple[Attempt, ...]
    made: Made | None = None


def _one(
    bench: Bench,
    candidate: Candidate,
    folder: Path,
    unconvertible: dict[Format, ConversionFailed],
    on_stage: OnStage,
) -> _Found:
    """A candidate as it is planned, and repaired when that falls short.

    Args:
        unconvertible: formats that no recipe of this model can be made in; added to.
    """
    recipe = candidate.recipe
    if bench.calibration is None and (recipe.is_static or recipe.pruning):
        reason = f"{'pruning' if recipe.pruning else 'static int8'} needs calibration data"
        return _Found((Attempt(recipe=recipe, outcome=Outcome.REJECTED, reason=reason),))
    try:
        if recipe.format in unconvertible:
            raise unconvertible[recipe.format]
        made = tried(bench, recipe, folder, on_stage)
    except ToolMissing:
        # Not a verdict on the candidate: where the tool is there, it might be the best.
        raise
    except ToolError as error:
        reason = f"{error.message} ({error.hint[-300:]})" if error.hint else error.message
        attempt = Attempt(recipe=recipe, outcome=Outcome.FAILED, reason=reason)
        if isinstance(error, ConversionFailed):
            unconvertible[recipe.format] = error
            return _Found((attempt,))
    else:
        why_not = refusal(bench.plan.goal, made)
        attempt = _attempt(made, why_not)
        if not why_not:
            return _Found((attempt,), made)
        if made.validation.passed:
            return _Found((attempt,))
    mended = repaired(bench, recipe, attempt.size_bytes, folder, on_stage)
    return _Found((attempt, _attempt(mended, None)), mended) if mended else _Found((attempt,))


def _attempt(made: Made, refusal: str | None) -> Attempt:
    repair = made.recipe.repair
    passed = f"passed with {repair}" if repair else "the first candidate to pass"
    if made.price:
        passed += _cost(made.price)
    if not made.validation.settled:
        passed += f", as far as {made.validation.sample_count} samples can tell"
    return Attempt(
        recipe=made.recipe,
        outcome=Outcome.REJECTED if refusal else Outcome.CHOSEN,
        reason=refusal or passed,
        size_bytes=made.artifact.size_bytes,
        validation=made.validation,
        price=made.price,
    )


def _cost(price: Price) -> str:
    """``: 1368 bytes more, about 0.0021 ms more``; the time is predicted."""
    weighed = "" if price.size_bytes is None else f"{price.size_bytes} bytes more, "
    which = "less" if price.latency_ms < 0 else "more"
    return f": {weighed}about {abs(price.latency_ms):.2g} ms {which}"


def _none_passed(attempts: list[Attempt]) -> GateError | ToolError:
    told = "\n".join(f"  {a.recipe.label}: {a.reason}" for a in attempts)
    if all(attempt.outcome is Outcome.FAILED for attempt in attempts):
        return ToolError(
            f"no candidate could be made:\n{told}", "`--verbose` shows what the tools said"
        )
    return GateError(
        f"no candidate passed:\n{told}",
        "allow a larger drop with --max-drop, give more calibration data, or a larger budget",
    )
