"""Two bundles on one device, measured back to back in turn: which is faster, and how surely."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from msgspec import Struct, structs

from edgekit import field, rounds
from edgekit.benchmarking import Settings
from edgekit.benchmarking.ratios import FEWEST, Ratio, compared
from edgekit.devices.provision import AS_IT_IS, Equipment
from edgekit.domain import BenchmarkResult
from edgekit.errors import UsageError
from edgekit.observer import OnStage, silent
from edgekit.rounds import median_ns

_TURN = Settings(seconds=0.5, warmup_seconds=0.1, processes=1, memory=False, energy=False)

Measure = Callable[[], BenchmarkResult]


class Pace(Struct, frozen=True, kw_only=True):
    """How long is measured.

    Attributes:
        pairs: how many, 8 at least; each turn is a process of its own.
        seconds: of measuring in each turn, at least.
    """

    pairs: int = 16
    seconds: float = _TURN.seconds


_PACE = Pace()


class Comparison(Struct, frozen=True, kw_only=True):
    """What was found.

    Attributes:
        first: the results of the one, a turn each; ``second`` those of the other, in pairs.
        ratio: the second's latency over the first's.
        doubts: why turns were disturbed; where undisturbed pairs were too few, all count.
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

    Which of the two begins changes from pair to pair: a drift favours neither.

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
    if pace.pairs < FEWEST:
        raise UsageError(f"{pace.pairs} pairs settle nothing", f"give {FEWEST} or more")
    turn = structs.replace(_TURN, seconds=pace.seconds)
    with ExitStack() as open_:
        visits = [
            open_.enter_context(
                field.visiting(
                    path, on, equipment=equipment, accept_new=accept_new, on_stage=on_stage
                )
            )
            for path in (first, second)
        ]
        return in_pairs((lambda: visits[0](turn), lambda: visits[1](turn)), pace.pairs, on_stage)


def in_pairs(measures: tuple[Measure, Measure], pairs: int, on_stage: OnStage) -> Comparison:
    """Both measured back to back, until enough pairs were undisturbed, or twice as many tried."""

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
