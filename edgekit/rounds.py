"""Several things measured in turn, round after round: whatever drifts drifts for all alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median

from edgekit.domain import BenchmarkResult

_MAKE_UP = 2
"""Disturbed rounds are made up for, up to this many times the rounds asked for."""

Turn = BenchmarkResult | None
"""``None``: who was to be measured is out, and stays out."""

Round = tuple[Turn, ...]


def measured(measures: Sequence[Callable[[int], Turn]], rounds: int) -> list[Round]:
    """Everyone once in each round, until enough rounds were undisturbed, or nobody is left.

    Every other round goes backwards: who comes first has no advantage. Where all of as many as
    were wanted were disturbed, no more are tried: it will not be calm.

    Args:
        measures: each measures one once; it is told the round's number, from 1 on.
        rounds: how many undisturbed ones are wanted; at most twice as many are tried.
    """
    done: list[Round] = []
    while len(done) < rounds * _MAKE_UP and len(undisturbed(done)) < rounds:
        if len(done) == rounds and not undisturbed(done):
            break
        number, order = len(done) + 1, range(len(measures))
        turns = {which: measures[which](number) for which in (order if number % 2 else order[::-1])}
        done.append(tuple(turns[which] for which in order))
        if not any(done[-1]):
            break
    return done


def undisturbed(rounds: Sequence[Round]) -> list[Round]:
    """The rounds of which every turn can be believed; who was out by then does not count."""
    out = {which for one in rounds for which, turn in enumerate(one) if turn is None}
    return [
        one
        for one in rounds
        if all(turn is None or turn.valid for which, turn in enumerate(one) if which not in out)
    ]


def median_ns(*turns: BenchmarkResult) -> float:
    """The median of all runs, in nanoseconds."""
    return median(sample for turn in turns for sample in turn.samples_ns)
