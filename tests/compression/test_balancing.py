"""Making a network ready for int8: kept where a simulation of int8 says that it helps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from edgekit import datasets, pipeline, profiles, sources
from edgekit.compression import balancing, equalization, integers, layers
from edgekit.compression.activations import Sample, values
from edgekit.domain import Format, Goal, Granularity, Mode, Outcome, Quantization
from edgekit.pipeline import Request
from edgekit.planning import Choice
from tests.compression.networks import Net
from tests.paths import CALIBRATION, DIGITS_MODEL, EVALUATION

STATIC = Quantization(mode=Mode.STATIC, weights="int8", activations="uint8")
COARSE = Quantization(
    mode=Mode.STATIC, weights="int8", activations="uint8", granularity=Granularity.PER_TENSOR
)


@pytest.fixture(scope="module")
def scrambled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits network with its channels pulled apart by a thousand; it computes the same."""
    folder = tmp_path_factory.mktemp("scrambled")
    model = onnx.load(sources.load(DIGITS_MODEL, folder).graph)
    found = equalization.pairs(model)
    assert found
    for pair in found:
        (weight,) = [t for t in model.graph.initializer if t.name == pair.read[0][0]]
        factors = np.geomspace(0.03, 30, weight.dims[pair.read[0][1]])
        equalization._scale(model, pair.made, factors)
        equalization._scale(model, pair.read, 1 / factors)
    onnx.save(model, folder / "scrambled.onnx")
    return folder / "scrambled.onnx"


@pytest.mark.parametrize("format_", [Format.ONNXRUNTIME, Format.LITERT])
def test_channels_that_one_scale_cannot_serve_are_served(
    format_: Format, scrambled: Path, tmp_path: Path
) -> None:
    request = Request(
        model=scrambled,
        profile=profiles.find("raspberry-pi-5"),
        goal=Goal(max_accuracy_drop=0.01),
        choice=Choice(formats=(format_,), precisions=("int8-static",)),
        calibration=CALIBRATION,
        evaluation=EVALUATION,
    )
    manifest = pipeline.build(request, tmp_path / "made.edgekit", cache=tmp_path / "cache").manifest
    assert manifest.balanced is not None
    assert manifest.balanced.equalized
    assert manifest.balanced.error < 0.1 * manifest.balanced.error_before
    assert manifest.attempts[0].outcome is Outcome.CHOSEN
    assert manifest.recipe.float_nodes == ()


def samples(count: int, *shape: int) -> list[Sample]:
    rng = np.random.default_rng(3)
    return [{"x": (rng.standard_normal(shape) + 2).astype(np.float32)} for _ in range(count)]


def test_biases_take_up_what_rounding_the_weights_shifts() -> None:
    """Inputs that are never zero on the mean: every weight's error adds up."""

    model = dense()
    found, seen = layers.layers(model, 1), samples(50, 1, 64)
    right = balancing.corrected(model, found, seen, STATIC)

    def shift(each: onnx.ModelProto) -> float:
        coarse = integers.simulated(each, found, seen, STATIC)
        name = model.graph.output[0].name
        pairs = zip(values(coarse, [name], seen), values(model, [name], seen), strict=True)
        return float(np.abs(np.mean([got[0] - told[0] for got, told in pairs], axis=0)).mean())

    assert shift(right) < 0.2 * shift(model)
    made, report = balancing.chosen(model, seen, STATIC)
    assert report.corrected
    assert not report.equalized
    assert shift(made) < 0.3 * shift(model)


def test_what_brings_nothing_leaves_the_network_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Corrections that go wrong are found out by the samples that were kept back."""
    monkeypatch.setattr(balancing.equalization, "equalized", lambda model, *_: _halved(model))
    monkeypatch.setattr(balancing, "corrected", lambda model, *_: _halved(model))
    net = Net(1, 64)
    model = net.model(net.dense("x", 64, 8))
    made, report = balancing.chosen(model, samples(20, 1, 64), STATIC)
    assert made is model
    assert not report.used
    assert report.error == report.error_before


def _halved(model: onnx.ModelProto) -> onnx.ModelProto:
    made = onnx.ModelProto()
    made.CopyFrom(model)
    weight = onnx.numpy_helper.to_array(made.graph.initializer[0])
    layers.assign(made, made.graph.initializer[0].name, weight / 2)
    return made


@pytest.mark.parametrize("quantization", [STATIC, COARSE])
def test_weights_are_stored_on_255_levels_of_their_scale(quantization: Quantization) -> None:
    matrix = np.random.default_rng(0).standard_normal((200, 3)) * [1, 10, 100]
    made = integers.stored(matrix, quantization)
    steps = np.abs(matrix).max(0) / 127
    steps = np.full(3, steps.max()) if quantization is COARSE else steps
    assert np.allclose(made / steps, np.round(made / steps), atol=1e-9)
    assert (np.abs(made - matrix) <= steps / 2 + 1e-12).all()


@pytest.mark.parametrize("count", [1, 2, 5])
def test_one_sample_can_judge(count: int) -> None:
    """Of few there is one that judges; of a single one it is the one that was fitted on."""
    _, report = balancing.chosen(dense(), samples(count, 1, 64), STATIC)
    assert report.sample_count == count
    assert 0 < report.error <= report.error_before < 1


def dense() -> onnx.ModelProto:
    """One layer of coarse steps, without a bias of its own."""
    net = Net(1, 64)
    weight = net.rng.standard_normal((64, 8)).astype(np.float32)
    weight[0] = 8
    bias = net.constant(np.zeros(8, np.float32))
    return net.model(net.node("Gemm", "x", net.constant(weight), bias))


def test_nodes_that_stay_in_float_keep_their_biases() -> None:
    model = dense()
    _, whole = balancing.chosen(model, samples(50, 1, 64), STATIC)
    made, mixed = balancing.chosen(model, samples(50, 1, 64), STATIC, mixed=True)
    assert whole.corrected
    assert not mixed.corrected
    assert made is model


@pytest.mark.parametrize("shape", [(), (1,), (1, 1), (1, 8)])
def test_a_bias_that_the_channels_share_is_no_obstacle(shape: tuple[int, ...]) -> None:
    net = Net(1, 16)
    bias = net.constant(np.ones(shape, np.float32))
    first = net.node("Relu", net.node("Gemm", "x", net.integers(16, 8), bias))
    model = net.model(net.node("Gemm", first, net.integers(8, 4), net.integers(4)))
    _, report = balancing.chosen(model, samples(10, 1, 16), STATIC)
    assert report.error <= report.error_before


def test_layers_of_other_types_than_float_are_passed_over() -> None:
    net = Net(1, 16)
    wide = net.node("Cast", "x", to=onnx.TensorProto.DOUBLE)
    weight = net.constant(np.eye(16, 4))
    narrow = net.node("Cast", net.node("MatMul", wide, weight), to=onnx.TensorProto.FLOAT)
    model = net.model(net.dense(narrow, 4, 3))
    assert [layer.name for layer in layers.layers(model, 1)] == ["Gemm3"]
    balancing.chosen(model, samples(10, 1, 16), STATIC)


def test_a_source_is_made_once_and_found_again(scrambled: Path, tmp_path: Path) -> None:
    source = sources.load(scrambled, tmp_path)
    calibration = datasets.load(CALIBRATION, source.inputs)
    made, report = balancing.balanced(source, STATIC, calibration, tmp_path)
    again, told = balancing.balanced(source, STATIC, calibration, tmp_path)
    assert made.graph != source.graph
    assert (again.graph, told) == (made.graph, report)
    names = [spec.name for spec in source.outputs]
    fed = [sources.random_feeds(source.inputs)]
    ((one,),), ((other,),) = (
        list(values(onnx.load(each.graph), names, fed)) for each in (source, made)
    )
    assert np.allclose(one, other, atol=0.05 * np.abs(one).max())
