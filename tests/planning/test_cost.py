"""Predictions: by hand where that is possible, else in which direction each figure moves."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from edgekit.domain import (
    CALIBRATION_VERSION,
    Calibration,
    Format,
    Kernel,
    MemoryUse,
    Mode,
    Quantization,
    Range,
    Rates,
    Recipe,
    RuntimeCalibration,
    Scaling,
    TensorSpec,
)
from edgekit.planning import cost, rates
from edgekit.planning.kernels import Family
from edgekit.planning.recipes import Unreachable, recipes
from tests.planning import networks
from tests.planning.networks import CONVOLUTIONS, PLANNABLE, network, op, shipped

PI = shipped("raspberry-pi-5")
JETSON = shipped("jetson-orin-nano")
STATIC = Quantization(mode=Mode.STATIC, weights="int8", activations="int8")
DYNAMIC = Quantization(mode=Mode.DYNAMIC, weights="int8", activations="float32")
WEIGHT_ONLY = Quantization(mode=Mode.WEIGHT_ONLY, weights="int8", activations="float32")
HALF = Quantization(mode=Mode.FLOAT16, weights="float16", activations="float32")
FLOAT = Recipe(format=Format.LITERT, runtime="litert")


def of(quantization, **fields):
    return structs.replace(FLOAT, quantization=quantization, **fields)


def ms(nodes, recipe=FLOAT, profile=PI):
    return cost.predict(network(*nodes), profile, recipe).latency_ms.mid


# Latency

A_NANOSECOND_A_MAC = Rates(
    kernels={
        kind.value: Kernel(ns={"macs": 1.0, "elements": 0.5, "calls": 100.0}) for kind in Family
    },
    call_ns=1000.0,
    input_ns=0.0,
    output_ns=0.0,
    spread=(0.9, 1.2),
    within_10_percent=1.0,
    measured=1,
)
"""Prices that can be added up by hand."""


WAKING = Scaling(serial=0.1, sync_ns=2000.0)


def calibrated(prices=A_NANOSECOND_A_MAC):
    runtime = RuntimeCalibration(
        module="ai_edge_litert",
        version="2.3.0",
        rates={"float32": prices},
        memory={
            "float32": MemoryUse(base_bytes=50e6, per_weight_byte=2.0, per_arena_byte=1.0),
        },
        scaling=WAKING,
    )
    return Calibration(
        version=CALIBRATION_VERSION,
        device="raspberry-pi-5",
        fingerprint="f",
        cpu_model="one",
        process_bytes=40e6,
        runtimes={"litert": runtime},
        made="2026-01-01",
        networks=1,
        seconds=1.0,
    )


def known_ns(nodes, recipe=FLOAT, profile=PI):
    found = cost.predict(network(*nodes), profile, recipe, calibrated())
    return found.latency_ms.mid * 1e6


ELEMENTS = 16 * 32 * 32
"""What a convolution of these tests gives: that many multiply-accumulates are one a piece."""


def test_prices_times_quantities_and_the_call():
    conv = 3 * ELEMENTS + 100
    assert known_ns([op("Conv", 3 * ELEMENTS)]) == pytest.approx(1000 + conv)
    with_softmax = known_ns([op("Conv", 3 * ELEMENTS), op("Softmax", shape=(1, 40), read=40)])
    assert with_softmax == pytest.approx(1000 + conv + 100 + 20)


def test_the_network_pays_for_what_goes_in_and_out():
    paying = structs.replace(A_NANOSECOND_A_MAC, input_ns=2.0, output_ns=3.0)
    summary = structs.replace(
        network(op("Conv", ELEMENTS)),
        inputs=(TensorSpec("x", (1, 10), "float32"),),
        outputs=(TensorSpec("y", (1, 5), "float32"),),
    )
    found = cost.predict(summary, PI, FLOAT, calibrated(paying))
    assert found.latency_ms.mid * 1e6 == pytest.approx(1100 + ELEMENTS + 2 * 10 + 3 * 5)


def test_a_calibration_brings_its_own_interval():
    found = cost.predict(network(op("Conv", 10**6)), PI, FLOAT, calibrated()).latency_ms
    assert found.low / found.mid == pytest.approx(0.9)
    assert found.high / found.mid == pytest.approx(1.2)
    assumed = cost.predict(network(op("Conv", 10**6)), PI, FLOAT).latency_ms
    assert assumed.high / assumed.mid > 2


def test_what_was_not_calibrated_is_assumed():
    static = cost.predict(network(op("Conv", 10**6)), PI, of(STATIC), calibrated())
    assert static == cost.predict(network(op("Conv", 10**6)), PI, of(STATIC))


def test_the_costs_of_the_nodes_add_up():
    summary = network(op("Conv", ELEMENTS), op("Relu"), op("Conv", 2 * ELEMENTS))
    costs = cost.node_costs(summary, PI, FLOAT, calibrated())
    assert costs == pytest.approx(((100 + ELEMENTS) / 1e6, 0.0, (100 + 2 * ELEMENTS) / 1e6))


def test_what_runtimes_fold_costs_nothing():
    conv = op("Conv", 10**6)
    assert ms([conv, op("Relu"), op("Identity"), op("DequantizeLinear")]) == ms([conv])
    assert ms([conv, op("Softmax")]) > ms([conv])


def test_a_view_costs_a_call_whatever_its_size():
    conv, small, large = (
        op("Conv", 10**6),
        op("Reshape", shape=(1, 10)),
        op("Reshape", shape=(9, 99)),
    )
    assert ms([conv]) < ms([conv, small]) == ms([conv, large])


def test_a_graph_of_folded_nodes_still_takes_time():
    assert 0 < ms([op("Relu")]) < 0.1


@pytest.mark.parametrize(
    ("faster", "slower"),
    [
        (of(STATIC), FLOAT),
        (of(STATIC), of(DYNAMIC)),
        (of(None, threads=4), FLOAT),
    ],
)
def test_which_recipe_of_a_convolutional_network_is_faster(faster, slower):
    nodes = CONVOLUTIONS.nodes
    assert ms(nodes, faster) < ms(nodes, slower)


def test_float16_of_litert_is_stored_only():
    assert ms([op("Conv", 10**9)], of(HALF)) == ms([op("Conv", 10**9)])


def test_threads_help_but_not_in_proportion():
    """A tenth stays serial, and every operator wakes the others."""
    alone, four = known_ns([op("Conv", 10**6)]), known_ns([op("Conv", 10**6)], of(None, threads=4))
    assert four - 1000 == pytest.approx((alone - 1000) * (0.1 + 0.9 / 4) + 2000)
    assert known_ns([op("Conv", 10**6)], of(None, threads=64)) == four, "the Pi has 4 cores"


def test_waking_others_for_little_work_does_not_pay():
    four = of(None, threads=4)
    assert known_ns([op("Gemm", 10, shape=(1, 10))], four) > known_ns(
        [op("Gemm", 10, shape=(1, 10))]
    )


def test_a_slower_core_holds_the_others_up():
    fast, slow = PI.cpu.clusters[0], structs.replace(PI.cpu.clusters[0], max_clock_mhz=600)
    fast = structs.replace(fast, cores=1)
    mixed = structs.replace(PI, cpu=structs.replace(PI.cpu, clusters=(fast, slow)))
    nodes = [op("Conv", 10**7)]
    assert known_ns(nodes, of(None, threads=2), mixed) > known_ns(nodes, FLOAT, mixed)


def test_the_power_mode_counts():
    slow = structs.replace(PI.power.modes[0], name="slow", cpu_share=0.5)
    power = structs.replace(PI.power, modes=(*PI.power.modes, slow))
    nodes, profile = [op("Conv", 10**9)], structs.replace(PI, power=power)
    assert ms(nodes, profile=profile) == ms(nodes)
    assert ms(nodes, of(None, power_mode="slow"), profile) == pytest.approx(2 * ms(nodes))


def test_an_accelerator_pays_for_the_call():
    gpu = Recipe(format=Format.ONNXRUNTIME, runtime="onnxruntime", accelerator="ampere-gpu")
    cpu = structs.replace(gpu, accelerator="cpu")
    small, large = [op("Conv", 10**4)], [op("Conv", 10**9)]
    assert ms(small, cpu, JETSON) < 0.15 < ms(small, gpu, JETSON)
    assert ms(large, gpu, JETSON) < ms(large, cpu, JETSON)


# Size, memory, energy


@pytest.mark.parametrize(
    ("quantization", "expected"),
    [(None, 4000), (HALF, 2000), (STATIC, 1000 + 12 * 10), (WEIGHT_ONLY, 1000 + 12 * 10)],
)
def test_weights_as_they_are_stored(quantization, expected):
    """Ten channels of a hundred weights, and what LiteRT writes around a node."""
    summary = network(op("Conv", 10**6, 1000, (1, 10, 4, 4)))
    assert cost.size_bytes(summary, of(quantization)) == expected + 220


@pytest.mark.parametrize(
    ("node", "bits"),
    [
        (op("Conv", 10**6, 1000), 4),
        (op("Gemm", 10**6, 1000), 4),
        (structs.replace(op("Conv", 10**6, 1000), channelwise=True), 8),
        (op("ConvTranspose", 10**6, 1000), 8),
    ],
)
def test_four_bits_are_counted_where_the_tool_has_them(node, bits):
    four, eight = (
        cost.size_bytes(network(node), of(structs.replace(WEIGHT_ONLY, weights=weights)))
        for weights in ("int4", "int8")
    )
    assert eight - four == 1000 * (8 - bits) / 8


def test_the_channels_of_a_matrix_product_come_last():
    summary = network(op("MatMul", 10**6, 1000, (1, 128, 10)))
    assert cost.size_bytes(summary, of(STATIC)) == 1000 + 12 * 10 + 220


def test_a_product_of_activations_stores_nothing():
    summary = network(op("MatMul", 10**6, 0, (1, 8, 128, 128)))
    assert cost.size_bytes(summary, of(STATIC)) == 220


def test_weights_that_are_not_multiplied_stay_as_they_are():
    summary = network(op("Gather", 0, 1000))
    assert cost.size_bytes(summary, of(STATIC)) == 4000 + 220


def test_memory_is_the_runtime_the_weights_and_the_activations():
    summary = network(op("Conv", 10**6, 10**6), peak=8 * 10**6)
    memory = cost.predict(summary, PI, FLOAT, calibrated()).peak_memory_bytes
    assert memory.mid == pytest.approx(50e6 + 2 * 4e6 + 8e6, rel=0.01)
    assert memory.high / memory.mid == pytest.approx(1.15)


def test_at_least_the_weights_and_the_activations_are_in_memory():
    summary = network(op("Conv", 10**6, 10**6), peak=8 * 10**6)
    float_, static = (cost.predict(summary, PI, recipe) for recipe in (FLOAT, of(STATIC)))
    assert float_.peak_memory_bytes.low == pytest.approx(4e6 + 8e6, rel=0.01)
    assert static.peak_memory_bytes.low == pytest.approx(1e6 + 2e6, rel=0.01)


def test_a_phone_runs_no_python_beside_the_application():
    board, phone = (cost.predict(CONVOLUTIONS, p, FLOAT) for p in (PI, shipped("pixel-8")))
    python = rates.process_bytes(None)
    gap = board.peak_memory_bytes.mid - phone.peak_memory_bytes.mid
    assert gap == pytest.approx(python, rel=0.01)


def test_energy_is_power_times_time():
    """One of four cores draws a quarter and three quarters of a quarter above idle."""
    prediction = cost.predict(CONVOLUTIONS, PI, FLOAT)
    busy = 2.7 + (8 - 2.7) * (0.25 + 0.75 / 4)
    assert prediction.energy_mj.mid == pytest.approx(busy * prediction.latency_ms.mid)
    assert prediction.energy_mj.high == pytest.approx(8 * prediction.latency_ms.high)
    assert prediction.energy_mj.low < prediction.energy_mj.mid / 2


@settings(max_examples=50, deadline=None)
@given(networks.summaries, st.sampled_from(PLANNABLE))
def test_every_prediction_is_an_interval_above_zero(summary, profile):
    for recipe in recipes(profile):
        if not isinstance(recipe, Unreachable):
            prediction = cost.predict(summary, profile, recipe)
            for name in prediction.__struct_fields__:
                figure: Range = getattr(prediction, name)
                assert 0 < figure.low <= figure.mid <= figure.high, (name, recipe.label)


@settings(max_examples=50, deadline=None)
@given(networks.summaries, st.sampled_from(PLANNABLE), st.integers(1, 10))
def test_more_work_never_takes_less(summary, profile, factor):
    more = structs.replace(summary, nodes=summary.nodes * factor)
    for recipe in recipes(profile):
        if not isinstance(recipe, Unreachable):
            small, large = (cost.predict(s, profile, recipe) for s in (summary, more))
            assert large.latency_ms.mid >= small.latency_ms.mid
            assert large.size_bytes.mid >= small.size_bytes.mid


@pytest.mark.parametrize(
    ("quantization", "higher"),
    [(STATIC, None), (structs.replace(WEIGHT_ONLY, weights="int4"), WEIGHT_ONLY)],
)
def test_raising_nodes_costs_what_they_take_more(quantization, higher):
    """All of them: the difference between two precisions; none: nothing."""
    names = ("first", "second")
    nodes = [structs.replace(op("Conv", 2_000_000, 14_000, taps=9), name=name) for name in names]
    summary, recipe = network(*nodes), of(quantization)
    one, both = (cost.raising_ms(summary, PI, recipe, kept) for kept in (names[:1], names))
    before, after = (sum(cost.node_costs(summary, PI, each)) for each in (recipe, of(higher)))
    assert both == pytest.approx(after - before)
    assert one == pytest.approx(both / 2)
    assert cost.raising_ms(summary, PI, recipe, ("another",)) == 0
