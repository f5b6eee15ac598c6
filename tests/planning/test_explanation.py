"""A decision as a person would explain it; and that devices decide differently, and say why."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.domain import MIB, Format, Goal, Prefer
from edgekit.errors import GoalError
from edgekit.planning import Choice, explain, plan
from edgekit.planning.explanation import HEAVIEST
from tests.planning import networks
from tests.planning.networks import CONVOLUTIONS, PLANNABLE, network, op, shipped

JETSON = shipped("jetson-orin-nano")

MOBILE = network(
    *[
        op("Conv", 200_000_000, 200_000, (1, 96, 28, 28), 75_264),
        op("Conv", 20_000_000, 2_000, (1, 96, 28, 28), 75_264, group=96),
        op("Relu", shape=(1, 96, 28, 28)),
    ]
    * 16,
    peak=6_000_000,
)
"""A MobileNetV2 for large images: 3.5 G multiply-accumulates, 13 MB of weights."""


def explained(summary, profile, choice=None, **goal):
    made = plan(summary, profile, Goal(**goal), choice)
    return made, explain(summary, profile, made)


def test_the_limits_are_those_of_the_assumed_power_mode():
    _, full = explained(MOBILE, JETSON)
    assert full.limits == (
        "15 W in 15w, its default mode; 4.5 W idle",
        "6 cortex-a78ae at 1510 MHz",
        "4096 MiB of its 8192 MiB for a model, at 68 GB/s",
        "ampere-gpu: 20 TOPS int8, 10 TOPS float16, 1.28 TOPS float32",
    )
    _, low = explained(MOBILE, JETSON, Choice(power_modes=("7w",)))
    assert low.limits[:2] == (
        "7 W in 7w, one of its modes; 4.5 W idle",
        "6 cortex-a78ae at 967 MHz, 4 of them on",
    )
    assert low.limits[3].startswith("ampere-gpu: 13 TOPS int8")


def test_the_heaviest_layers_come_first_with_their_share():
    heavy = op("Conv", 10**9, 10**5)
    _, told = explained(network(*CONVOLUTIONS.nodes, heavy), shipped("raspberry-pi-5"))
    assert len(told.layers) == HEAVIEST
    times = [layer.latency_ms for layer in told.layers]
    assert times == sorted(times, reverse=True)
    assert told.layers[0].weight_bytes == heavy.parameter_bytes
    assert told.layers[0].latency_share > 0.5
    assert not any(layer.op == "Relu" for layer in told.layers), "fused: it takes no time"


@settings(max_examples=50, deadline=None)
@given(networks.summaries, st.sampled_from(PLANNABLE))
def test_the_parts_make_the_whole(summary, profile):
    try:
        made, told = explained(summary, profile)
    except GoalError:
        return
    assert sum(layer.latency_share for layer in told.layers) <= 1 + 1e-9
    memory = told.memory
    assert memory.weights + memory.activations + memory.rest == pytest.approx(memory.peak)
    assert memory.budget == profile.memory.model_budget_mib * MIB
    priced = [r for r in made.rejected if r.prediction]
    assert len(told.alternatives) == len(made.candidates) - 1 + len(priced)


def test_every_alternative_is_held_against_the_choice():
    made, told = explained(CONVOLUTIONS, shipped("raspberry-pi-5"))
    first, second = made.candidates[:2]
    other = told.alternatives[0]
    assert other.recipe == second.recipe
    assert other.latency == pytest.approx(
        second.prediction.latency_ms.mid / first.prediction.latency_ms.mid
    )
    assert other.why_not is None
    assert {a.why_not for a in told.alternatives if a.why_not} <= {r.reason for r in made.rejected}


# The same model, another device, another plan, for a reason that is told


FIVE = {
    "raspberry-pi-zero-2-w": (
        ("7w",)[:0],
        "int8-static on litert (cpu, 4 threads)",
        "cortex-a53 has no int8 dot product",
    ),
    "jetson-orin-nano at 7w": (
        ("7w",),
        "int8-static on onnxruntime (ampere-gpu, 7w)",
        "symmetric int8: ampere-gpu takes no zero points",
    ),
    "jetson-orin-nano at 15w": (
        ("15w",),
        "int8-static on onnxruntime (ampere-gpu)",
        "in the 15w mode (the device's default); 7w would take",
    ),
    "pixel-8": (
        (),
        "int8-static on litert (cpu, 5 threads)",
        "cortex-x3 multiplies int8 natively",
    ),
    "coral-dev-board": (
        (),
        "int8-static on tflite-runtime (cpu, 4 threads)",
        "cortex-a53 has no int8 dot product",
    ),
}


@pytest.mark.parametrize("name", FIVE)
def test_the_same_model_on_five_devices(name):
    modes, label, why = FIVE[name]
    made = plan(MOBILE, shipped(name.split(" at ")[0]), Goal(), Choice(power_modes=modes))
    assert made.candidates[0].recipe.label == label
    assert any(why in reason for reason in made.candidates[0].reasons)


def test_the_coral_says_what_its_edge_tpu_would_take():
    made = plan(MOBILE, shipped("coral-dev-board"), Goal())
    (tpu,) = [r for r in made.rejected if r.recipe.accelerator == "edge-tpu"]
    assert "edgetpu_compiler" in tpu.reason
    assert tpu.prediction.latency_ms.mid < made.candidates[0].prediction.latency_ms.mid


def test_at_7_watts_int8_does_what_float16_does_at_15():
    """Accuracy first, within 6 ms: half precision keeps it at 15 W, and passes it at 7 W."""
    firsts = {
        watts: plan(
            MOBILE,
            JETSON,
            Goal(prefer=Prefer.ACCURACY, max_latency_ms=6),
            Choice(power_modes=(watts,)),
        ).candidates
        for watts in ("15w", "7w")
    }
    assert firsts["15w"][0].recipe.precision == "float16"
    assert firsts["7w"][0].recipe.precision == "int8-static"
    half = next(c for c in firsts["7w"] if c.recipe.precision == "float16")
    assert any("latency budget of 6 ms lies inside the interval" in r for r in half.reasons)


@pytest.mark.parametrize(
    ("megabytes", "first"), [(60, "float32"), (150, "int8-dynamic"), (300, "int4-dynamic")]
)
def test_512_mb_bring_a_large_model_down_by_stages(megabytes, first):
    """Tables that are read, hardly computed with: 4 bits come only once 8 do not fit."""
    layers = [op("Gemm", 10**6, megabytes * 10**6 // 40, (1, 1000))] * 10
    choice = Choice(calibration=False, formats=(Format.LITERT,))
    made = plan(
        network(*layers), shipped("raspberry-pi-zero-2-w"), Goal(prefer=Prefer.ACCURACY), choice
    )
    assert made.candidates[0].recipe.precision == first
    stages = {c.recipe.precision.split("-")[0] for c in made.candidates}
    assert ("int4" in stages) == (first == "int4-dynamic")


def test_what_no_stage_brings_down_is_told_by_how_much():
    layers = [op("Gemm", 10**6, 200_000_000, (1, 1000))] * 10
    with pytest.raises(GoalError) as caught:
        plan(network(*layers), shipped("raspberry-pi-zero-2-w"), Goal())
    assert "would fit with a memory budget of" in caught.value.hint
    assert "% fewer weights" in caught.value.hint
    assert "int4" in caught.value.hint
