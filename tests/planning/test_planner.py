"""What is built for a device, in which order and why; what is not, and why not."""

import itertools
import re
import subprocess
import sys

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from msgspec import structs

from edgekit.domain import CPU, MIB, Format, Goal, Mode, Plan, Prefer, Requirement, Tops
from edgekit.errors import GoalError, InputError
from edgekit.planning import Choice, plan
from tests.planning import networks
from tests.planning.networks import (
    CONVOLUTIONS,
    MATRICES,
    PLANNABLE,
    QUANTIZED,
    network,
    op,
    shipped,
)

PI = shipped("raspberry-pi-5")
BUDGETS = {
    "max_latency_ms": lambda p: p.latency_ms,
    "max_size_mb": lambda p: p.size_bytes,
    "max_memory_mb": lambda p: p.peak_memory_bytes,
    "max_energy_mj": lambda p: p.energy_mj,
}


def planned(device, summary=CONVOLUTIONS, choice=None, **goal):
    return plan(summary, shipped(device), Goal(**goal), choice)


def labels(made):
    return [candidate.recipe.label for candidate in made.candidates]


def reasons(made):
    """Label -> why it was rejected."""
    return {rejection.recipe.label: rejection.reason for rejection in made.rejected}


def quantizations(made, mode, format_, accelerator=CPU):
    recipes = [entry.recipe for entry in (*made.candidates, *made.rejected)]
    return [
        recipe.quantization
        for recipe in recipes
        if recipe.quantization is not None
        and (recipe.quantization.mode, recipe.format) == (mode, format_)
        and recipe.accelerator == accelerator
    ]


# Which comes first, and why


@pytest.mark.parametrize(
    ("device", "first", "why"),
    [
        (
            "raspberry-pi-5",
            "int8-static on litert (cpu)",
            "s8s8, per-channel: cortex-a76 multiplies int8 natively",
        ),
        (
            "jetson-orin-nano",
            "int8-static on onnxruntime (ampere-gpu)",
            "symmetric int8: ampere-gpu takes no zero points",
        ),
        (
            "pixel-8",
            "int8-static on litert (cpu)",
            "s8s8, per-channel: cortex-x3 multiplies int8 natively",
        ),
        (
            "coral-dev-board",
            "int8-static on tflite-runtime (cpu)",
            "s8s8, per-channel: cortex-a53 has no int8 dot product",
        ),
        (
            "generic-x86-64",
            "int8-static on onnxruntime (cpu)",
            "u8s8, per-channel: generic-avx2 has no int8 dot product; "
            "7-bit weights, because AVX2 saturates",
        ),
    ],
)
def test_the_first_choice_of_a_device(device, first, why):
    best = planned(device).candidates[0]
    assert best.recipe.label == first
    assert why in best.reasons
    assert any("ms expected on" in reason for reason in best.reasons)
    assert any("of weights in the source" in reason for reason in best.reasons)


def test_every_format_and_accelerator_of_the_device_is_considered():
    made = planned("jetson-orin-nano")
    seen = {
        (entry.recipe.runtime, entry.recipe.accelerator)
        for entry in (*made.candidates, *made.rejected)
    }
    assert seen == set(itertools.product(("onnxruntime", "litert"), (CPU, "ampere-gpu")))


@pytest.mark.parametrize(
    ("device", "format_", "activations", "reduced"),
    [
        ("raspberry-pi-5", Format.ONNXRUNTIME, "int8", False),
        ("raspberry-pi-5", Format.LITERT, "int8", False),
        ("generic-x86-64", Format.ONNXRUNTIME, "uint8", True),
        ("generic-x86-64", Format.LITERT, "int8", False),
        ("intel-n100", Format.ONNXRUNTIME, "uint8", False),
    ],
)
def test_static_int8_follows_the_instruction_set(device, format_, activations, reduced):
    (static,) = quantizations(planned(device), Mode.STATIC, format_)
    assert (static.weights, static.activations) == ("int8", activations)
    assert (static.reduced_range, static.symmetric_activations) == (reduced, False)


def test_tensorrt_takes_symmetric_int8_and_half_precision():
    made = planned("jetson-orin-nano")
    (static,) = quantizations(made, Mode.STATIC, Format.ONNXRUNTIME, "ampere-gpu")
    assert static.symmetric_activations
    assert "float16 on onnxruntime (ampere-gpu)" in labels(made)
    assert "float32 on onnxruntime (ampere-gpu)" in labels(made)


def test_an_accelerator_of_full_int8_gets_nothing_else():
    phone = shipped("galaxy-s23")
    gpu, hexagon = phone.accelerators
    assert Requirement.FULL_INT8 in hexagon.requires
    able = structs.replace(hexagon, tops=Tops(int8=48, float16=24, float32=12))
    made = plan(CONVOLUTIONS, structs.replace(phone, accelerators=(gpu, able)), Goal())
    on = [c for c in made.candidates if c.recipe.accelerator == "hexagon"]
    assert {c.recipe.precision for c in on} == {"int8-static"}
    assert all("int8: hexagon computes it natively" in c.reasons for c in on)


def test_large_work_takes_the_fastest_cores():
    large = network(*[op("Conv", 10**8, 1000)] * 5)
    assert planned("raspberry-pi-5", large).candidates[0].recipe.threads == 4
    assert planned("pixel-8", large).candidates[0].recipe.threads == 1, "it has one such core"
    assert planned("raspberry-pi-5").candidates[0].recipe.threads == 1


def test_the_goal_decides_the_order():
    first = {prefer: planned("raspberry-pi-5", prefer=prefer).candidates[0] for prefer in Prefer}
    assert first[Prefer.ACCURACY].recipe.precision == "float32"
    made = planned("raspberry-pi-5", prefer=Prefer.SIZE)
    sizes = [candidate.prediction.size_bytes.mid for candidate in made.candidates]
    assert sizes == sorted(sizes)
    made = planned("raspberry-pi-5", prefer=Prefer.ENERGY)
    energies = [candidate.prediction.energy_mj.mid for candidate in made.candidates]
    assert energies == sorted(energies)


# What is rejected


@pytest.mark.parametrize(
    ("device", "label", "why"),
    [
        ("pixel-8", "float32 on onnxruntime (mali-g715)", "onnxruntime has no way to reach it"),
        ("pixel-8", "float32 on litert (tensor-tpu)", "its throughput is not published"),
        ("jetson-orin-nano", "float32 on litert (ampere-gpu)", "litert has no way to reach it"),
        ("coral-dev-board", "float32 on tflite-runtime (edge-tpu)", "edgetpu_compiler"),
    ],
)
def test_an_accelerator_out_of_reach_is_rejected_with_its_reason(device, label, why):
    made = planned(device)
    assert why in reasons(made)[label]
    accelerator = label.split("(")[1].rstrip(")")
    assert reasons(made)[label].startswith(f"{accelerator}: ")


def test_a_device_of_another_format_is_refused():
    with pytest.raises(InputError) as caught:
        planned("iphone-15-pro", choice=Choice(formats=(Format.LITERT,)))
    assert caught.value.message == "iphone-15-pro does not take litert"
    assert caught.value.hint == "it takes coreml"


def test_a_format_that_the_device_does_not_take_is_refused():
    with pytest.raises(InputError) as caught:
        planned("coral-dev-board", choice=Choice(formats=(Format.ONNXRUNTIME,)))
    assert "does not take onnxruntime" in caught.value.message
    assert caught.value.hint == "it takes litert"


def test_without_calibration_nothing_static_is_built():
    made = planned("raspberry-pi-5", choice=Choice(calibration=False))
    assert not any("int8-static" in label for label in labels(made))
    rejected = [reason for label, reason in reasons(made).items() if "int8-static" in label]
    assert len(rejected) == 2
    assert all("--calibration" in reason for reason in rejected)


def test_a_quantized_model_is_not_quantized_again():
    made = planned("raspberry-pi-5", QUANTIZED)
    assert {candidate.recipe.quantization for candidate in made.candidates} == {None}
    assert all("already quantized" in reason for reason in reasons(made).values())


def test_dynamic_int8_of_convolutions_is_not_for_onnxruntime():
    label = "int8-dynamic on onnxruntime (cpu)"
    assert "convolutions do 100%" in reasons(planned("raspberry-pi-5"))[label]
    assert label in labels(planned("raspberry-pi-5", MATRICES))


def test_what_is_slower_than_float_does_not_pay():
    label = "float16 on onnxruntime (cpu)"
    assert "does not pay" in reasons(planned("raspberry-pi-5"))[label]
    assert label in labels(planned("raspberry-pi-5", prefer=Prefer.SIZE)), "it is smaller"
    assert label in labels(planned("raspberry-pi-5", max_size_mb=10))


def test_the_choice_narrows_the_search():
    made = planned("raspberry-pi-5", choice=Choice(formats=(Format.LITERT,)))
    assert {candidate.recipe.format for candidate in made.candidates} == {Format.LITERT}
    made = planned("raspberry-pi-5", choice=Choice(precisions=("float32",)))
    assert {candidate.recipe.precision for candidate in made.candidates} == {"float32"}
    assert "another precision was asked for" in reasons(made).values()


def test_a_model_larger_than_the_device_is_refused():
    huge = network(op("Conv", 10**6, 10**6), peak=600 * MIB)
    with pytest.raises(GoalError) as caught:
        planned("coral-dev-board", huge, choice=Choice(precisions=("float32",)))
    assert "memory: at least 604 MiB, the budget is 512" in caught.value.message


# Budgets


@pytest.mark.parametrize("budget", BUDGETS)
def test_an_impossible_goal_is_answered_with_what_is_possible(budget):
    with pytest.raises(GoalError) as caught:
        planned("raspberry-pi-5", **{budget: 1e-6})
    word = budget.split("_")[1]
    assert f"int8-static: {word}: at least" in caught.value.message
    unit = {"latency": "ms", "size": "MB in storage", "memory": "MB in memory", "energy": "mJ"}
    found = re.search(rf"([\d.]+) to [\d.]+ {unit[word]} \(([^;]+)\)(;|$)", caught.value.hint)
    least, label = float(found[1]), found[2]
    assert label in labels(planned("raspberry-pi-5", **{budget: 1.01 * least}))


def test_what_cannot_be_made_is_not_called_possible():
    choice = Choice(calibration=False)
    with pytest.raises(GoalError) as caught:
        planned("raspberry-pi-5", choice=choice, max_latency_ms=1e-6)
    assert "int8-static: static int8 needs calibration" in caught.value.message
    assert "int8-static" not in caught.value.hint
    with pytest.raises(GoalError) as caught:
        planned("raspberry-pi-5", choice=Choice(precisions=("int4",)))
    assert caught.value.hint == "nothing was left to choose from"


def test_a_latency_inside_the_interval_is_left_to_the_device():
    expected = planned("raspberry-pi-5").candidates[0].prediction.latency_ms
    inside = planned("raspberry-pi-5", max_latency_ms=expected.low * 1.5).candidates[0]
    assert any("lies inside the interval: measure it" in reason for reason in inside.reasons)
    loose = planned("raspberry-pi-5", max_latency_ms=expected.high * 1.01).candidates[0]
    assert not any("lies inside" in reason for reason in loose.reasons)
    with pytest.raises(GoalError):
        planned("raspberry-pi-5", max_latency_ms=expected.low * 0.99)


def test_a_tighter_size_brings_nothing_in_that_float_held_back():
    """Half precision is slower here and hardly smaller: most weights are not multiplied."""
    table = network(op("Gather", 0, 10**6), op("Conv", 10**8, 10**5))
    loose, tight = (planned("raspberry-pi-5", table, max_size_mb=mb) for mb in (10, 4.1))
    assert "float32 on onnxruntime (cpu, 4 threads)" in set(labels(loose)) - set(labels(tight))
    assert "float16 on onnxruntime (cpu, 4 threads)" in labels(tight)
    assert set(labels(tight)) <= set(labels(loose))


# Properties

goals = st.fixed_dictionaries(
    {"prefer": st.sampled_from(Prefer)},
    optional={
        "max_latency_ms": st.floats(1e-3, 1e3),
        "max_size_mb": st.floats(1e-3, 30),
        "max_memory_mb": st.floats(1, 300),
        "max_energy_mj": st.floats(1e-3, 1e3),
    },
)
devices = st.sampled_from(PLANNABLE)


def attempt(summary, profile, goal, choice=None):
    """The plan, or one without candidates."""
    try:
        return plan(summary, profile, Goal(**goal), choice)
    except GoalError:
        return Plan(model_sha256="", device="", goal=Goal(**goal), candidates=(), rejected=())


@settings(max_examples=50, deadline=None)
@given(networks.summaries, devices, goals)
def test_equal_questions_get_equal_plans(summary, profile, goal):
    assert attempt(summary, profile, goal) == attempt(summary, profile, goal)


@settings(max_examples=50, deadline=None)
@given(
    networks.summaries, st.sampled_from([p for p in PLANNABLE if len(p.accelerators) > 1]), goals
)
def test_the_order_of_accelerators_does_not_matter(summary, profile, goal):
    reversed_ = structs.replace(profile, accelerators=profile.accelerators[::-1])
    there, back = (attempt(summary, p, goal) for p in (profile, reversed_))
    assert there.candidates == back.candidates
    assert {r.recipe.label for r in there.rejected} == {r.recipe.label for r in back.rejected}


@settings(max_examples=50, deadline=None)
@given(networks.summaries, devices, goals, st.floats(0.05, 1), st.data())
def test_a_tighter_budget_only_takes_away(summary, profile, goal, factor, data):
    loose = attempt(summary, profile, goal)
    set_ = sorted(set(goal) - {"prefer"})
    assume(loose.candidates and set_)
    name = data.draw(st.sampled_from(set_))
    tight = attempt(summary, profile, goal | {name: goal[name] * factor})
    assert set(labels(tight)) <= set(labels(loose))
    if name == "max_size_mb" and tight.candidates:
        first, before = (p.candidates[0].prediction.size_bytes.mid for p in (tight, loose))
        assert first <= before


@settings(max_examples=50, deadline=None)
@given(networks.summaries, devices, goals)
def test_no_candidate_is_over_budget_even_at_best(summary, profile, goal):
    for candidate in attempt(summary, profile, goal).candidates:
        p = candidate.prediction
        assert p.peak_memory_bytes.low <= profile.memory.model_budget_mib * MIB
        for name in set(goal) - {"prefer"}:
            unit = 1e6 if name.endswith("mb") else 1
            assert BUDGETS[name](p).low <= goal[name] * unit


@settings(max_examples=50, deadline=None)
@given(networks.summaries, devices, goals, st.booleans())
def test_everything_is_explained(summary, profile, goal, calibration):
    made = attempt(summary, profile, goal, Choice(calibration=calibration))
    assert all(candidate.reasons for candidate in made.candidates)
    assert all(rejection.reason for rejection in made.rejected)
    every = labels(made) + [rejection.recipe.label for rejection in made.rejected]
    assert len(every) == len(set(every)), "each recipe is decided once"


def test_planning_loads_nothing_heavy():
    code = "import sys, edgekit.planning; print(*sys.modules)"
    asked = [sys.executable, "-c", code]
    loaded = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split()
    assert "edgekit.planning.planner" in loaded
    assert not {"numpy", "onnx", "onnxruntime"} & set(loaded)
