"""Two bundles on one device, measured back to back in turn: which is faster, and how surely."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from msgspec import Struct

from edgekit import field
from edgekit.benchmarking import Settings
from edgekit.benchmarking.ratios import FEWEST, Ratio, compared
from edgekit.devices.provision import AS_IT_IS, Equipment
from edgekit.domain import BenchmarkResult
from edgekit.errors import UsageError
from edgekit.observer import OnStage, silent

PAIRS = 16
_MAKE_UP = 2
"""Disturbed pairs are made up for, up to this many times the pairs asked for."""

_TURN = Settings(seconds=0.5, warmup_seconds=0.1, processes=1)

Measure = Callable[[], BenchmarkResult]


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
    pairs: int = PAIRS,
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
        pairs: how many, 8 at least; each turn is a process of its own.
        equipment: as for ``field.measure``.
        accept_new: record the key of a host seen for the first time.
        on_stage: told the stages as they begin.

    Raises:
        UsageError: too few pairs.
        EdgekitError: as ``field.measure``, for either.
    """
    if pairs < FEWEST:
        raise UsageError(f"{pairs} pairs settle nothing", f"give {FEWEST} or more")
    with ExitStack() as open_:
        visits = [
            open_.enter_context(
                field.visiting(
                    path, on, equipment=equipment, accept_new=accept_new, on_stage=on_stage
                )
            )
            for path in (first, second)
        ]
        return in_pairs((lambda: visits[0](_TURN), lambda: visits[1](_TURN)), pairs, on_stage)


def in_pairs(measures: tuple[Measure, Measure], pairs: int, on_stage: OnStage) -> Comparison:
    """Both measured back to back, until enough pairs were undisturbed, or twice as many tried."""
    measured: list[tuple[BenchmarkResult, BenchmarkResult]] = []
    while len(_undisturbed(measured)) < pairs and len(measured) < pairs * _MAKE_UP:
        on_stage("compare", f"pair {len(measured) + 1}")
        order = (0, 1) if len(measured) % 2 == 0 else (1, 0)
        turns = {which: measures[which]() for which in order}
        measured.append((turns[0], turns[1]))
    counted = _undisturbed(measured)
    if len(counted) < FEWEST:
        counted = measured
    doubts = {why for pair in measured for turn in pair if (why := turn.why_invalid)}
    return Comparison(
        first=tuple(one for one, _ in counted),
        second=tuple(other for _, other in counted),
        ratio=compared([(_median_ns(one), _median_ns(other)) for one, other in counted]),
        doubts=tuple(sorted(doubts)),
    )


def _undisturbed(
    measured: list[tuple[BenchmarkResult, BenchmarkResult]],
) -> list[tuple[BenchmarkResult, BenchmarkResult]]:
    return [pair for pair in measured if all(turn.valid for turn in pair)]


def _median_ns(result: BenchmarkResult) -> float:
    return median(result.samples_ns)
