"""A network's weights in few bits: nearer to the original, by samples that were kept back."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest

from edgekit.compression import few_bits, layers, rounding
from edgekit.compression.activations import Sample, values
from edgekit.compression.differences import difference
from edgekit.compression.layers import Layer
from edgekit.compression.rounding import Floats, Grid, Levels
from tests.compression.networks import Net


def four_bits(_layer: Layer, _shape: tuple[int, ...]) -> Grid:
    return Levels(4)


def wide(net: Net) -> str:
    """Residual, depthwise and dense layers, with weights of any size."""
    net.integers = (
        lambda *shape: net.constant(  # type: ignore[method-assign]
            (net.rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)
        )
    )
    first = net.node("Relu", net.conv("x", 3, 16))
    inner = net.node("Relu", net.conv(first, 16, 16))
    out = net.node("Relu", net.node("Add", net.conv(inner, 16, 16), first))
    out = net.node("Relu", net.conv(out, 16, 16, group=16))
    out = net.node("GlobalAveragePool", net.node("Relu", net.conv(out, 16, 32, size=1)))
    return net.dense(net.node("Flatten", out), 32, 10)


def made(build: Callable[[Net], str] = wide) -> onnx.ModelProto:
    net = Net(1, 3, 8, 8)
    return net.model(build(net))


def samples(count: int, seed: int = 1) -> list[Sample]:
    """Pictures whose neighbouring pixels are alike, as those of a camera are."""
    rng = np.random.default_rng(seed)
    coarse = rng.standard_normal((count, 1, 3, 4, 4)).astype(np.float32)
    return [{"x": picture.repeat(2, axis=2).repeat(2, axis=3)} for picture in coarse]


def outputs(model: onnx.ModelProto, fed: list[Sample]) -> tuple[Floats, ...]:
    names = [value.name for value in model.graph.output]
    return tuple(np.stack(column) for column in zip(*values(model, names, fed), strict=True))


def test_unseen_samples_agree_better_than_with_weights_at_their_nearest() -> None:
    model, unseen = made(), samples(100, seed=2)
    adapted, report = few_bits.adapted(model, samples(60), four_bits)
    found = layers.layers(model, 1)
    naive = few_bits._to_nearest(model, found, {layer.name: Levels(4) for layer in found})
    told = outputs(model, unseen)
    mine, its = (difference(outputs(each, unseen), told) for each in (adapted, naive))
    assert mine < 0.5 * its
    assert report.used
    assert report.error < 0.5 * report.error_to_nearest
    assert [layer.bits for layer in report.layers] == [4] * 6


def test_every_weight_lies_on_its_grid_and_the_model_is_as_it_was() -> None:
    model = made()
    before = model.SerializeToString()
    adapted, _ = few_bits.adapted(model, samples(20), four_bits)
    assert model.SerializeToString() == before
    for layer in layers.layers(adapted, 1):
        matrix = layers.matrix(layer, layers.constant(adapted, layer.weight)).astype(np.float64)
        assert np.allclose(rounding.nearest(matrix, Levels(4)), matrix, atol=1e-6), layer.name


def test_layers_without_a_grid_keep_all_their_bits() -> None:
    adapted, report = few_bits.adapted(
        made(), samples(20), lambda layer, _: None if layer.depthwise else Levels(4)
    )
    (depthwise,) = [each for each in layers.layers(adapted, 1) if each.depthwise]
    weight = layers.constant(adapted, depthwise.weight)
    assert len(np.unique(weight)) == weight.size
    assert depthwise.name not in {layer.name for layer in report.layers}


def test_what_brings_nothing_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounding that goes wrong is found out by the samples that were kept back."""
    monkeypatch.setattr(rounding, "rounded", lambda matrix, *_: 3 * matrix)
    model = made()
    adapted, report = few_bits.adapted(model, samples(20), four_bits)
    assert adapted is model
    assert not report.used
    assert report.error > report.error_to_nearest


def test_weights_that_two_layers_share_are_left_alone() -> None:
    def twice(net: Net) -> str:
        weight = net.constant(net.rng.standard_normal((3, 3, 1, 1)).astype(np.float32))
        return net.node("Conv", net.node("Relu", net.node("Conv", "x", weight)), weight)

    model = made(twice)
    adapted, report = few_bits.adapted(model, samples(10), four_bits)
    assert report.layers == ()
    assert adapted is model


def test_two_samples_are_enough_to_try() -> None:
    _, report = few_bits.adapted(made(), samples(2), four_bits)
    assert report.sample_count == 2
    _, report = few_bits.adapted(made(), samples(1), four_bits)
    assert report.sample_count == 1


def test_a_layer_that_one_weight_makes_coarse_costs_most() -> None:
    """Its largest weight decides the scale of a channel; what may lie anywhere costs nothing."""
    model = made()
    third = layers.layers(model, 1)[2]
    weight = layers.constant(model, third.weight).copy()
    weight[:, 0, 0, 0] = 20 * np.abs(weight).max()
    layers.assign(model, third.weight, weight)
    costs = few_bits.costs(
        model, samples(20), lambda layer, _: None if layer.depthwise else Levels(4)
    )
    assert len(costs) == 5
    assert max(costs, key=lambda cost: cost.error).name == third.name
    assert all(cost.error > 0 for cost in costs)
