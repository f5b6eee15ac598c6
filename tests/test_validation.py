"""Metrics by hand, and an artifact against its source: what passes the gate, and what does not."""

import json
import shutil

import msgspec
import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs
from onnx import numpy_helper

from edgekit import datasets, sources, validation
from edgekit.domain import (
    AffineQuantization,
    Artifact,
    Format,
    Mode,
    OutputFidelity,
    Picture,
    Quantization,
    Recipe,
    TensorBinding,
    TensorSpec,
    ValidationReport,
)
from edgekit.errors import DataError, ToolError, UsageError
from edgekit.sources import onnx_graph
from edgekit.validation import METRICS, Metric, choose_metric, cosine
from tests import models

RUNTIME = "onnxruntime"
FLOAT = Recipe(format=Format.ONNXRUNTIME, runtime=RUNTIME)
NAN = float("nan")


def measure(name, outputs, labels):
    return METRICS[name].measure(np.asarray(outputs), np.asarray(labels))


# Metrics


def test_top1():
    outputs = [[0.1, 0.9], [0.8, 0.2], [0.3, 0.7], [0.6, 0.4]]
    assert measure("top1", outputs, [1, 0, 0, 0]) == 0.75
    assert measure("top1", np.reshape(outputs, (4, 1, 2)), [[1], [0], [0], [0]]) == 0.75


@pytest.mark.parametrize("labels", [[0, 2], [-1, 0]])
def test_top1_refuses_labels_that_are_no_class(labels):
    with pytest.raises(DataError, match="the model has 2 classes"):
        measure("top1", [[0.1, 0.9], [0.8, 0.2]], labels)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ([1, 2, 2], [2, 4, 4], 1),
        ([1, 0], [0, 3], 0),
        ([1, 2], [-1, -2], -1),
        ([3, 4], [4, 3], 24 / 25),
        ([0, 0], [0, 0], 1),
        ([0, 0], [1, 0], 0),
        ([1, 0], [0, 0], 0),
        ([1, NAN], [1, 2], 0),
        ([0, 0], [NAN, 0], 0),
        ([1, 1], [np.inf, 1], 0),
    ],
)
def test_cosine(a, b, expected):
    with np.errstate(invalid="ignore"):
        assert cosine(np.array(a, float), np.array(b, float)) == pytest.approx(expected)


def test_the_metric_cosine_is_the_mean_over_samples():
    assert measure("cosine", [[1.0, 0.0], [3.0, 4.0]], [[0.0, 1.0], [6.0, 8.0]]) == 0.5


def test_mae():
    assert measure("mae", [[1.0], [2.0]], [0.0, 4.0]) == 1.5
    assert not METRICS["mae"].higher_is_better


def test_mae_of_unsigned_integers_does_not_wrap_around():
    assert measure("mae", np.array([[1], [2]], np.uint8), np.array([3, 5], np.uint8)) == 2.5


def test_auc():
    assert measure("auc", [0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1]) == 0.75
    assert measure("auc", [[0.9, 0.1], [0.2, 0.8]], [0, 1]) == 1, "the last column counts"
    assert measure("auc", [1.0, 1.0, 1.0], [0, 1, 1]) == 0.5


@pytest.mark.parametrize("labels", [[0, 0], [1, 1]])
def test_auc_needs_both_classes(labels):
    with pytest.raises(DataError, match="both classes"):
        measure("auc", [0.1, 0.2], labels)


def test_auc_of_what_is_no_number_is_none_either():
    assert np.isnan(measure("auc", [0.1, NAN], [0, 1]))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=30))
def test_auc_counts_pairs(drawn):
    """By definition: the share of pairs in the right order, ties one half."""
    positive = [score for score, label in drawn if label]
    negative = [score for score, label in drawn if not label]
    if not positive or not negative:
        return
    won = sum((p > n) + 0.5 * (p == n) for p in positive for n in negative)
    scores, labels = (np.array(column) for column in zip(*drawn, strict=True))
    expected = won / (len(positive) * len(negative))
    assert measure("auc", scores.astype(np.float32), labels) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("name", "labels", "chosen"),
    [
        (None, None, "cosine"),
        (None, np.array([0, 1]), "top1"),
        (None, np.array([0, 1], np.uint8), "top1"),
        (None, np.array([0.5]), "mae"),
        ("auc", np.array([0, 1]), "auc"),
        ("cosine", None, "cosine"),
    ],
)
def test_which_metric_is_chosen(name, labels, chosen):
    assert choose_metric(name, labels).name == chosen


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("f1", "no metric is named 'f1'"),
        ("top1", "needs labels"),
        ("no_such_module:f", "cannot be imported"),
        ("json:no_such_function", "cannot be imported"),
        (":dumps", "cannot be imported"),
        ("json:", "cannot be imported"),
        ("json:__name__", "is no function"),
    ],
)
def test_a_metric_that_cannot_be_had_is_refused(name, says):
    with pytest.raises(UsageError) as caught:
        choose_metric(name, None)
    assert says in caught.value.message


def test_a_users_metric_comes_from_the_current_folder(tmp_path, monkeypatch):
    (tmp_path / "my_own_metric.py").write_text("def half(outputs, labels): return 0.5\n")
    monkeypatch.chdir(tmp_path)
    metric = choose_metric("my_own_metric:half", None)
    assert (metric.name, metric.higher_is_better) == ("my_own_metric:half", True)
    assert metric.measure(np.zeros(1), np.zeros(1)) == 0.5


def test_a_users_module_that_fails_is_a_usage_error(tmp_path, monkeypatch):
    (tmp_path / "broken_metric.py").write_text("1 / 0\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="division by zero"):
        choose_metric("broken_metric:f", None)


# An artifact against its source; the format is ONNX Runtime itself


def source_of(made, folder):
    path = models.save(made, folder / "model.onnx")
    return onnx_graph.normalise(path, folder, {})


@pytest.fixture(scope="module")
def dense(tmp_path_factory):
    return source_of(models.dense_net(), tmp_path_factory.mktemp("dense"))


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    return source_of(models.two_by_two(), tmp_path_factory.mktemp("pair"))


@pytest.fixture(scope="module")
def on_random(dense, tmp_path_factory):
    return validation.reference(dense, None, None, tmp_path_factory.mktemp("random"))


def copy_of(source, folder, change=None):
    """An artifact: the source's graph, changed or not."""
    folder.mkdir()
    path = folder / "model.onnx"
    shutil.copyfile(source.graph, path)
    if change is not None:
        stored = onnx.load(path)
        change(stored.graph)
        models.save(stored, path)
    return Artifact(
        path=path.name,
        format=Format.ONNXRUNTIME,
        sha256="0" * 64,
        size_bytes=path.stat().st_size,
        inputs=tuple(map(bound_to, source.inputs)),
        outputs=tuple(map(bound_to, source.outputs)),
    )


def bound_to(spec):
    return TensorBinding(source=spec, artifact=spec, permutation=tuple(range(len(spec.shape))))


def rescale(factor):
    """A change of the last layer's weights."""

    def change(graph):
        (kernel,) = [c for c in graph.initializer if c.name == graph.node[-1].input[1]]
        array = numpy_helper.to_array(kernel) * np.asarray(factor, np.float32)
        kernel.CopyFrom(numpy_helper.from_array(array, kernel.name))

    return change


def judged(made, artifact, folder, metric="cosine", max_drop=0.005):
    chosen = metric if isinstance(metric, Metric) else METRICS[metric]
    return validation.validate(made, artifact, folder, RUNTIME, metric=chosen, max_drop=max_drop)


def test_an_identical_artifact_loses_nothing(dense, on_random, tmp_path):
    report, outputs = judged(on_random, copy_of(dense, tmp_path / "a"), tmp_path / "a")
    assert report == ValidationReport(
        sample_count=validation.RANDOM_SAMPLES,
        data="random",
        metric="cosine",
        baseline=pytest.approx(1),
        value=pytest.approx(1),
        drop=0,
        max_drop=0.005,
        per_output=(
            OutputFidelity(name="y", cosine=pytest.approx(1), max_relative_error=0, agreement=1),
        ),
        passed=True,
        drop_interval=(0, 0),
    )
    assert report.settled
    assert [np.load(path).shape for path in outputs] == [(16, 1, 3)]


def test_a_perturbed_artifact_fails_the_gate_unless_so_much_is_allowed(dense, on_random, tmp_path):
    artifact = copy_of(dense, tmp_path / "a", rescale([[1], [1], [-1]]))
    report, _ = judged(on_random, artifact, tmp_path / "a")
    assert not report.passed
    assert report.drop == report.baseline - report.value > 0.005
    (fidelity,) = report.per_output
    assert fidelity.cosine == pytest.approx(report.value)
    assert fidelity.max_relative_error > 0.1
    assert fidelity.agreement < 1
    assert judged(on_random, artifact, tmp_path / "a", max_drop=report.drop)[0].passed


def test_an_artifact_that_gives_no_numbers_fails_and_can_be_told(dense, on_random, tmp_path):
    artifact = copy_of(dense, tmp_path / "a", rescale([[1], [1], [NAN]]))
    report, _ = judged(on_random, artifact, tmp_path / "a")
    assert not report.passed
    assert report.value == 0
    decoded = json.loads(msgspec.json.encode(report))
    assert decoded["per_output"][0]["max_relative_error"] > 1e300


def evaluation(source, folder, labels, count=20):
    """Evaluation data: random samples, and what ``labels`` makes of the source's outputs."""
    rng = np.random.default_rng(3)
    arrays = {
        spec.name: rng.standard_normal((count, *spec.shape[1:])).astype(spec.dtype)
        for spec in source.inputs
    }
    plain = [
        models.run(source.graph, {name: array[i : i + 1] for name, array in arrays.items()})
        for i in range(count)
    ]
    if labels is not None:
        arrays["y"] = labels(np.concatenate([outputs[source.outputs[0].name] for outputs in plain]))
    np.savez(folder / "data.npz", **arrays)
    return datasets.load(folder / "data.npz", source.inputs)


def test_labels_decide(dense, tmp_path):
    data = evaluation(dense, tmp_path, lambda outputs: outputs.argmax(axis=1))
    made = validation.reference(dense, data, None, tmp_path)
    assert (made.data, made.sample_count) == ("evaluation", 20)
    artifact = copy_of(dense, tmp_path / "a", rescale(-1))
    report, _ = judged(made, artifact, tmp_path / "a", "top1")
    assert (report.baseline, report.value, report.drop, report.passed) == (1, 0, 1, False)


def test_a_larger_error_is_a_drop(dense, on_random, tmp_path):
    made = structs.replace(on_random, labels=np.load(on_random.outputs[0]))
    report, _ = judged(made, copy_of(dense, tmp_path / "a", rescale(2)), tmp_path / "a", "mae")
    assert report.baseline == 0
    assert report.drop == report.value > 0.1
    assert not report.passed


def test_calibration_data_serve_where_no_others_are(dense, tmp_path):
    data = evaluation(dense, tmp_path, labels=None, count=3)
    made = validation.reference(dense, None, data, tmp_path)
    assert (made.data, made.sample_count, made.labels) == ("calibration", 3, None)
    outputs = np.load(made.outputs[0])
    assert outputs.shape == (3, 1, 3)
    for sample, got in zip(made.samples(), outputs, strict=True):
        expected = models.run(dense.graph, sample)["y"]
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
    artifact = copy_of(dense, tmp_path / "a")
    golden = validation.write_golden(made, artifact, made.outputs, FLOAT, tmp_path)
    assert golden.sample_count == 3, "no more than there are"


def measured(made, metric):
    """The metric of the source, and of an artifact that gives the same."""
    outputs = np.load(made.outputs[0], mmap_mode="r")
    return validation._measured(made, metric, outputs, outputs)


def raising(_outputs, _labels):
    raise KeyError("no such class")


def mutating(outputs, _labels):
    outputs += 1
    return 1.0


@pytest.mark.parametrize(
    "function", [raising, mutating, lambda o, _: o, lambda *_: None, lambda *_: "good"]
)
def test_a_metric_that_fails_is_a_data_error(function, on_random):
    with pytest.raises(DataError) as caught:
        measured(on_random, Metric("own:metric", function))
    assert "own:metric" in caught.value.message


def test_a_metric_that_is_no_number_fails_the_attempt(on_random):
    with pytest.raises(ToolError, match="not a number"):
        measured(on_random, Metric("own:metric", lambda *_: NAN))


def test_labels_that_do_not_fit_are_a_data_error(on_random):
    made = structs.replace(on_random, labels=np.zeros((16, 7), np.int64))
    with pytest.raises(DataError, match=r"with labels of shape \[16, 7\]"):
        measured(made, METRICS["top1"])
    made = structs.replace(on_random, labels=np.full(16, 3))
    with pytest.raises(DataError, match=r"^labels run from 3 to 3, the model has 3 classes"):
        measured(made, METRICS["top1"])


def swap(graph):
    """Inputs and outputs in the other order."""
    for values in (graph.input, graph.output):
        first, second = list(values)
        del values[:]
        values.extend([second, first])


def test_inputs_and_outputs_are_matched_by_name(pair, tmp_path):
    made = validation.reference(pair, None, None, tmp_path)
    artifact = copy_of(pair, tmp_path / "a", swap)
    report, outputs = judged(made, artifact, tmp_path / "a")
    assert [f.name for f in report.per_output] == ["scores", "scaled"]
    assert [f.max_relative_error for f in report.per_output] == [0, 0]
    assert [np.load(path).shape for path in outputs] == [(16, 1, 3), (16, 1, 2, 2)]
    (golden_folder := tmp_path / "bundle").mkdir()
    golden = validation.write_golden(made, artifact, outputs, FLOAT, golden_folder)
    shapes = [np.load(golden_folder / path).shape for path in (*golden.inputs, *golden.outputs)]
    assert shapes == [(8, 1, 4), (8, 1, 2, 2), (8, 1, 3), (8, 1, 2, 2)]


# Golden vectors


def test_golden_vectors_reproduce(dense, on_random, tmp_path):
    artifact = copy_of(dense, tmp_path / "a", rescale([[1], [1], [1.001]]))
    _, outputs = judged(on_random, artifact, tmp_path / "a")
    golden = validation.write_golden(on_random, artifact, outputs, FLOAT, tmp_path)
    assert golden.sample_count == validation.GOLDEN_SAMPLES
    assert (golden.inputs, golden.outputs) == (("golden/input_0.npy",), ("golden/output_0.npy",))
    inputs, expected = (np.load(tmp_path / p) for p in (*golden.inputs, *golden.outputs))
    got = np.stack([models.run(tmp_path / "a" / "model.onnx", {"x": x})["y"] for x in inputs])
    (tolerance,) = golden.tolerances
    assert np.abs(got - expected).max() < tolerance
    assert 0 < tolerance < 0.1 * np.abs(expected).max()


@pytest.mark.parametrize(("elements", "count"), [(10, 8), (60_000, 4), (10**6, 2)])
def test_golden_vectors_stay_small(elements, count, on_random):
    """About a mebibyte in all, and two samples at least."""
    bound = bound_to(TensorSpec("t", (1, elements), "float32"))
    artifact = Artifact(
        path="", format=Format.LITERT, sha256="", size_bytes=0, inputs=(bound,), outputs=()
    )
    assert validation._golden_count(on_random, artifact) == count


STATIC = Quantization(mode=Mode.STATIC, weights="int8", activations="int8")
Y = bound_to(TensorSpec("y", (1, 3), "float32"))
STEPS = structs.replace(Y, quantization=AffineQuantization(0.5, 0))


@pytest.mark.parametrize(
    ("bound", "recipe", "noise", "expected"),
    [
        (Y, FLOAT, 0, 1e-4 * 10),
        (Y, structs.replace(FLOAT, accelerator="gpu"), 0, 3e-2 * 10),
        (Y, structs.replace(FLOAT, quantization=STATIC), 0, 3e-2 * 10),
        (Y, structs.replace(FLOAT, quantization=STATIC), 0.2, 6 * 0.2),
        (STEPS, structs.replace(FLOAT, quantization=STATIC), 0, 4 * 0.5),
    ],
)
def test_what_another_processor_may_differ_by(bound, recipe, noise, expected):
    values = np.array([[1, -10, 3.0]])
    assert validation._tolerance(bound, recipe, values + noise, values) == pytest.approx(expected)


def test_outputs_of_nothing_but_zeros_have_a_tolerance():
    zeros = np.zeros((2, 3), np.float32)
    assert validation._tolerance(Y, FLOAT, zeros, zeros) > 0


def test_infinite_outputs_that_agree_do_not_differ() -> None:
    """Masked logits are minus infinity, in the source and in the artifact alike."""
    a = np.array([1.0, -np.inf, 3.0])
    assert validation.largest_difference(a, a.copy()) == 0.0
    assert validation.largest_difference(a, np.array([1.5, -np.inf, 3.0])) == 0.5
    assert validation.largest_difference(a, np.array([1.0, 2.0, 3.0])) == np.inf
    assert validation.largest_difference(a, np.array([1.0, -np.inf, np.nan])) == np.inf


def test_without_data_pictures_are_made_of_pixels(tmp_path):
    """Else what the artifact is given would be rounded, and the source's input would not."""
    path = models.save(models.conv_net(), tmp_path / "net.onnx")
    picture = Picture(colours="rgb", scale=(0.5, 0.25, 2.0), bias=(-1.0, 3.0, 0.0))
    source = sources.load(path, tmp_path)
    made = validation.reference(source, None, None, tmp_path, {"x": picture})
    seen = np.stack([sample["x"] for sample in made.samples()])
    assert seen.dtype == np.float32
    scale, bias = (np.reshape(each, (1, 1, 3, 1, 1)) for each in (picture.scale, picture.bias))
    pixels = (seen - bias) / scale
    assert np.array_equal(pixels, np.rint(pixels))
    assert (pixels.min(), pixels.max()) == (0, 255)
    assert np.unique(pixels).size == 256


@pytest.mark.parametrize(
    ("passed", "interval", "count", "settled", "verdict"),
    [
        (True, (-0.01, 0.004), 100, True, "passed"),
        (True, (-0.01, 0.02), 100, False, "undecided"),
        (False, (0.006, 0.04), 100, True, "failed"),
        (False, (0.001, 0.04), 100, False, "failed"),
        (True, None, 100, True, "passed"),
        (True, None, 7, False, "undecided"),
    ],
)
def test_a_verdict_is_settled_when_the_whole_interval_is_on_its_side(
    passed, interval, count, settled, verdict
):
    report = ValidationReport(
        sample_count=count,
        data="evaluation",
        metric="top1",
        baseline=0.9,
        value=0.9,
        drop=0.0,
        max_drop=0.005,
        per_output=(),
        passed=passed,
        drop_interval=interval,
    )
    assert report.settled is settled
    assert report.verdict == verdict


@pytest.mark.parametrize(
    ("name", "baseline", "allowed"),
    [("top1", 0.9, 0.005), ("cosine", 1.0, 0.005), ("auc", 0.5, 0.005), ("mae", 50.0, 1.0)],
)
def test_what_may_be_lost_is_usual_for_the_metric(name, baseline, allowed):
    """An error has the unit of the output: 0.005 degrees are nothing, 0.005 of a radian much."""
    assert METRICS[name].usual(baseline) == pytest.approx(allowed)
