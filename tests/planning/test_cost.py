"""Predictions: by hand where that is possible, else in which direction each figure moves."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from edgekit.domain import Format, Mode, Quantization, Range, Recipe
from edgekit.planning import cost
from edgekit.planning.cost import OpFamily
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


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        (op("Conv"), OpFamily.CONV),
        (op("Conv", group=16), OpFamily.DEPTHWISE),
        (op("QLinearConv", group=16), OpFamily.DEPTHWISE),
        (op("ConvTranspose"), OpFamily.CONV),
        (op("Gemm"), OpFamily.DENSE),
        (op("QLinearMatMul"), OpFamily.DENSE),
        (op("LSTM"), OpFamily.RECURRENT),
        (op("Softmax"), OpFamily.OTHER),
    ],
)
def test_family(node, expected):
    assert cost.family(node) is expected


def test_a_large_convolution_takes_its_arithmetic():
    """8 multiply-accumulates a cycle at 2.4 GHz, of which LiteRT reaches 60 %."""
    expected = 10**9 / (8 * 2.4 * 0.6) / 1e6
    assert ms([op("Conv", 10**9)]) == pytest.approx(expected, rel=0.01)


def test_a_layer_of_many_weights_takes_its_traffic():
    """17.1 GB/s, and four bytes a weight."""
    assert ms([op("Gemm", 10, 10**8)]) == pytest.approx(4e8 / 17.1 / 1e6, rel=0.01)


def test_what_runtimes_fold_costs_nothing():
    conv = op("Conv", 10**6)
    assert ms([conv, op("Relu"), op("Reshape"), op("DequantizeLinear")]) == ms([conv])
    assert ms([conv, op("Softmax")]) > ms([conv])


def test_a_graph_of_folded_nodes_still_takes_time():
    assert 0 < ms([op("Relu")]) < 0.1


@pytest.mark.parametrize(
    ("faster", "slower"),
    [
        (of(STATIC), FLOAT),
        (of(None, threads=4), FLOAT),
        (of(STATIC), of(DYNAMIC)),
        (
            structs.replace(FLOAT, format=Format.ONNXRUNTIME),
            of(DYNAMIC, format=Format.ONNXRUNTIME),
        ),
    ],
)
def test_which_recipe_of_a_convolutional_network_is_faster(faster, slower):
    nodes = CONVOLUTIONS.nodes
    assert ms(nodes, faster) < ms(nodes, slower)


@pytest.mark.parametrize("quantization", [HALF, WEIGHT_ONLY])
def test_weights_that_are_only_stored_small_compute_as_floats(quantization):
    assert ms([op("Conv", 10**9)], of(quantization)) == ms([op("Conv", 10**9)])


def test_depthwise_reaches_less_of_the_peak():
    assert ms([op("Conv", 10**9, group=16)]) == pytest.approx(4 * ms([op("Conv", 10**9)]), rel=0.01)


def test_threads_help_but_not_in_proportion():
    nodes = [op("Conv", 10**9)]
    gained = ms(nodes) / ms(nodes, of(None, threads=4))
    assert 2 < gained < 3.5
    assert ms(nodes, of(None, threads=64)) == ms(nodes, of(None, threads=4)), "the Pi has 4 cores"


def test_the_default_power_mode_counts():
    slow = structs.replace(PI.power.modes[0], cpu_share=0.5)
    power = structs.replace(PI.power, modes=(slow, *PI.power.modes))
    nodes = [op("Conv", 10**9)]
    halved = ms(nodes, profile=structs.replace(PI, power=power))
    assert halved == pytest.approx(2 * ms(nodes), rel=0.01)


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


def test_the_channels_of_a_matrix_product_come_last():
    summary = network(op("MatMul", 10**6, 1000, (1, 128, 10)))
    assert cost.size_bytes(summary, of(STATIC)) == 1000 + 12 * 10 + 220


def test_a_product_of_activations_stores_nothing():
    summary = network(op("MatMul", 10**6, 0, (1, 8, 128, 128)))
    assert cost.size_bytes(summary, of(STATIC)) == 220


def test_weights_that_are_not_multiplied_stay_as_they_are():
    summary = network(op("Gather", 0, 1000))
    assert cost.size_bytes(summary, of(STATIC)) == 4000 + 220


def test_memory_holds_the_weights_and_the_activations():
    float_, static = (
        cost.predict(network(op("Conv", 10**6, 10**6), peak=8 * 10**6), PI, recipe)
        for recipe in (FLOAT, of(STATIC))
    )
    assert float_.peak_memory_bytes.low == pytest.approx(4e6 + 8e6, rel=0.01)
    assert static.peak_memory_bytes.low == pytest.approx(1e6 + 2e6, rel=0.01)


def test_energy_is_power_times_time():
    prediction = cost.predict(CONVOLUTIONS, PI, FLOAT)
    assert prediction.energy_mj.mid == pytest.approx(8 * prediction.latency_ms.mid)
    assert prediction.energy_mj.high == pytest.approx(8 * prediction.latency_ms.high)
    above_idle = 8 - 2.7
    assert prediction.energy_mj.low == pytest.approx(above_idle / 2 * prediction.latency_ms.low)


@settings(max_examples=50, deadline=None)
@given(networks.summaries, st.sampled_from(PLANNABLE))
def test_every_prediction_is_an_interval_above_zero(summary, profile):
    for recipe in recipes(profile, summary):
        if not isinstance(recipe, Unreachable):
            prediction = cost.predict(summary, profile, recipe)
            for name in prediction.__struct_fields__:
                figure: Range = getattr(prediction, name)
                assert 0 < figure.low <= figure.mid <= figure.high, (name, recipe.label)


@settings(max_examples=50, deadline=None)
@given(networks.summaries, st.sampled_from(PLANNABLE), st.integers(1, 10))
def test_more_work_never_takes_less(summary, profile, factor):
    more = structs.replace(summary, nodes=summary.nodes * factor)
    for recipe in recipes(profile, summary):
        if not isinstance(recipe, Unreachable):
            small, large = (cost.predict(s, profile, recipe) for s in (summary, more))
            assert large.latency_ms.mid >= small.latency_ms.mid
            assert large.size_bytes.mid >= small.size_bytes.mid
