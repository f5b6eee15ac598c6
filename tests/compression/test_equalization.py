"""Channels brought to one reach: the same network, wherever that is so; nothing elsewhere."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest

from edgekit.compression import equalization
from edgekit.compression.activations import Sample, values
from edgekit.domain import Granularity
from tests.compression.networks import Net, depthwise, plain, residual

PER_CHANNEL, PER_TENSOR = Granularity.PER_CHANNEL, Granularity.PER_TENSOR
Build = Callable[[Net], str]


def separable(net: Net) -> str:
    out = net.node("Relu", net.conv("x", 3, 6))
    out = net.node("LeakyRelu", net.conv(out, 6, 6, group=6), alpha=0.1)
    pooled = net.node("GlobalAveragePool", net.node("Relu", net.conv(out, 6, 8, size=1)))
    return net.dense(net.node("Flatten", pooled), 8, 5)


def encoder(net: Net) -> str:
    """Over frames, ``[1, 4, 6]``: what a transformer's block does to its channels."""
    normed = net.node("LayerNormalization", "x", net.integers(6), net.integers(6), axis=-1)
    wide = net.node("Add", net.node("MatMul", normed, net.integers(6, 9)), net.integers(9))
    return net.node("MatMul", net.node("Relu", wide), net.integers(9, 5))


SHAPES = {encoder: (1, 4, 6)}


def samples(build: Build, count: int = 6, seed: int = 0) -> list[Sample]:
    shape = SHAPES.get(build, (1, 3, 8, 8))
    rng = np.random.default_rng(seed)
    return [{"x": rng.standard_normal(shape).astype(np.float32)} for _ in range(count)]


def made(build: Build) -> onnx.ModelProto:
    net = Net(*SHAPES.get(build, (1, 3, 8, 8)))
    return net.model(build(net))


def reaches(model: onnx.ModelProto, build: Build) -> list[np.ndarray]:
    """How far the channels of every scaled tensor reach, each relative to the furthest."""
    found = equalization.pairs(model)
    reach = equalization._reach(model, found, samples(build))
    return [reach[pair.shown] / reach[pair.shown].max() for pair in found]


@pytest.mark.parametrize("granularity", [PER_CHANNEL, PER_TENSOR])
@pytest.mark.parametrize("build", [plain, separable, residual, depthwise, encoder])
def test_it_computes_what_it_did(build: Build, granularity: Granularity) -> None:
    model = made(build)
    before = model.SerializeToString()
    level = equalization.equalized(model, samples(build), granularity)
    assert model.SerializeToString() == before
    assert level.SerializeToString() != before
    names, unseen = [value.name for value in model.graph.output], samples(build, seed=1)
    for one, other in zip(values(model, names, unseen), values(level, names, unseen), strict=True):
        np.testing.assert_allclose(one[0], other[0], rtol=1e-4, atol=1e-3 * np.abs(one[0]).max())


@pytest.mark.parametrize(
    ("build", "count"), [(plain, 1), (separable, 3), (residual, 1), (depthwise, 1), (encoder, 2)]
)
def test_which_tensors_can_be_scaled(build: Build, count: int) -> None:
    """Not across a clip, a sum of two branches, or a flattening that spreads channels."""
    assert len(equalization.pairs(made(build))) == count


@pytest.mark.parametrize("build", [separable, encoder])
def test_channels_of_any_size_come_to_one_reach(build: Build) -> None:
    """However unlike they are made: the network's own arithmetic does not see it."""
    model = made(build)
    for pair in equalization.pairs(model):
        factors = np.geomspace(1e-2, 1e2, _width(model, pair))
        equalization._scale(model, pair.made, factors)
        equalization._scale(model, pair.read, 1 / factors)
    before = [reach[reach > 0].min() for reach in reaches(model, build)]
    level = equalization.equalized(model, samples(build), PER_CHANNEL)
    after = [reach[reach > 0].min() for reach in reaches(level, build)]
    assert max(before) < 0.01
    assert min(after) > 0.05


def _width(model: onnx.ModelProto, pair: equalization.Pair) -> int:
    name, axis = pair.read[0]
    (weight,) = [t for t in model.graph.initializer if t.name == name]
    return int(weight.dims[axis])


def test_a_depthwise_filter_with_scales_of_its_own_makes_its_channels_alike() -> None:
    level = equalization.equalized(made(separable), samples(separable), PER_CHANNEL)
    first = reaches(level, separable)[0]
    assert first[first > 0].min() > 0.999


def test_a_silent_channel_stays_as_it_is() -> None:
    """No sample shows what it would give; nothing is divided by zero."""

    def silent(net: Net) -> str:
        bias = np.array([-1e6, 0, 0, 0], np.float32)
        weight = net.integers(4, 3, 1, 1)
        first = net.node("Relu", net.node("Conv", "x", weight, net.constant(bias)))
        return net.conv(first, 4, 3, size=1)

    model = made(silent)
    level = equalization.equalized(model, samples(silent), PER_CHANNEL)
    weights = [onnx.numpy_helper.to_array(each.graph.initializer[0])[0] for each in (model, level)]
    assert np.isfinite(onnx.numpy_helper.to_array(level.graph.initializer[0])).all()
    np.testing.assert_array_equal(*weights)


@pytest.mark.parametrize("how", [{"strides": [2]}, {"strides": [1], "pads": [1, 1]}])
def test_pooling_over_the_channels_mixes_them(how: dict[str, list[int]]) -> None:
    """Maxout: after a matrix product the channels are the last axis, where it pools."""
    net = Net(1, 4, 6)
    size = 3 if "pads" in how else 2
    given = net.node("MatMul", "x", net.integers(6, 8))
    pooled = net.node("MaxPool", given, kernel_shape=[size], **how)
    left = net.integers(8 if "pads" in how else 4, 5)
    assert equalization.pairs(net.model(net.node("MatMul", pooled, left))) == ()


def test_what_others_see_too_is_left_alone() -> None:
    """A weight that two nodes take, and a tensor that is an output as well."""

    def shared(net: Net) -> str:
        weight = net.integers(3, 3, 1, 1)
        return net.node("Conv", net.node("Relu", net.node("Conv", "x", weight)), weight)

    assert equalization.pairs(made(shared)) == ()
    model = made(separable)
    for pair in equalization.pairs(model):
        seen = onnx.ModelProto()
        seen.CopyFrom(model)
        seen.graph.output.extend(v for v in model.graph.value_info if v.name == pair.shown)
        assert len(seen.graph.output) == 2
        assert pair.shown not in {each.shown for each in equalization.pairs(seen)}
