"""Two layers fitted at once: the slopes against differences, and what it brings."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from edgekit.compression import layers, pairs
from edgekit.compression.activations import Sample
from edgekit.compression.differences import difference, outputs
from edgekit.compression.groups import coupling
from edgekit.compression.pairs import Pair, Problem
from edgekit.compression.surgery import without
from edgekit.compression.targets import Goal, goals
from tests.compression.networks import Net


def normal(net: Net, *shape: int) -> str:
    return net.constant(net.rng.standard_normal(shape).astype(np.float32))


def convolutions() -> onnx.ModelProto:
    """Strides, uneven pads and dilations; an activation at both ends of the second."""
    net = Net(1, 3, 9, 9)
    first = net.node(
        "Conv", "x", normal(net, 6, 3, 3, 2), normal(net, 6), pads=[1, 0, 0, 1], strides=[2, 1]
    )
    second = net.node(
        "Conv", net.node("Relu", first), normal(net, 4, 6, 2, 3), normal(net, 4),
        pads=[1, 2, 0, 1], dilations=[1, 2],
    )  # fmt: skip
    return net.model(net.node("Relu", second))


def dense() -> onnx.ModelProto:
    net = Net(1, 12)
    hidden = net.node("Relu", net.node("Gemm", "x", normal(net, 12, 16), normal(net, 16)))
    return net.model(net.node("MatMul", hidden, normal(net, 16, 5)))


MADE = {"convolutions": convolutions, "dense": dense}


def fed(model: onnx.ModelProto, count: int, seed: int = 1) -> list[Sample]:
    shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    rng = np.random.default_rng(seed)
    return [{"x": rng.standard_normal(shape).astype(np.float32)} for _ in range(count)]


def only(model: onnx.ModelProto) -> tuple[Pair, Goal]:
    """The one pair of a graph, and what its second layer is fitted to."""
    found = layers.layers(model, 100)
    ((name, pair),) = pairs.pairs(model, found).items()
    return pair, goals(model, found)[name]


@pytest.mark.parametrize("name", MADE)
def test_the_slopes_are_those_of_the_error(name: str) -> None:
    """In double precision, a small step along each of some weights and back."""
    model = MADE[name]()
    pair, goal = only(model)
    told = pairs.problem(model, model, pair, goal, fed(model, 6))
    doubles = [np.asarray(a, np.float64) for a in (told.taken, told.target, told.added)]
    problem = Problem(told.pair, told.goal, *doubles)
    rng = np.random.default_rng(2)
    start = [np.asarray(w, np.float64) for w in pairs._weights(model, pair)]
    weights = [w + 0.3 * rng.standard_normal(w.shape) for w in start]
    slopes = pairs._slopes(problem, weights)
    for index, slope in enumerate(slopes):
        for _ in range(5):
            at = tuple(rng.integers(0, n) for n in weights[index].shape)
            moved = [[w.copy() for w in weights] for _ in range(2)]
            for side, step in zip(moved, (1e-6, -1e-6), strict=True):
                side[index][at] += step
            up, down = (pairs._error(problem, side) for side in moved)
            # A factor of two is left out: the descent takes any.
            assert (up - down) / 4e-6 == pytest.approx(slope[at], rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("name", MADE)
def test_what_a_pair_computes_is_what_the_network_does(name: str) -> None:
    model = MADE[name]()
    pair, goal = only(model)
    problem = pairs.problem(model, model, pair, goal, fed(model, 4))
    assert pairs._error(problem, pairs._weights(model, pair)) < 1e-6 * np.sum(problem.target**2)


@pytest.mark.parametrize("name", MADE)
def test_without_some_of_what_lies_between_the_fit_comes_nearer(name: str) -> None:
    model = MADE[name]()
    found = coupling(model)
    smaller = without(model, found, found.dimensions[0].channels[:2])
    (pair,) = pairs.pairs(model, layers.layers(smaller, 100)).values()
    _, goal = only(model)
    names, unseen = [model.graph.output[0].name], fed(model, 60, seed=9)
    told = outputs(model, names, unseen)
    before = difference(outputs(smaller, names, unseen), told)
    pairs.fit(smaller, pairs.problem(smaller, model, pair, goal, fed(model, 200)))
    assert difference(outputs(smaller, names, unseen), told) < 0.7 * before


def test_a_layer_that_others_read_too_is_no_ones_half() -> None:
    net = Net(1, 3, 8, 8)
    first = net.node("Relu", net.conv("x", 3, 4))
    both = net.node("Add", net.conv(first, 4, 4), first)
    model = net.model(both)
    assert not pairs.pairs(model, layers.layers(model, 10))


def test_who_shares_a_weight_or_a_bias_is_fitted_alone() -> None:
    net = Net(1, 4, 8, 8)
    weight, bias = normal(net, 4, 4, 3, 3), normal(net, 4)
    first = net.node("Relu", net.node("Conv", "x", weight, pads=[1] * 4))
    second = net.node("Relu", net.node("Conv", first, normal(net, 4, 4, 1, 1), bias))
    third = net.node("Relu", net.node("Conv", second, normal(net, 4, 4, 1, 1), bias))
    model = net.model(net.node("Conv", third, weight, pads=[1] * 4))
    assert not pairs.pairs(model, layers.layers(model, 10))


def test_large_pairs_are_left_to_their_own_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    model = convolutions()
    found = layers.layers(model, 10)
    assert pairs.pairs(model, found)
    monkeypatch.setattr(pairs, "_MOST_MACS", 100)
    assert not pairs.pairs(model, found)
