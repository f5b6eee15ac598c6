"""What nodes ask of their kernels, counted by hand."""

import pytest

from edgekit.domain import Kernel
from edgekit.planning import kernels
from edgekit.planning.kernels import Family
from tests.planning.networks import op

PLAIN = Kernel(ns={})


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        (op("Conv", taps=9), Family.CONV),
        (op("Conv"), Family.POINTWISE),
        (op("Conv", group=16, taps=9), Family.DEPTHWISE),
        (op("QLinearConv", group=16), Family.DEPTHWISE),
        (op("ConvTranspose", taps=4), Family.CONV),
        (op("Gemm", shape=(1, 10)), Family.DENSE),
        (op("QLinearMatMul", shape=(1, 64, 10)), Family.MATMUL),
        (op("LSTM"), Family.RECURRENT),
        (op("Softmax"), Family.SOFTMAX),
        (op("Add"), Family.BINARY),
        (op("Add", parameters=16), Family.AFFINE),
        (op("MaxPool", taps=9), Family.MAX_POOL),
        (op("AveragePool", taps=9), Family.AVERAGE_POOL),
        (op("Relu"), Family.FOLDED),
        (op("Reshape"), Family.VIEW),
        (op("Pad"), Family.SLICE),
        (op("Concat"), Family.MOVE),
        (op("SomethingNew"), Family.ACTIVATION),
    ],
)
def test_family(node, expected):
    assert kernels.family(node) is expected


CONV = op("Conv", macs=10 * 9 * 3 * 16, parameters=10 * 3 * 9, shape=(1, 10, 4, 4), read=48, taps=9)
"""3 to 10 channels at 16 positions, a window of 3x3."""


def test_a_convolution():
    asked = kernels.quantities(CONV, PLAIN)
    assert asked == {
        "calls": 1,
        "macs": 10 * 9 * 3 * 16,
        "single": 0,
        "columns": 16 * 27,
        "steps": 16 * 9 * 10,
        "outputs": 160,
        "rows": 16,
        "pieces": 16 * 9,
        "ragged": 0,
        "ragged_calls": 0,
        "left": 0,
        "shallow": 0,
        "shallow_macs": 0,
        "reads": 48,
        "weights": 270,
        "spilled": 0,
    }


def test_blocks_are_computed_whole():
    """10 channels in blocks of 16; 3 inputs in groups of 4 for each of the 9 taps."""
    asked = kernels.quantities(CONV, Kernel(ns={}, output_tile=16, input_tile=4))
    assert asked["macs"] == 16 * 16 * 36
    assert asked["outputs"] == 16 * 16
    assert asked["weights"] == 16 * 36
    assert asked["steps"] == 16 * 9


@pytest.mark.parametrize(("tile", "single"), [(5, 0), (10, 10), (4, 12)])
def test_where_two_blocks_do_not_fit_they_go_one_by_one(tile, single):
    asked = kernels.quantities(CONV, Kernel(ns={}, output_tile=tile))
    assert asked["single"] == single * 16 * 27


def test_what_is_sliced_costs_what_is_left():
    asked = kernels.quantities(op("Slice", shape=(1, 100), read=400), PLAIN)
    assert asked == {"calls": 1, "elements": 100}


def test_what_is_no_whole_block_goes_other_ways():
    """10 channels of 16 leave the runtime's layout; 3 inputs of 4 are no whole vector."""
    asked = kernels.quantities(CONV, Kernel(ns={}, output_tile=16, input_tile=4))
    assert (asked["ragged"], asked["ragged_calls"], asked["left"]) == (160, 1, 160)
    assert (asked["shallow"], asked["shallow_macs"]) == (16 * 9, 16 * 16 * 27)
    whole = kernels.quantities(CONV, Kernel(ns={}, output_tile=5, input_tile=3))
    assert not any(whole[name] for name in ("ragged", "ragged_calls", "left"))
    assert not any(whole[name] for name in ("shallow", "shallow_macs"))


def test_a_joined_window_is_rounded_up_once():
    asked = kernels.quantities(CONV, Kernel(ns={}, input_tile=4, joined=True))
    assert asked["macs"] == 16 * 10 * 28


@pytest.mark.parametrize(("weight_bytes", "share"), [(0.0, 0.0), (500.0, 0.0), (4000.0, 0.75)])
def test_what_the_cache_cannot_keep_is_fetched_anew(weight_bytes, share):
    asked = kernels.quantities(CONV, Kernel(ns={}, cache_bytes=1000), weight_bytes)
    assert asked["spilled"] == share * 270


def test_a_depthwise_convolution():
    node = op("Conv", macs=20 * 9 * 16, shape=(1, 20, 4, 4), read=320, group=20, taps=9)
    asked = kernels.quantities(node, Kernel(ns={}, output_tile=16))
    assert asked == {
        "calls": 1,
        "macs": 32 * 9 * 16,
        "outputs": 32 * 16,
        "rows": 16,
        "reads": 320,
        "lines": 20 * 4,
    }


def test_a_matrix_product():
    node = op("MatMul", macs=128 * 640 * 64, parameters=640 * 64, shape=(1, 128, 64), read=81920)
    asked = kernels.quantities(node, Kernel(ns={}, output_tile=32))
    assert asked["macs"] == 128 * 640 * 64
    assert asked["columns"] == 128 * 640
    assert asked["weights"] == 640 * 64
    assert asked["steps"] == 0


def test_the_rest_works_element_by_element():
    asked = kernels.quantities(op("Add", shape=(1, 100), read=200), PLAIN)
    assert asked == {"calls": 1, "elements": 200}


def test_a_pool_works_window_by_window():
    pool = kernels.quantities(op("MaxPool", shape=(1, 100), read=400, taps=4), PLAIN)
    assert pool == {"calls": 1, "elements": 100, "steps": 300}


def test_a_view_is_a_call_whatever_its_size():
    view = op("Reshape", shape=(1, 100), read=100)
    assert kernels.quantities(view, PLAIN) == {"calls": 1}
    assert kernels.is_folded(view)


def test_a_recurrent_layer_takes_a_step_for_each_use_of_its_weights():
    asked = kernels.quantities(
        op("LSTM", macs=28 * 3840, parameters=3840, shape=(28, 1, 1, 20)), PLAIN
    )
    assert asked == {"calls": 1, "macs": 28 * 3840, "steps": 28}


def test_a_tensor_without_axes_is_one_element():
    assert kernels.quantities(op("Gemm", macs=7, shape=()), PLAIN)["macs"] == 7
