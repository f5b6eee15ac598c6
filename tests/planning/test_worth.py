"""What pays, and the Pareto front."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.domain import (
    CPU,
    Candidate,
    Format,
    Goal,
    Granularity,
    Mode,
    Prediction,
    Prefer,
    Quantization,
    Range,
    Recipe,
)
from edgekit.planning.budgets import budgets
from edgekit.planning.worth import paying, with_pareto
from tests.planning.networks import shipped

PI = shipped("raspberry-pi-5")
INT8 = Quantization(mode=Mode.WEIGHT_ONLY, weights="int8", activations="float32")
STATIC = Quantization(mode=Mode.STATIC, weights="int8", activations="int8")
INT4 = Quantization(mode=Mode.WEIGHT_ONLY, weights="int4", activations="float32")
COARSE = Quantization(
    mode=Mode.STATIC, weights="int8", activations="int8", granularity=Granularity.PER_TENSOR
)


def exactly(value: float) -> Range:
    return Range(value, value, value)


def candidate(quantization=None, ms=1.0, mb=1.0, mj=None, accelerator=CPU, runtime="litert"):
    return Candidate(
        recipe=Recipe(
            format=Format.LITERT,
            runtime=runtime,
            quantization=quantization,
            accelerator=accelerator,
        ),
        prediction=Prediction(
            latency_ms=exactly(ms),
            peak_memory_bytes=exactly(mb * 2e6),
            size_bytes=exactly(mb * 1e6),
            energy_mj=exactly(ms if mj is None else mj),
        ),
        reasons=("",),
    )


def pays(mine, other, **goal):
    asked = Goal(**goal)
    kept, unpaid = paying([mine, other], asked, budgets(PI, asked))
    assert {*kept, *(c for c in (mine, other) if c not in kept)} == {mine, other}
    assert len(kept) + len(unpaid) == 2
    return mine in kept


FLOAT = candidate()


@pytest.mark.parametrize(
    ("mine", "prefer", "expected"),
    [
        (candidate(INT8, ms=0.5, mb=0.25), Prefer.LATENCY, True),
        (candidate(INT8, ms=1.0, mb=0.25), Prefer.LATENCY, True),
        (candidate(INT8, ms=0.97, mb=0.97), Prefer.LATENCY, False),
        (candidate(INT8, ms=1.2, mb=0.25), Prefer.LATENCY, False),
        (candidate(INT8, ms=1.2, mb=0.25), Prefer.ENERGY, False),
        (candidate(INT8, ms=1.2, mj=0.5, mb=1.0), Prefer.ENERGY, True),
        (candidate(INT8, ms=1.7, mb=0.25), Prefer.ACCURACY, True),
        (candidate(INT8, ms=1.8, mb=0.25), Prefer.ACCURACY, False),
        (candidate(INT8, ms=8.4, mb=0.25), Prefer.SIZE, True),
        (candidate(INT8, ms=8.6, mb=0.25), Prefer.SIZE, False),
        (candidate(INT8, ms=17, mb=0.25), Prefer.SIZE, False),
        (candidate(INT8, ms=2.0, mb=1.1), Prefer.SIZE, False),
    ],
)
def test_a_recipe_brings_time_or_bytes_worth_their_time(mine, prefer, expected):
    assert pays(mine, FLOAT, prefer=prefer) is expected


def test_the_reason_has_both_sides_numbers():
    goal = Goal()
    slow = candidate(INT8, ms=2, mb=0.25)
    _, (unpaid,) = paying([slow, FLOAT], goal, budgets(PI, goal))
    assert unpaid.prediction == slow.prediction
    assert unpaid.reason == (
        "does not pay: 2 ms expected where float32 on litert (cpu) takes 1, at 0.25 MB against 1"
    )


def test_within_a_stage_the_gate_decides():
    assert pays(candidate(STATIC, ms=1.0), candidate(INT8, ms=0.9))


@pytest.mark.parametrize("last", [INT4, COARSE])
def test_the_last_stage_is_held_against_eight_bits(last):
    eight = candidate(STATIC, ms=0.5, mb=0.25)
    assert not pays(candidate(last, ms=0.9, mb=0.13), eight)
    assert pays(candidate(last, ms=0.9, mb=0.13), eight, prefer=Prefer.SIZE)


def test_an_accelerator_is_held_against_the_cpu_but_not_the_other_way_round():
    assert not pays(candidate(ms=1.5, accelerator="gpu"), FLOAT)
    assert pays(candidate(ms=0.5, accelerator="gpu"), FLOAT)
    assert pays(candidate(INT8, ms=0.8, mb=0.3), candidate(ms=0.1, accelerator="gpu")), (
        "the GPU may not be there"
    )


def test_what_passes_a_budget_holds_nobody_back():
    slow = candidate(INT8, ms=2, mb=0.25)
    assert not pays(slow, FLOAT)
    assert pays(slow, FLOAT, max_size_mb=0.5)


figures = st.floats(0.1, 10)


@given(
    st.lists(st.tuples(st.sampled_from([None, INT8, STATIC, INT4]), figures, figures), max_size=6)
)
def test_the_front_is_what_nothing_beats(rows):
    candidates = with_pareto([candidate(q, ms, mb) for q, ms, mb in rows])
    for prefer in (lambda p: p.latency_ms.mid, lambda p: p.size_bytes.mid):
        if candidates:
            least = min(prefer(c.prediction) for c in candidates)
            assert any(c.pareto and prefer(c.prediction) == least for c in candidates)
    assert candidates == [] or any(c.pareto for c in candidates)


def test_what_another_beats_in_every_way_is_not_on_the_front():
    first, second = with_pareto([candidate(ms=2, mb=2), candidate(ms=1, mb=2)])
    assert (first.pareto, second.pareto) == (False, True)
    twins = with_pareto([candidate(), candidate(runtime="other")])
    assert all(c.pareto for c in twins)
