"""Two bundles on one device, measured in turn: which is faster, and how surely.

Where the runner can, the two take turns of some hundredths of a second, and what disturbs the
device for longer disturbs both alike. Of each turn the runs count that nobody interrupted: to wait
for a core adds the same to both, and hides their difference. So the ratio is of both left alone;
whose own runs scatter more, the latencies beside it tell.

No pair is dropped. A busy or throttled device makes both latencies doubtful, not their ratio; it is
said as a doubt all the same, because a device that is hot or short of memory may slow one network
more than another.

Core ML's parts cannot wait for turns: each is measured in visits of its own, seconds apart, and
disturbed pairs are made up for.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from msgspec import Struct, structs

from edgekit import bundle, field, rounds
from edgekit.benchmarking import Duel, Settings
from edgekit.benchmarking.ratios import FEWEST, FEWEST_IN_TURNS, Ratio, compared, in_turns
from edgekit.devices.provision import AS_IT_IS, Equipment
from edgekit.domain import BenchmarkResult, Format
from edgekit.errors import UsageError
from edgekit.observer import OnStage, silent
from edgekit.rounds import median_ns

_TURN = Settings(runs=20, seconds=1.5, warmup_seconds=0.2, processes=1, memory=False, energy=False)

Measure = Callable[[], BenchmarkResult]


class Pace(Struct, frozen=True, kw_only=True):
    """How long is measured.

    Attributes:
        pairs: of fresh processes, one for each bundle; 5 at least, 8 for Core ML.
        seconds: of measuring in each process, at least.
    """

    pairs: int = 10
    seconds: float = _TURN.seconds


_PACE = Pace()


class Comparison(Struct, frozen=True, kw_only=True):
    """What was found.

    Attributes:
        first: the results of the one; ``second`` those of the other.
        ratio: the second's latency over the first's.
        doubts: what disturbed the device meanwhile.
    """

    first: tuple[BenchmarkResult, ...]
    second: tuple[BenchmarkResult, ...]
    ratio: Ratio
    doubts: tuple[str, ...] = ()


def compare(
    first: Path,
    second: Path,
    on: str,
    *,
    pace: Pace = _PACE,
    equipment: Equipment = AS_IT_IS,
    accept_new: bool = False,
    on_stage: OnStage = silent,
) -> Comparison:
    """Push two bundles, compare their golden vectors on the device, and measure them in turn.

    Args:
        first: a bundle.
        second: what is compared with it.
        on: ``local[:/folder]`` or ``ssh://[user@]host[:port][/folder]``.
        pace: how long.
        equipment: as for ``field.measure``.
        accept_new: record the key of a host seen for the first time.
        on_stage: told the stages as they begin.

    Raises:
        UsageError: too few pairs.
        EdgekitError: as ``field.measure``, for either.
    """
    turn = structs.replace(_TURN, seconds=pace.seconds)
    with ExitStack() as open_:
        one, other = (open_.enter_context(bundle.opened(path)) for path in (first, second))
        formats = {opened.manifest.artifact.format for opened in (one, other)}
        fewest = FEWEST if Format.COREML in formats else FEWEST_IN_TURNS
        if pace.pairs < fewest:
            raise UsageError(f"{pace.pairs} pairs settle nothing", f"give {fewest} or more")
        if Format.COREML not in formats:
            fought = field.duel(
                one,
                other,
                on,
                structs.replace(turn, processes=pace.pairs),
                equipment=equipment,
                accept_new=accept_new,
                on_stage=on_stage,
            )
            return of_duel(fought)
        visits = [
            open_.enter_context(
                field.visiting(
                    path, on, equipment=equipment, accept_new=accept_new, on_stage=on_stage
                )
            )
            for path in (one, other)
        ]
        return in_pairs((lambda: visits[0](turn), lambda: visits[1](turn)), pace.pairs, on_stage)


def of_duel(fought: Duel) -> Comparison:
    """What two that took turns come to."""
    doubts = {why for one in (fought.first, fought.second) if (why := one.why_invalid)}
    return Comparison(
        first=(fought.first,),
        second=(fought.second,),
        ratio=in_turns(fought.pairs_ns),
        doubts=tuple(sorted(doubts)),
    )


def in_pairs(measures: tuple[Measure, Measure], pairs: int, on_stage: OnStage) -> Comparison:
    """Both measured back to back, until enough pairs were undisturbed, or twice as many tried.

    Which of the two begins changes from pair to pair: a drift favours neither. Where undisturbed
    pairs were too few, all count.
    """

    def turn(which: int, number: int) -> BenchmarkResult:
        on_stage("compare", f"pair {number}, {'AB'[which]}")
        return measures[which]()

    tried = rounds.measured([partial(turn, 0), partial(turn, 1)], pairs)
    counted = rounds.undisturbed(tried)
    if len(counted) < FEWEST:
        counted = tried
    results = [(one, other) for one, other in counted if one and other]
    doubts = {why for turns in tried for turn in turns if turn and (why := turn.why_invalid)}
    return Comparison(
        first=tuple(one for one, _ in results),
        second=tuple(other for _, other in results),
        ratio=compared([(median_ns(one), median_ns(other)) for one, other in results]),
        doubts=tuple(sorted(doubts)),
    )
