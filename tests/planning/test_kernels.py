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
        "columns": 16 * 27,
        "steps": 16 * 9 * 10,
        "outputs": 160,
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
    assert asked == {"calls": 1, "elements": 200, "steps": 0}
    pool = kernels.quantities(op("MaxPool", shape=(1, 100), read=400, taps=4), PLAIN)
    assert pool == {"calls": 1, "elements": 400, "steps": 300}


def test_a_recurrent_layer_takes_a_step_for_each_use_of_its_weights():
    asked = kernels.quantities(
        op("LSTM", macs=28 * 3840, parameters=3840, shape=(28, 1, 1, 20)), PLAIN
    )
    assert asked == {"calls": 1, "macs": 28 * 3840, "steps": 28}


def test_a_tensor_without_axes_is_one_element():
    assert kernels.quantities(op("Gemm", macs=7, shape=()), PLAIN)["macs"] == 7
