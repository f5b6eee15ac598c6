"""What is built for a device, in which order and why; what is not, and why not."""

import itertools
import re
import subprocess
import sys

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from msgspec import structs

from edgekit.domain import (
    CPU,
    MIB,
    Format,
    Goal,
    Granularity,
    Mode,
    Plan,
    Prefer,
    Requirement,
    Tops,
)
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
    """Those of the candidates, whatever number of threads they take."""
    return [_anyhow(candidate.recipe.label) for candidate in made.candidates]


def reasons(made):
    """Label -> why it was rejected."""
    return {_anyhow(rejection.recipe.label): rejection.reason for rejection in made.rejected}


def _anyhow(label):
    return re.sub(r", \d threads", "", label)


def quantizations(made, mode, format_, accelerator=CPU):
    recipes = [entry.recipe for entry in (*made.candidates, *made.rejected)]
    return [
        recipe.quantization
        for recipe in recipes
        if recipe.quantization is not None
        and (recipe.quantization.mode, recipe.format) == (mode, format_)
        and recipe.accelerator == accelerator
        and recipe.quantization.granularity is Granularity.PER_CHANNEL
        and not recipe.quantization.wide
    ]


# Which comes first, and why


@pytest.mark.parametrize(
    ("device", "first", "why"),
    [
        (
            "raspberry-pi-5",
            "int8-static on litert (cpu, 4 threads)",
            "s8s8, per-channel: cortex-a76 multiplies int8 natively",
        ),
        (
            "jetson-orin-nano",
            "int8-static on onnxruntime (ampere-gpu)",
            "symmetric int8: ampere-gpu takes no zero points",
        ),
        (
            "pixel-8",
            "int8-static on litert (cpu, 5 threads)",
            "s8s8, per-channel: cortex-x3 multiplies int8 natively",
        ),
        (
            "coral-dev-board",
            "int8-static on tflite-runtime (cpu, 4 threads)",
            "s8s8, per-channel: cortex-a53 has no int8 dot product",
        ),
        (
            "generic-x86-64",
            "int8-static on onnxruntime (cpu, 4 threads)",
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
    heavy = network(*[op("Conv", 10**8, 14_000), op("Relu")] * 20)
    made = plan(heavy, structs.replace(phone, accelerators=(gpu, able)), Goal())
    on = [c for c in made.candidates if c.recipe.accelerator == "hexagon"]
    assert {c.recipe.precision for c in on} == {"int8-static"}
    assert all("int8: hexagon computes it natively" in c.reasons for c in on)


LARGE = network(*[op("Conv", 10**8, 1000)] * 5)


def test_large_work_takes_the_fastest_cores():
    best = planned("raspberry-pi-5", LARGE).candidates[0]
    assert best.recipe.threads == 4
    (told,) = [reason for reason in best.reasons if reason.startswith("4 threads: ")]
    assert re.fullmatch(r"4 threads: 1 would take [\d.]+ ms, 2 would take [\d.]+ ms", told)
    mixed = planned("pixel-8", LARGE, Choice(formats=(Format.ONNXRUNTIME,))).candidates[0]
    assert mixed.recipe.threads == 5, "one fast core, and four that are not much slower"
    tiny = network(op("Gemm", 1000, 1000, (1, 10), read=100))
    assert planned("raspberry-pi-5", tiny).candidates[0].recipe.threads == 1


def test_the_user_may_name_the_threads():
    made = planned("raspberry-pi-5", LARGE, Choice(threads=2))
    assert {c.recipe.threads for c in made.candidates} == {2}


def test_a_core_that_adds_nothing_is_left_asleep():
    """Bound by traffic, one thread is as good as four: the fewest are taken."""
    bound = network(op("Gemm", 60_000_000, 10**8))
    only = Choice(precisions=("float32",))
    assert planned("raspberry-pi-5", bound, only).candidates[0].recipe.threads == 1


def test_the_mode_takes_its_cores_away():
    choice = Choice(power_modes=("7w",), formats=(Format.LITERT,))
    best = planned("jetson-orin-nano", LARGE, choice).candidates[0]
    assert (best.recipe.power_mode, best.recipe.threads) == ("7w", 4)
    default = planned("jetson-orin-nano", LARGE, Choice(formats=(Format.LITERT,))).candidates[0]
    assert (default.recipe.power_mode, default.recipe.threads) == (None, 6)


def test_the_assumed_power_mode_is_said_with_what_another_would_bring():
    best = planned("jetson-orin-nano", LARGE).candidates[0]
    (told,) = [reason for reason in best.reasons if " mode" in reason]
    assert told.startswith("in the 15w mode (the device's default); 7w would take ")
    slow = planned("jetson-orin-nano", LARGE, Choice(power_modes=("7w",))).candidates[0]
    (told,) = [reason for reason in slow.reasons if " mode" in reason]
    assert told.startswith("in the 7w mode; 15w would take ")
    assert "7w" in slow.recipe.label
    assert slow.prediction.latency_ms.mid > best.prediction.latency_ms.mid
    assert f"7w would take {slow.prediction.latency_ms.mid:.3g} ms" in str(best.reasons)


def test_of_all_modes_the_goal_chooses():
    choice = Choice(power_modes=("all",), formats=(Format.LITERT,))
    fast = planned("jetson-orin-nano", LARGE, choice).candidates[0]
    lean = planned("jetson-orin-nano", LARGE, choice, prefer=Prefer.ENERGY).candidates[0]
    assert fast.recipe.power_mode is None
    assert lean.recipe.power_mode == "7w"
    assert lean.prediction.energy_mj.mid < fast.prediction.energy_mj.mid
    least = lean.prediction.energy_mj.mid
    tight = planned("jetson-orin-nano", LARGE, choice, max_energy_mj=least * 1.01)
    assert tight.candidates[0].recipe.power_mode == "7w", "only there the budget holds"


def test_a_mode_that_the_device_does_not_have_is_refused():
    with pytest.raises(InputError) as caught:
        planned("jetson-orin-nano", choice=Choice(power_modes=("9w",)))
    assert "no power mode '9w'" in caught.value.message
    assert caught.value.hint == "it has 15w, 7w"


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
        ("coral-dev-board", "int8-static on tflite-runtime (edge-tpu)", "edgetpu_compiler"),
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
    assert len(rejected) == 6, "per channel, per tensor and with wide activations, twice"
    assert all("--calibration" in reason for reason in rejected)


def test_wide_activations_do_not_pay_but_are_made_when_asked_for():
    """No runtime has fast kernels for them on a CPU: slower than float, as small as int8."""
    told = reasons(planned("raspberry-pi-5"))
    for runtime in ("litert", "onnxruntime"):
        reason = told[f"int8-static-int16 on {runtime} (cpu)"]
        assert reason.startswith("does not pay")
        assert "float32 on litert" in reason
    asked = planned("raspberry-pi-5", choice=Choice(precisions=("int8-static-int16",)))
    assert {c.recipe.runtime for c in asked.candidates} == {"litert", "onnxruntime"}
    assert {c.recipe.quantization.wide for c in asked.candidates} == {True}


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
    why = reasons(planned("raspberry-pi-5"))[label]
    assert re.search(r"does not pay: [\d.]+ ms expected where .* takes [\d.]+, at [\d.]+ MB", why)
    assert label in labels(planned("raspberry-pi-5", prefer=Prefer.SIZE)), "it is smaller"


def test_a_size_that_keeps_float_out_lets_in_what_float_held_back():
    """Unpacking weights is slower, but where float is too large it is the best there is."""
    formats, precisions = (Format.ONNXRUNTIME,), ("float32", "int8-weight-only")
    choice = Choice(formats=formats, precisions=precisions)
    loose, tight = (planned("raspberry-pi-5", choice=choice, max_size_mb=mb) for mb in (10, 0.7))
    assert labels(loose) == ["float32 on onnxruntime (cpu)"]
    assert labels(tight) == ["int8-weight-only on onnxruntime (cpu)"]


def test_four_bits_wait_until_eight_do_not_fit():
    label = "int4-weight-only on litert (cpu)"
    assert reasons(planned("raspberry-pi-5"))[label] == "not needed: int8-static fits"
    assert planned("raspberry-pi-5", prefer=Prefer.SIZE).candidates[0].recipe.precision == (
        "int4-dynamic"
    )
    eight = min(c.prediction.size_bytes.mid for c in planned("raspberry-pi-5").candidates)
    small = planned("raspberry-pi-5", max_size_mb=eight * 0.9 / 1e6)
    assert small.candidates[0].recipe.precision == "int4-dynamic"


def test_a_runtime_is_not_given_what_it_does_not_run():
    told = reasons(planned("coral-dev-board", prefer=Prefer.SIZE))
    assert "does not prepare 4-bit weights" in told["int4-weight-only on tflite-runtime (cpu)"]
    assert "wrongly" in told["int8-dynamic on tflite-runtime (cpu)"]


def test_the_pareto_front_is_marked():
    made = planned("raspberry-pi-5")
    front = {_anyhow(c.recipe.label) for c in made.candidates if c.pareto}
    assert "int8-static on litert (cpu)" in front
    assert "float32 on litert (cpu)" in front, "nothing is as accurate and faster"
    assert "float32 on onnxruntime (cpu)" not in front, "slower than LiteRT, and takes more"


def test_rejections_carry_their_numbers():
    made = planned("jetson-orin-nano")
    for rejection in made.rejected:
        nothing_runs = "no way to reach it" in rejection.reason
        assert (rejection.prediction is None) == nothing_runs, rejection.recipe.label


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
def test_an_impossible_goal_is_answered_with_what_would_fit(budget):
    with pytest.raises(GoalError) as caught:
        planned("raspberry-pi-5", **{budget: 1e-6})
    word, unit = budget.split("_")[1:]
    assert f"int8-static: {word}: at least" in caught.value.message
    found = re.match(rf"(.*) would fit with a {word} budget of ([\d.e-]+) (\w+)", caught.value.hint)
    assert found[3].lower() == unit
    made = planned("raspberry-pi-5", **{budget: float(found[2])})
    assert found[1] in [candidate.recipe.label for candidate in made.candidates]
    with pytest.raises(GoalError):
        planned("raspberry-pi-5", **{budget: 0.97 * float(found[2])})


def test_a_little_too_large_is_answered_with_how_many_weights_less_would_do():
    weights = network(op("Conv", 10**6, 10**6), peak=10**5)
    only = Choice(precisions=("int8-static",), formats=(Format.LITERT,))
    low = planned("raspberry-pi-5", weights, only).candidates[0].prediction.size_bytes.low
    with pytest.raises(GoalError) as caught:
        planned("raspberry-pi-5", weights, only, max_size_mb=0.8 * low / 1e6)
    assert "size budget of" in caught.value.hint
    assert "or with 20 % fewer weights" in caught.value.hint
    assert "with `--prune 0.25`" in caught.value.hint
    pruned = structs.replace(only, prune=0.25)
    first = planned("raspberry-pi-5", weights, pruned, max_size_mb=0.8 * low / 1e6).candidates[0]
    assert f"{first.recipe.label} may" in caught.value.hint


def test_pruning_is_named_only_where_it_would_do():
    weights = network(op("Conv", 10**6, 10**6), peak=10**5)
    for share, named in ((0.7, "`--prune 0.4` and calibration data"), (0.1, None)):
        only = Choice(precisions=("float32",), formats=(Format.LITERT,), calibration=False)
        low = planned("raspberry-pi-5", weights, only).candidates[0].prediction.size_bytes.low
        with pytest.raises(GoalError) as caught:
            planned("raspberry-pi-5", weights, only, max_size_mb=share * low / 1e6)
        assert (named in caught.value.hint) if named else ("--prune" not in caught.value.hint)


def test_where_activations_are_the_trouble_no_pruning_is_offered():
    huge = network(op("Conv", 10**6, 1000), peak=4000 * MIB)
    with pytest.raises(GoalError) as caught:
        planned("raspberry-pi-zero-2-w", huge)
    assert "a memory budget of" in caught.value.hint
    assert "its activations alone are too many" in caught.value.hint
    assert "--prune" not in caught.value.hint


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


def shuffled(profile, draw):
    """The same device, told in another order; runtimes of one format keep their preference."""
    accelerators = draw(st.permutations(profile.accelerators))
    backwards = draw(st.booleans())
    runtimes = sorted(profile.runtimes, key=lambda r: r.formats[0].value, reverse=backwards)
    return structs.replace(profile, accelerators=tuple(accelerators), runtimes=tuple(runtimes))


@settings(max_examples=50, deadline=None)
@given(networks.summaries, devices, goals, st.data())
def test_the_order_of_inputs_decides_nothing(summary, profile, goal, data):
    given = (Format.LITERT, Format.ONNXRUNTIME)
    usable = [f for f in given if f in profile.formats]
    there = attempt(summary, profile, goal, Choice(formats=tuple(usable)))
    other = shuffled(profile, data.draw)
    back = attempt(summary, other, goal, Choice(formats=tuple(usable[::-1])))
    assert there == back


@settings(max_examples=50, deadline=None)
@given(networks.summaries, devices, goals)
def test_the_order_is_total(summary, profile, goal):
    made = attempt(summary, profile, goal)
    again = structs.replace(made, candidates=made.candidates[::-1])
    assert len({c.recipe for c in again.candidates}) == len(made.candidates)


def takes_no_more(tight, loose):
    """By its expected value, or by what it takes at least where that is all that is known."""
    return tight.mid <= loose.mid * (1 + 1e-9) or tight.low <= loose.low * (1 + 1e-9)


@settings(max_examples=200, deadline=None)
@given(networks.summaries, devices, goals, st.floats(0.02, 1), st.sampled_from(sorted(BUDGETS)))
def test_a_tighter_budget_never_gives_a_larger_or_slower_plan(summary, profile, goal, factor, name):
    loose = attempt(summary, profile, goal)
    assume(loose.candidates)
    before = BUDGETS[name](loose.candidates[0].prediction)
    unit = 1e6 if name.endswith("mb") else 1
    tight = attempt(
        summary, profile, goal | {name: factor * goal.get(name, 1.2 * before.mid / unit)}
    )
    if tight.candidates:
        assert takes_no_more(BUDGETS[name](tight.candidates[0].prediction), before)


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
