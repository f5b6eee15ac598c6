"""What pruning makes of a network for the cost model, and in which multiples it is asked for."""

from __future__ import annotations

import pytest

from edgekit.calibrations import Basis
from edgekit.domain import Channels, Goal
from edgekit.planning import Choice, plan, rates
from edgekit.planning.kernels import Family, family
from edgekit.planning.pruned import scaled
from tests.planning.networks import network, op, shipped

CONV = op("Conv", macs=9 * 32 * 32 * 256, parameters=9 * 32 * 32, shape=(1, 32, 16, 16), taps=9)
POINTWISE = op("Conv", macs=64 * 64 * 256, parameters=64 * 64, shape=(1, 64, 16, 16))
DEPTHWISE = op(
    "Conv", macs=9 * 64 * 256, parameters=9 * 64, shape=(1, 64, 16, 16), group=64, taps=9
)


def test_windows_lose_taps_and_the_others_channels() -> None:
    conv, pointwise, depthwise = scaled(network(CONV, POINTWISE, DEPTHWISE), Channels(0.36)).nodes
    assert (conv.taps, conv.output_shape) == (6, CONV.output_shape)
    assert (pointwise.taps, pointwise.output_shape) == (1, (1, 51, 16, 16))
    assert (depthwise.taps, depthwise.group) == (9, 51)
    for whole, left, share in (
        (CONV, conv, 0.64),
        (POINTWISE, pointwise, 0.64),
        (DEPTHWISE, depthwise, 0.8),
    ):
        assert left.macs == pytest.approx(share * whole.macs, rel=0.01)
        assert left.parameters == pytest.approx(share * whole.parameters, rel=0.01)


def test_hardly_anything_left_is_still_the_same_kernel() -> None:
    (left,) = scaled(network(CONV), Channels(0.95)).nodes
    assert family(left) is Family.CONV


def test_what_is_live_at_once_is_not_taken_to_shrink() -> None:
    """The widest of a network's tensors may be what its last free layer makes."""
    whole = network(CONV, POINTWISE)
    assert scaled(whole, Channels(0.5)).activation_peak_bytes == whole.activation_peak_bytes


@pytest.mark.parametrize(("device", "multiple"), [("generic-x86-64", 8), ("raspberry-pi-5", 4)])
def test_the_multiple_is_what_the_devices_kernels_compute_at_once(
    device: str, multiple: int
) -> None:
    assert asked(device) == {Channels(0.25, multiple)}


def test_a_calibration_knows_it_better() -> None:
    """The shipped one is of a machine with AVX-512."""
    calibration, *_ = rates._reference()
    assert asked("generic-x86-64", Basis(calibration=calibration)) == {Channels(0.25, 16)}


def asked(device: str, basis: Basis | None = None) -> set[Channels | None]:
    """How the candidates would be pruned."""
    choice = Choice(prune=0.25, precisions=("float32",))
    made = plan(network(CONV, POINTWISE), shipped(device), Goal(), choice, basis)
    return {candidate.recipe.pruning for candidate in made.candidates}
