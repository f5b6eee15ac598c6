"""Two bundles in turn: who is measured when, which pairs count, and what is said of them."""

from __future__ import annotations

from collections.abc import Iterator

from edgekit.benchmarking.ratios import FEWEST, Verdict
from edgekit.comparison import Comparison, in_pairs
from edgekit.domain import BenchmarkResult
from tests.test_contest import turn

PAIRS = 8


def compared(
    first: Iterator[BenchmarkResult], second: Iterator[BenchmarkResult], pairs: int = PAIRS
) -> tuple[Comparison, list[str]]:
    said: list[str] = []
    measures = (lambda: next(first), lambda: next(second))
    return in_pairs(measures, pairs, lambda _, what: said.append(what)), said


def drifting(factor: float = 1.0, disturbed: int = 0) -> Iterator[BenchmarkResult]:
    """Each turn slower than the one before, by a tenth; the first ones disturbed."""
    for number in range(100):
        wrong = number < disturbed
        yield turn(factor * 1.1**number * (3 if wrong else 1), valid=not wrong)


def test_they_take_turns_and_none_is_always_first() -> None:
    found, said = compared(drifting(), drifting(1.05))
    assert said[:4] == ["pair 1, A", "pair 1, B", "pair 2, B", "pair 2, A"]
    assert len(said) == 2 * PAIRS
    assert found.ratio.verdict is Verdict.SLOWER
    assert len(found.first) == len(found.second) == PAIRS
    assert found.doubts == ()


def test_disturbed_pairs_are_made_up_for_and_do_not_count() -> None:
    found, said = compared(drifting(), drifting(1.05, disturbed=3))
    assert len(said) == 2 * (PAIRS + 3)
    assert len(found.second) == PAIRS
    assert found.doubts == ("busy",)
    assert abs(found.ratio.value - 1.05) < 1e-3


def test_where_all_were_disturbed_all_count_and_it_is_said() -> None:
    found, said = compared(drifting(disturbed=100), drifting(1.05, disturbed=100))
    assert len(said) == 2 * PAIRS, "no more are tried: it will not be calm"
    assert len(found.first) == PAIRS
    assert found.doubts == ("busy",)


def test_it_is_tried_again_while_some_are_calm_but_not_forever() -> None:
    def restless() -> Iterator[BenchmarkResult]:
        for number in range(100):
            yield turn(1.05, valid=number == 0)

    found, said = compared(drifting(), restless())
    assert len(said) == 2 * 2 * PAIRS
    assert len(found.first) == 2 * PAIRS, "one calm pair is too few: all count"


def test_an_open_question_says_how_much_more_would_settle_it() -> None:
    def scattered() -> Iterator[BenchmarkResult]:
        for number in range(100):
            yield turn(1.03 * (1.04 if number % 2 else 0.96))

    def even() -> Iterator[BenchmarkResult]:
        return (turn(1.0) for _ in range(100))

    found, _ = compared(even(), scattered(), FEWEST)
    assert found.ratio.verdict is Verdict.INCONCLUSIVE
    assert found.ratio.more_pairs
    more, _ = compared(even(), scattered(), FEWEST + found.ratio.more_pairs)
    assert more.ratio.high - more.ratio.low < found.ratio.high - found.ratio.low
