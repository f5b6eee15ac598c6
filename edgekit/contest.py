"""The best few of a plan, built and measured on a target in turn: the measured best wins.

Whatever drifts (heat, clocks, neighbours) drifts for all of them alike: they are measured
in rounds, one after another in each, and compared round by round.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from itertools import batched
from pathlib import Path

from msgspec import Struct, structs

from edgekit import bundle, field, pipeline
from edgekit import rounds as rounds_
from edgekit.benchmarking import Settings, figures
from edgekit.devices.provision import AS_IT_IS, Equipment
from edgekit.domain import (
    BenchmarkResult,
    Candidate,
    Format,
    Goal,
    Manifest,
    Measured,
    Outcome,
    Plan,
    Prediction,
    Prefer,
    Range,
)
from edgekit.errors import (
    DeviceRuntimeMissing,
    EdgekitError,
    GateError,
    GoldenMismatch,
    RunnerFailed,
    ToolError,
    UsageError,
)
from edgekit.observer import OnStage, silent
from edgekit.pipeline import Built, Request
from edgekit.rounds import Turn, median_ns

ROUNDS = 6
"""The fewest paired rounds whose smallest and largest ratio enclose the true median ratio
with 95 % confidence: all of them lie on one side of it with probability 2 * 0.5**6."""

Measure = Callable[[Path], BenchmarkResult]
_DISQUALIFIES = (GoldenMismatch, DeviceRuntimeMissing, RunnerFailed)


class Terms(Struct, frozen=True, kw_only=True):
    """How candidates are measured against each other.

    Attributes:
        on: the target; see ``field.push``.
        count: how many take part, at most.
        accept_new: record the key of a host seen for the first time.
        equipment: the Python to use there, and whether to install what a candidate lacks.
        rounds: fewer than ``ROUNDS`` settle nothing, and the plan's order decides.
        turn: the settings of one candidate's turn in a round.
    """

    on: str = "local"
    count: int = 3
    accept_new: bool = False
    equipment: Equipment = AS_IT_IS
    rounds: int = ROUNDS
    turn: Settings = Settings(seconds=0.5, processes=1, energy=False)

    def __post_init__(self) -> None:
        for what, count in (("candidates", self.count), ("rounds", self.rounds)):
            if count < 1:
                raise UsageError(f"{count} {what} measure nothing", "give 1 or more")


class Entrant(Struct, frozen=True, kw_only=True):
    """A candidate that passed its validation, as a bundle of its own.

    Attributes:
        turns: its measurements, one a round.
        refusal: why it is out; empty: it is not.
        lacks: it is out because the target lacks what it needs.
    """

    candidate: Candidate
    built: Built
    turns: tuple[BenchmarkResult, ...] = ()
    refusal: str = ""
    lacks: bool = False


def build(
    request: Request,
    destination: Path,
    terms: Terms,
    *,
    cache: Path | None = None,
    on_stage: OnStage = silent,
) -> Built:
    """Build a bundle as ``pipeline.build`` does, of the candidate that measures best.

    Golden vectors come first in every visit: who computes something else on the target is
    out, and so is who passes a budget there. Where nobody runs and is right, the plan's next few
    are tried. Among the rest the goal's preference decides; where it is time, a candidate gives
    way to a slower one of an earlier rank in the plan only when the rounds leave open which of
    the two is faster.

    Args:
        request: what is to be built.
        destination: as in ``pipeline.build``.
        terms: where and how they are measured.
        cache: as in ``pipeline.build``.
        on_stage: told the stages as they begin.

    Raises:
        GateError: none passed its validation, or none was right and within budget there.
        DeviceError: the target or the connection failed.
        EdgekitError: as ``pipeline.build``.
    """
    bundle.check_destination(destination)
    made = pipeline.decide(request, cache)[0]
    measured: list[Entrant] = []
    with tempfile.TemporaryDirectory(prefix="edgekit-contest-") as scratch:
        passing = _passing(request, made, measured, Path(scratch), cache, on_stage)
        for few in batched(passing, terms.count):
            measured += judged(_visited(list(few), terms, on_stage), made.goal)
            if any(entrant.turns for entrant in measured):
                break
        winner = decided(measured, made.goal)
        on_stage("bundle", str(destination))
        return _published(winner, measured, made, destination)


def _visited(entrants: list[Entrant], terms: Terms, on_stage: OnStage) -> list[Entrant]:
    """The entrants with their measurements, over connections that stay open meanwhile."""
    with ExitStack() as open_:
        visits: dict[Path, field.Visit] = {}

        def measure(path: Path) -> BenchmarkResult:
            if path not in visits:
                connection = field.visiting(
                    path,
                    terms.on,
                    equipment=terms.equipment,
                    accept_new=terms.accept_new,
                    on_stage=_only("provision", on_stage),
                )
                visits[path] = open_.enter_context(connection)
            return visits[path](terms.turn)

        # Who is alone is measured for the budgets, and has nobody to be compared with.
        rounds = terms.rounds if len(entrants) > 1 else 1
        return in_rounds(entrants, measure, rounds, on_stage)


def _only(stage: str, on_stage: OnStage) -> OnStage:
    """Of what each visit does, only this is told: there are many visits."""
    return lambda name, what: on_stage(name, what) if name == stage else None


def in_rounds(
    entrants: list[Entrant], measure: Measure, rounds: int, on_stage: OnStage
) -> list[Entrant]:
    """Every entrant measured once in every round, until something disqualifies it."""
    refusals: dict[int, EdgekitError] = {}

    def turn(which: int, number: int) -> Turn:
        if which in refusals:
            return None
        entrant = entrants[which]
        on_stage("measure", f"{entrant.candidate.recipe.label}, round {number}")
        try:
            return measure(entrant.built.path)
        except _DISQUALIFIES as error:
            refusals[which] = error
            return None

    done = rounds_.measured([partial(turn, which) for which in range(len(entrants))], rounds)
    turns = [tuple(filter(None, column)) for column in zip(*done, strict=True)]
    entrants = [structs.replace(one, turns=mine) for one, mine in zip(entrants, turns, strict=True)]
    for which, error in refusals.items():
        lacks = isinstance(error, DeviceRuntimeMissing)
        entrants[which] = structs.replace(entrants[which], refusal=error.message, lacks=lacks)
    return entrants


def judged(entrants: list[Entrant], goal: Goal) -> list[Entrant]:
    """The same, with those out that pass a budget of the goal where they were measured."""
    return [
        entrant if entrant.refusal else structs.replace(entrant, refusal=_over(entrant, goal))
        for entrant in entrants
    ]


def decided(entrants: list[Entrant], goal: Goal) -> Entrant:
    """The winner.

    Raises:
        GateError: nobody is left.
    """
    left = [entrant for entrant in entrants if not entrant.refusal]
    if not left:
        told = "\n".join(f"  {e.candidate.recipe.label}: {e.refusal}" for e in entrants)
        raise GateError(
            f"no candidate was right and within budget on the target:\n{told}",
            "build for the runtime that the device has, or allow a larger budget",
        )
    if goal.prefer is Prefer.SIZE:
        return min(left, key=lambda e: e.built.manifest.artifact.size_bytes)
    if goal.prefer is Prefer.ACCURACY:
        return min(left, key=lambda e: e.built.manifest.validation.drop)
    fastest = min(left, key=lambda e: _median_ms(*_believed(e)))
    return next(e for e in left if e is fastest or not _is_faster(fastest, e))


def latency(entrant: Entrant) -> Range:
    """The median over the rounds, within its 95 % interval; milliseconds."""
    turns = _believed(entrant)
    found = figures([process.samples_ns for turn in turns for process in turn.processes])
    low, high = found.interval_p50
    return Range(low, found.p50, high)


def _believed(entrant: Entrant) -> tuple[BenchmarkResult, ...]:
    """The rounds that count: disturbed ones only where there are no others."""
    return tuple(turn for turn in entrant.turns if turn.valid) or entrant.turns


def _is_faster(one: Entrant, other: Entrant) -> bool:
    """Whether it was, in every round that can be believed, and there were enough of them."""
    pairs = [
        (_median_ms(mine), _median_ms(its))
        for mine, its in zip(one.turns, other.turns, strict=True)
        if mine.valid and its.valid
    ]
    return len(pairs) >= ROUNDS and all(mine < its for mine, its in pairs)


def _median_ms(*turns: BenchmarkResult) -> float:
    return median_ns(*turns) / 1e6


def _over(entrant: Entrant, goal: Goal) -> str:
    """The budget that was passed on the target; empty: none."""
    took = latency(entrant)
    if goal.max_latency_ms is not None and took.low > goal.max_latency_ms:
        return f"measured at {took.mid:.3g} ms, the budget is {goal.max_latency_ms:g}"
    peak = _peak(entrant)
    if goal.max_memory_mb is not None and peak and peak > goal.max_memory_mb * 1e6:
        return f"measured at {peak / 1e6:.3g} MB of memory, the budget is {goal.max_memory_mb:g}"
    return ""


def _peak(entrant: Entrant) -> int | None:
    """The highest peak memory of all rounds; ``None`` where the system does not tell."""
    return max((turn.peak_memory_bytes or 0 for turn in entrant.turns), default=0) or None


def _passing(
    request: Request,
    made: Plan,
    measured: list[Entrant],
    scratch: Path,
    cache: Path | None,
    on_stage: OnStage,
) -> Iterator[Entrant]:
    """The candidates that pass, in the plan's order, a bundle each; built as they are asked for.

    What ``measured`` has shown by then to lack something on the target is not built any more.
    """
    rest = made.candidates
    while rest:
        path = scratch / f"{len(made.candidates) - len(rest)}{bundle.SUFFIX}"
        try:
            built = pipeline.build(
                structs.replace(request, plan=structs.replace(made, candidates=rest)),
                path,
                cache=cache,
                on_stage=on_stage,
            )
        except (GateError, ToolError):
            if rest is made.candidates:
                raise
            return
        planned = built.manifest.recipe.planned
        (candidate,) = [c for c in rest if c.recipe == planned]
        yield Entrant(candidate=candidate, built=built)
        lacking = {_needs(entrant.candidate) for entrant in measured if entrant.lacks}
        rest = rest[rest.index(candidate) + 1 :]
        rest = tuple(c for c in rest if _needs(c) not in lacking)


def _needs(candidate: Candidate) -> tuple[Format, str]:
    """What a target may lack altogether: a runtime of the format, or the accelerator's delegate."""
    return candidate.recipe.format, candidate.recipe.accelerator


def _published(
    winner: Entrant,
    entrants: list[Entrant],
    made: Plan,
    destination: Path,
) -> Built:
    """The winner's bundle, with everyone's figures in its manifest."""
    with (
        bundle.opened(winner.built.path) as opened,
        tempfile.TemporaryDirectory(prefix="edgekit-") as folder,
    ):
        root = Path(folder) / "bundle"
        shutil.copytree(opened.root, root)
        manifest: Manifest = structs.replace(
            opened.manifest,
            plan=made,
            attempts=tuple(a for entrant in entrants for a in entrant.built.manifest.attempts),
            measured=tuple(_record(entrant, winner) for entrant in entrants),
        )
        sha256 = bundle.write(root, manifest, destination)
        manifest = bundle.parse((root / bundle.MANIFEST).read_bytes())
    return structs.replace(
        winner.built,
        path=destination,
        sha256=sha256,
        manifest=manifest,
        elapsed_s=sum(entrant.built.elapsed_s for entrant in entrants),
        cached=all(entrant.built.cached for entrant in entrants),
    )


def _record(entrant: Entrant, winner: Entrant) -> Measured:
    last = entrant.turns[-1] if entrant.turns else None
    won = entrant is winner
    doubts = {turn.why_invalid for turn in entrant.turns if turn.why_invalid}
    return Measured(
        recipe=entrant.built.manifest.recipe,
        prediction=_predicted(entrant),
        size_bytes=entrant.built.manifest.artifact.size_bytes,
        latency_ms=latency(entrant) if last else None,
        peak_memory_bytes=_peak(entrant),
        rounds=len(entrant.turns),
        target=last.target if last else "",
        device_fingerprint=last.device.fingerprint if last else "",
        runtime=f"{last.runtime.name} {last.runtime.version}" if last else "",
        outcome=Outcome.CHOSEN if won else Outcome.REJECTED,
        reason=entrant.refusal or _standing(entrant, winner),
        doubts=tuple(sorted(doubts)),
    )


def _predicted(entrant: Entrant) -> Prediction:
    """Of what was built: as planned, and what raising some of its nodes adds."""
    planned, last = entrant.candidate.prediction, entrant.built.manifest.attempts[-1]
    if last.price is None:
        return planned
    took, more = planned.latency_ms, last.price.latency_ms
    moved = Range(took.low + more, took.mid + more, took.high + more)
    return structs.replace(planned, latency_ms=moved)


def _standing(entrant: Entrant, winner: Entrant) -> str:
    """How an entrant that was right stands against the winner."""
    if entrant is winner:
        return "measured best, or first in the plan of those that the rounds leave open"
    ratio = _median_ms(*_believed(entrant)) / _median_ms(*_believed(winner))
    apart = _is_faster(winner, entrant) or _is_faster(entrant, winner)
    return f"{ratio:.3g} times the time" + ("" if apart else ", too near to tell apart")
