"""Channels that belong together, and graphs without some of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.compression import layers
from edgekit.compression.activations import values
from edgekit.compression.groups import Coupling, Dimension, Use, coupling
from edgekit.compression.surgery import without
from tests.compression import networks
from tests.compression.networks import Net

Make = Callable[[Net], str]


def made(make: Make, seed: int = 0) -> onnx.ModelProto:
    net = Net(1, 3, 8, 8, seed=seed)
    return net.model(make(net))


def run(model: onnx.ModelProto) -> np.ndarray:
    rng = np.random.default_rng(1)
    samples = [{"x": rng.integers(-4, 5, (1, 3, 8, 8)).astype(np.float32)} for _ in range(3)]
    names = [model.graph.output[0].name]
    return np.concatenate([out for (out,) in values(model, names, samples)])


def widths(model: onnx.ModelProto) -> list[Dimension]:
    """Its channels; taps left out."""
    return [one for one in coupling(model).dimensions if one.kernel_axis is None]


def kernels(found: Coupling) -> list[Dimension]:
    """Its taps."""
    return [one for one in found.dimensions if one.kernel_axis is not None]


def unread(model: onnx.ModelProto, removed: list[int]) -> onnx.ModelProto:
    """The graph in which nobody reads the removed channels, and the removed taps are zero."""
    zeroed = onnx.ModelProto()
    zeroed.CopyFrom(model)
    for slot in coupling(model).slots:
        if slot.use in (Use.READ, Use.TAP):
            array = np.moveaxis(layers.constant(zeroed, slot.tensor).copy(), slot.axis, 0)
            array[np.isin(slot.channels, removed)] = 0
            layers.assign(zeroed, slot.tensor, np.moveaxis(array, 0, slot.axis))
    return zeroed


@given(make=st.sampled_from(networks.ALL), data=st.data(), seed=st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_removing_channels_and_taps_is_the_same_as_nobody_reading_them(
    make: Make, data: st.DataObject, seed: int
) -> None:
    model = made(make, seed)
    found = coupling(model)
    removed = []
    for one in found.dimensions:
        most = min(len(one.channels), one.narrowest - 1)
        if one.kernel_axis is not None:
            removed += one.channels[: data.draw(st.integers(0, most))]
        elif most:
            some = st.lists(st.sampled_from(one.channels), max_size=most, unique=True)
            removed += data.draw(some)
    smaller = without(model, found, removed)
    onnx.checker.check_model(smaller, full_check=True)
    assert np.array_equal(run(smaller), run(unread(model, removed)))
    assert [o.name for o in smaller.graph.output] == [o.name for o in model.graph.output]


@pytest.mark.parametrize(
    ("make", "sizes"),
    [
        (networks.plain, [8, 4]),
        (networks.residual, [4, 6]),
        (networks.concatenated, [4, 3, 2, 2]),
        (networks.depthwise, [6, 4]),
        (networks.grouped, [2, 3]),
        (networks.flattened, [6, 7]),
        (networks.normalised, [6]),
    ],
)
def test_what_may_be_removed(make: Make, sizes: list[int]) -> None:
    """Of grouped convolutions one channel of each group at a time; of outputs none."""
    free = [len(one.channels) for one in widths(made(make)) if one.channels]
    assert sorted(free) == sorted(sizes)


@pytest.mark.parametrize(
    ("size", "pads", "dilation", "free"),
    [
        (3, (1, 1), 1, [0, 2]),
        (5, (2, 2), 1, [0, 4, 1, 3]),
        (3, (0, 0), 1, []),
        (3, (0, 1), 1, [2]),
        (3, (2, 2), 2, [0, 2]),
        (3, (2, 2), 1, [0, 2]),
        (2, (0, 1), 1, [1]),
        (1, (0, 0), 1, []),
    ],
)
def test_taps_go_from_the_ends_as_far_as_the_padding_makes_up_for_them(
    size: int, pads: tuple[int, int], dilation: int, free: list[int]
) -> None:
    net = Net(1, 3, 8, 8)
    weight = net.integers(2, 3, size, 1)
    model = net.model(
        net.node("Conv", "x", weight, pads=[pads[0], 0, pads[1], 0], dilations=[dilation, 1])
    )
    found = coupling(model)
    (rows,) = [one for one in found.dimensions if one.kernel_axis == 0]
    (slot,) = [s for s in found.slots if s.use is Use.TAP and s.axis == 2]
    assert [slot.channels.index(tap) for tap in rows.channels] == free
    for count in range(min(len(free), size - 1) + 1):
        gone = rows.channels[:count]
        assert np.array_equal(run(without(model, found, gone)), run(unread(model, list(gone))))


def test_depthwise_and_transposed_kernels_keep_their_shape() -> None:
    found = coupling(made(networks.depthwise))
    assert {name for one in kernels(found) for name in one.layers} == {"Conv0", "Conv4"}


def test_who_shares_a_weight_shares_its_taps() -> None:
    def shared(net: Net) -> str:
        weight = net.integers(3, 3, 3, 3)
        once = net.node("Relu", net.node("Conv", "x", weight, pads=[1] * 4))
        return net.node("Conv", once, weight, pads=[1, 0, 1, 0])

    model = made(shared)
    found = coupling(model)
    rows, columns = kernels(found)
    assert (len(rows.layers), len(rows.channels), len(columns.channels)) == (2, 2, 0)
    smaller = without(model, found, rows.channels)
    assert np.array_equal(run(smaller), run(unread(model, list(rows.channels))))


def test_channels_joined_with_padding_stay() -> None:
    (wide,) = [one for one in widths(made(networks.padded)) if one.size == 8]
    assert len(wide.channels) == 4
    assert "Add" in wide.reason


def test_an_output_keeps_its_channels_and_says_why() -> None:
    (last,) = [one for one in widths(made(networks.normalised)) if one.size == 4]
    assert last.channels == ()
    assert last.reason == "an output of the model"


def test_what_is_not_understood_fixes_what_reaches_it() -> None:
    def odd(net: Net) -> str:
        out = net.node("LRN", net.conv("x", 3, 6), size=3)
        return net.conv(out, 6, 2)

    found = coupling(made(odd)).dimensions[0]
    assert found.channels == ()
    assert "LRN" in found.reason
    assert "not understood" in found.reason


def test_a_shared_weight_keeps_its_channels() -> None:
    def shared(net: Net) -> str:
        weight = net.integers(3, 3, 3, 3)
        once = net.node("Relu", net.node("Conv", "x", weight, pads=[1] * 4))
        return net.node("Conv", once, weight, pads=[1] * 4)

    assert all(not one.channels for one in widths(made(shared)))


def test_the_graph_given_is_not_changed() -> None:
    model = made(networks.residual)
    before = model.SerializeToString(deterministic=True)
    found = coupling(model)
    without(model, found, found.dimensions[0].channels[:1])
    assert model.SerializeToString(deterministic=True) == before
