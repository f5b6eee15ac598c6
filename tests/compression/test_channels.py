"""Which channels go, how many of each layer, and the fit of what is left."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from edgekit import inspection
from edgekit.compression import channels, differences, layers, saliency
from edgekit.compression.activations import Sample, shifted, values
from edgekit.compression.channels import Terms
from edgekit.compression.fractions import Level, Width, allocate, levels
from edgekit.compression.groups import Dimension, coupling
from edgekit.compression.layers import Layer
from edgekit.errors import ModelError
from tests.compression.networks import Net


def redundant(seed: int = 0) -> onnx.ModelProto:
    """Of 16 channels 8 are sums of the others: all of those can go, and nothing is lost."""
    net = Net(1, 3, 8, 8, seed=seed)
    first = net.rng.standard_normal((8, 3, 3, 3)).astype(np.float32)
    mixed = np.tensordot(net.rng.standard_normal((8, 8)), first, 1).astype(np.float32)
    both = net.constant(np.concatenate([first, mixed]))
    made = net.node("Conv", "x", both, net.integers(16), pads=[1] * 4)
    weight = net.constant(net.rng.standard_normal((6, 16, 3, 3)).astype(np.float32))
    out = net.node("Relu", net.node("Conv", made, weight, net.integers(6), pads=[1] * 4))
    return net.model(net.dense(net.node("Flatten", net.node("GlobalAveragePool", out)), 6, 5))


def samples(count: int = 40) -> list[Sample]:
    rng = np.random.default_rng(3)
    return [{"x": rng.standard_normal((1, 3, 8, 8)).astype(np.float32)} for _ in range(count)]


def outputs(model: onnx.ModelProto, fed: list[Sample]) -> tuple[np.ndarray]:
    names = [model.graph.output[0].name]
    return (np.stack([out for (out,) in values(model, names, fed)]),)


def test_redundant_channels_go_at_almost_no_cost() -> None:
    model = redundant()
    smaller, cuts = channels.pruned(model, samples(), Terms(fraction=0.4, ridge=1e-6))
    before, after = (sum(inspection.macs(one).values()) for one in (model, smaller))
    unseen = samples(60)[40:]
    assert after <= 0.6 * before
    assert differences.difference(outputs(smaller, unseen), outputs(model, unseen)) < 1e-2
    assert len(cuts[0].removed) == 8
    onnx.checker.check_model(smaller, full_check=True)


def test_the_fit_is_what_keeps_the_outputs() -> None:
    """The same channels gone, with and without compensation and fit."""
    model, fed = redundant(), samples()
    found = coupling(model)
    smaller, cuts = channels.pruned(model, fed, Terms(fraction=0.4))
    removed = [channel for cut in cuts for channel in cut.removed]
    bare = channels.without(model, found, removed)
    fitted, unfitted = (
        differences.difference(outputs(one, fed), outputs(model, fed)) for one in (smaller, bare)
    )
    assert fitted < 0.1 * unfitted


def test_what_is_asked_for_in_excess_is_refused_with_what_is_possible() -> None:
    with pytest.raises(ModelError, match="is the most"):
        channels.pruned(redundant(), samples(4), Terms(fraction=0.99))


def test_a_network_without_free_channels_says_why() -> None:
    net = Net(1, 3, 8, 8)
    model = net.model(net.conv("x", 3, 8, size=1))
    with pytest.raises(ModelError, match="an output of the model"):
        channels.pruned(model, samples(2), Terms(fraction=0.1))


def test_a_kernels_idle_ends_are_the_first_to_go() -> None:
    """Two of nine rows' worth of work is zeros: it goes, and nothing else is touched."""
    net = Net(1, 3, 8, 8)
    idle = net.rng.standard_normal((8, 3, 3, 3)).astype(np.float32)
    idle[:, :, [0, 2]] = 0
    first = net.node("Relu", net.node("Conv", "x", net.constant(idle), pads=[1] * 4))
    busy = net.constant(net.rng.standard_normal((4, 8, 3, 3)).astype(np.float32))
    model = net.model(net.node("Conv", first, busy, pads=[1] * 4))
    share = 2 / 3 * 8 * 27 / (8 * 27 + 4 * 72)
    smaller, cuts = channels.pruned(model, samples(), Terms(fraction=share - 1e-6))
    (cut,) = [cut for cut in cuts if cut.removed]
    assert (cut.dimension.layers, cut.dimension.kernel_axis) == (("Conv0",), 0)
    assert layers.constant(smaller, "w0").shape == (8, 3, 1, 3)
    unseen = samples(60)[40:]
    assert differences.difference(outputs(smaller, unseen), outputs(model, unseen)) < 1e-9
    onnx.checker.check_model(smaller, full_check=True)


def test_what_only_seems_free_on_its_own_samples_stays() -> None:
    """Few samples can be met without any eight of 48 units; eight doubles cost little."""
    net = Net(1, 3, 8, 8)
    draw = net.rng.standard_normal
    own = draw((8, 3, 1, 1))
    near = own + 0.1 * draw((8, 3, 1, 1))
    both, mixed, wide, last = (
        net.constant(weight.astype(np.float32))
        for weight in (
            np.concatenate([own, near]),
            draw((8, 16, 1, 1)),
            draw((32, 48)),
            draw((48, 5)),
        )
    )
    out = net.node("Relu", net.node("Conv", net.node("Relu", net.node("Conv", "x", both)), mixed))
    pooled = net.node("AveragePool", out, kernel_shape=[4, 4], strides=[4, 4])
    hidden = net.node("MatMul", net.node("Flatten", pooled), wide)
    model = net.model(net.node("MatMul", net.node("Relu", hidden), last))
    terms = Terms(fraction=0.02, multiple=8, ridge=1e-5)
    _, cuts = channels.pruned(model, samples(24), terms)
    assert [cut.dimension.size for cut in cuts if cut.removed] == [16]


def test_second_order_saliency_is_the_error_after_the_best_fit() -> None:
    """Against brute force: every channel removed, the others fitted anew."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((400, 6)) @ rng.standard_normal((6, 6))
    matrix = rng.standard_normal((6, 4))
    left = [
        np.sum((rows @ matrix - rest @ np.linalg.lstsq(rest, rows @ matrix)[0]) ** 2)
        for rest in (np.delete(rows, c, axis=1) for c in range(6))
    ]
    reader = saliency.Reader(
        layer=Layer(name="", taken="", given="", weight="", bias=""),
        channels=np.arange(6),
        matrix=matrix,
        mean=np.zeros(6),
        covariance=rows.T @ rows / len(rows),
    )
    order = saliency.by_error(Dimension((), 6, tuple(range(6)), 6), [reader], 1e-9)
    assert left[order[0]] == pytest.approx(min(left), abs=1e-6 * max(left))
    assert sorted(order) == list(range(6))


def test_magnitude_takes_the_smallest_first() -> None:
    net = Net(1, 3, 8, 8)
    weight = np.ones((3, 3, 1, 1), np.float32) * np.array([2, 1, 3], np.float32).reshape(3, 1, 1, 1)
    model = net.model(net.conv(net.node("Conv", "x", net.constant(weight)), 3, 2))
    found = coupling(model)
    assert saliency.by_magnitude(model, found, found.dimensions[0]) == [1, 0, 2]


@pytest.mark.parametrize("extra", [{}, {"strides": [2, 1]}, {"dilations": [2, 2]}, {"group": 6}])
def test_a_convolution_is_its_rows_times_its_matrix(extra: dict[str, object]) -> None:
    net = Net(1, 6, 8, 8)
    group = int(str(extra.get("group", 1)))
    weight = net.integers(6, 6 // group, 3, 2)
    model = net.model(net.node("Conv", "x", weight, pads=[1, 0, 2, 1], **extra))
    (layer,) = layers.layers(model, 20)
    fed = {"x": np.random.default_rng(0).integers(-3, 4, (1, 6, 8, 8)).astype(np.float32)}
    ((made,),) = values(model, [layer.given], [fed])
    rows, matrix = (
        layers.rows(layer, fed["x"]),
        layers.matrix(layer, layers.constant(model, weight)),
    )
    if group > 1:
        got = np.einsum("pct,tc->pc", rows.reshape(len(rows), 6, -1), matrix)
    else:
        got = rows @ matrix
    assert np.array_equal(got, layers.given(layer, made))


def test_what_is_left_is_a_multiple() -> None:
    assert levels(Dimension((), 16, tuple(range(16)), 16), 8) == (8,)
    assert levels(Dimension((), 20, tuple(range(20)), 20), 8) == (4, 12)
    assert levels(Dimension((), 8, tuple(range(8)), 8), 8) == ()
    assert levels(Dimension((), 16, (0, 1, 2), 16), 4) == ()
    # One of its layers makes eight of them only: it must not be emptied.
    assert levels(Dimension((), 16, tuple(range(8)), 8), 4) == (4,)


def test_the_cheapest_channels_are_allocated_and_the_surplus_given_back() -> None:
    """Three layers of equal MACs; a third of all may go."""
    tables = [
        (Level(0, 0.0), Level(4, 0.9)),
        (Level(0, 0.0), Level(4, 0.1), Level(8, 0.2)),
        (Level(0, 0.0), Level(4, 0.01)),
    ]
    width = equal(weights=[0, 0, 0])
    assert allocate(tables, width, 185.0) == (0, 8, 4)
    assert allocate(tables, width, 220.0) == (0, 4, 4)
    assert allocate(tables, width, 261.0) == (0, 0, 4)


def test_of_what_is_free_the_layer_goes_whose_weights_take_longest_to_fetch() -> None:
    less, more = (Level(0, 0.0), Level(4, 1e-7)), (Level(0, 0.0), Level(4, 9e-7))
    assert allocate([less, more], equal(weights=[9, 50]), 160.0) == (0, 4)
    assert allocate([more, less], equal(weights=[50, 9]), 160.0) == (4, 0)


def equal(weights: list[float]) -> Width:
    """Layers of 100 MACs and ten channels each."""
    count = len(weights)
    return Width(
        macs=np.full(count, 100.0),
        weights=np.array(weights, np.float64),
        shares=np.eye(count) / 10,
        nodes=np.arange(count),
        fixed=0.0,
    )


def test_shifted_samples_are_the_same_values_elsewhere() -> None:
    (whole, moved) = shifted(samples(1), {"x": (2, 3)}, 1)
    assert np.array_equal(np.sort(whole["x"], None), np.sort(moved["x"], None))
    assert np.array_equal(whole["x"].sum((2, 3)).round(3), moved["x"].sum((2, 3)).round(3))
