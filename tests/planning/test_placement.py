"""Where nodes run: what a delegate takes, what it leaves to the CPU, and what that costs."""

from __future__ import annotations

import pytest
from hypothesis import given
from msgspec import structs

from edgekit.domain import CPU, Format, Goal, Mode, Quantization, Recipe
from edgekit.planning import Choice, cost, plan
from edgekit.planning.delegates import DELEGATES
from edgekit.planning.placement import CALL_MS, fallback, place
from tests.planning import networks
from tests.planning.networks import EVERY, network, op, shipped

PIXEL = shipped("pixel-8")
JETSON = shipped("jetson-orin-nano")
GPU = Recipe(
    format=Format.LITERT,
    runtime="litert",
    accelerator="mali-g715",
    quantization=Quantization(mode=Mode.FLOAT16, weights="float16", activations="float16"),
)
HEAVY = op("Conv", 10**8, 10**5)
TOPK = op("TopK", shape=(1, 16, 32, 32))


def test_every_way_to_an_accelerator_is_known():
    reached = {d for p in EVERY for a in p.accelerators for d in a.reached_by.values()}
    assert reached <= set(DELEGATES)


@pytest.mark.parametrize("delegate", sorted(DELEGATES))
def test_the_bulk_of_a_convolutional_network_is_taken_everywhere(delegate):
    assert all(place(network(HEAVY, op("Relu"), op("Add"), op("Gemm", 10)), delegate).taken)


def test_tensorrt_takes_no_operators_on_integers_already():
    left = place(network(HEAVY, op("QLinearConv", 10**6)), "TensorrtExecutionProvider")
    assert left.fallen_back == {"QLinearConv": 1}


def test_a_stretch_of_taken_nodes_is_a_partition():
    found = place(network(HEAVY, TOPK, HEAVY, HEAVY), "qnn")
    assert found.partitions == 1, "QNN takes TopK"
    found = place(network(HEAVY, op("NonZero"), HEAVY, HEAVY), "qnn")
    assert found.taken == (True, False, True, True)
    assert found.partitions == 2
    assert found.fallen_back == {"NonZero": 1}
    assert found.boundary_elements == 2 * 16 * 32 * 32


def test_the_gpu_delegate_takes_one_partition_the_one_of_most_work():
    found = place(network(op("Conv", 10), TOPK, HEAVY, HEAVY), "gpu")
    assert found.taken == (False, False, True, True)
    assert found.fallen_back == {"Conv": 1, "TopK": 1}


def test_what_is_fused_goes_where_its_predecessor_goes():
    found = place(network(HEAVY, TOPK, op("Reshape"), HEAVY, op("Identity")), "nnapi")
    assert found.taken == (True, False, False, True, True)
    assert found.fallen_back == {"TopK": 1}


def test_a_stretch_that_does_nothing_is_no_partition():
    found = place(network(op("Identity"), TOPK), "gpu")
    assert (found.partitions, any(found.taken)) == (0, False)


def test_nothing_left_costs_nothing():
    summary = network(HEAVY, HEAVY)
    assert fallback(summary, PIXEL, GPU, place(summary, "gpu")).total_ms == 0


def test_what_is_left_takes_the_cpus_time_its_transfers_and_a_call_more():
    summary = network(HEAVY, op("NonZero"), HEAVY)
    recipe = Recipe(format=Format.ONNXRUNTIME, runtime="onnxruntime", accelerator="ampere-gpu")
    extra = fallback(summary, JETSON, recipe, place(summary, "TensorrtExecutionProvider"))
    there = cost.node_costs(summary, JETSON, recipe)[1]
    here = cost.node_costs(summary, JETSON, structs.replace(recipe, accelerator=CPU))[1]
    assert extra.compute_ms == pytest.approx(here - there)
    moved = 2 * 16 * 32 * 32 * 4
    assert extra.transfer_bytes == moved
    assert extra.transfer_ms == pytest.approx(CALL_MS + moved / 68e9 * 1e3)


def test_static_int8_moves_a_quarter_of_the_bytes():
    summary = network(HEAVY, op("NonZero"), HEAVY)
    placed = place(summary, "TensorrtExecutionProvider")
    static = Quantization(mode=Mode.STATIC, weights="int8", activations="int8")
    recipe = Recipe(format=Format.ONNXRUNTIME, runtime="onnxruntime", accelerator="ampere-gpu")
    plain, small = (
        fallback(summary, JETSON, structs.replace(recipe, quantization=q), placed)
        for q in (None, static)
    )
    assert small.transfer_bytes == plain.transfer_bytes / 4


@given(networks.summaries)
def test_every_node_is_somewhere_and_counted_once(summary):
    for name in DELEGATES:
        placed = place(summary, name)
        assert len(placed.taken) == len(summary.nodes)
        most = DELEGATES[name].max_partitions
        assert placed.partitions <= (most or len(summary.nodes))
        if all(placed.taken):
            assert not placed.fallen_back
            assert not placed.boundary_elements


# What the planner makes of it


def test_a_split_is_told_with_its_price():
    summary = network(*[HEAVY] * 20, TOPK)
    made = plan(summary, PIXEL, Goal(), Choice(formats=(Format.LITERT,)))
    on_gpu = next(c for c in made.candidates if c.recipe.accelerator == "mali-g715")
    (told,) = [reason for reason in on_gpu.reasons if "stays on the CPU" in reason]
    assert told.startswith("mali-g715 runs 1 part of the graph; 1 TopK stays on the CPU: ")
    assert "to move 0.066 MB to and fro" in told


def test_a_split_that_makes_it_slower_than_the_cpu_alone_is_rejected_with_its_numbers():
    """Half of the work follows an operator that the GPU does not take."""
    summary = network(*[op("Conv", 10**6, 100), TOPK] * 20)
    made = plan(summary, PIXEL, Goal())
    why = {r.recipe.label: r.reason for r in made.rejected}["float16 on litert (mali-g715)"]
    assert "20 TopK, 19 Conv stay on the CPU" in why
    assert " ms expected where the CPU alone takes " in why
    assert not any(c.recipe.accelerator == "mali-g715" for c in made.candidates)


def test_an_accelerator_that_takes_nothing_is_no_way():
    made = plan(network(TOPK, TOPK), PIXEL, Goal())
    why = {r.recipe.label: r.reason for r in made.rejected}["float16 on litert (mali-g715)"]
    assert why == "mali-g715 takes none of its operators: 2 TopK stay on the CPU"


def test_what_the_edge_tpu_would_leave_is_said():
    made = plan(network(HEAVY, TOPK), shipped("coral-dev-board"), Goal())
    (found,) = [r for r in made.rejected if r.recipe.accelerator == "edge-tpu"]
    assert found.reason.endswith(
        "compile the full-int8 artifact with it; 1 TopK stays on the CPU then"
    )
    assert found.prediction is not None
