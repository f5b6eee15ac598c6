"""The artifact against the source, on the host: fidelity of every output, and the metric.

Samples stream through files: memory does not grow with their number. The artifact runs
in a process of its own, on the runtime of the same kind that the device has.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from edgekit import paired
from edgekit.datasets import Dataset, Sample
from edgekit.domain import (
    CPU,
    FEWEST_TELLING,
    Artifact,
    Golden,
    OutputFidelity,
    Picture,
    Recipe,
    TensorBinding,
    TensorSpec,
    ValidationReport,
)
from edgekit.errors import DataError, EdgekitError, ToolError, UsageError
from edgekit.formats import binding, host
from edgekit.sources import SourceModel, random_feeds
from edgekit.sources.difference import largest_difference, largest_finite

RANDOM_SAMPLES = 16
GOLDEN_SAMPLES = 8
_GOLDEN_BYTES = 1024 * 1024
_FEWEST_GOLDEN = 2
Array = NDArray[Any]

_TOLERANCE = {"float32": 1e-4, "float16": 1e-2}
_QUANTIZED_TOLERANCE = 3e-2
_ACCELERATED_TOLERANCE = 3e-2
"""Of an output's largest value: what another processor may differ by in the same arithmetic."""

_NOISE_FACTOR = 6.0
_STEPS = 4


class Reference(Struct, frozen=True, kw_only=True):
    """The source's outputs on the data that decide.

    Attributes:
        pictures: inputs that are pictures; where there are no data, they are made of pixels.
        outputs: one ``.npy`` per output of the source, ``[samples, *shape]``.
        data: ``evaluation``, ``calibration`` or ``random``.
    """

    source: SourceModel
    dataset: Dataset | None
    data: str
    sample_count: int
    outputs: tuple[Path, ...]
    labels: Array | None
    pictures: Mapping[str, Picture] = {}

    def samples(self) -> Iterator[Sample]:
        """The inputs, a sample at a time."""
        if self.dataset is not None:
            return self.dataset.samples()
        seeds = range(self.sample_count)
        return (self._random(seed) for seed in seeds)

    def _random(self, seed: int) -> Sample:
        made = random_feeds(self.source.inputs, seed)
        bound = {spec.name: spec for spec in self.source.inputs}
        shown = {
            name: random_picture(bound[name], picture, seed)
            for name, picture in self.pictures.items()
        }
        return made | shown


class Metric(Struct, frozen=True):
    """A figure of merit: of an output, ``[samples, *shape]``, and the labels.

    Attributes:
        against_source: the source's outputs are the truth, whatever the labels say.
        scores: what each sample contributes, ``[samples]``, where the figure is their mean.
        usual_drop: how much worse it may get, where nobody says.
        relative: that is a share of the original's value: its unit is the output's own.
    """

    name: str
    measure: Callable[[Array, Array], float]
    higher_is_better: bool = True
    against_source: bool = False
    scores: Callable[[Array, Array], Array] | None = None
    usual_drop: float = 0.005
    relative: bool = False

    def usual(self, baseline: float) -> float:
        """How much worse than the original's value it may get, in its own unit."""
        return self.usual_drop * abs(baseline) if self.relative else self.usual_drop


def reference(
    source: SourceModel,
    evaluation: Dataset | None,
    calibration: Dataset | None,
    folder: Path,
    pictures: Mapping[str, Picture] | None = None,
) -> Reference:
    """Run the source on the evaluation data, else on the calibration data, else on random ones.

    Args:
        source: the user's model.
        evaluation: samples that decide, labelled or not.
        calibration: what serves where there are none.
        folder: takes the outputs.
        pictures: the inputs that are pictures, by name.

    Raises:
        DataError: labels that no output can be compared with.
    """
    dataset = evaluation or calibration
    data = "evaluation" if evaluation else "calibration" if calibration else "random"
    made = Reference(
        source=source,
        dataset=dataset,
        data=data,
        sample_count=dataset.count if dataset else RANDOM_SAMPLES,
        outputs=tuple(folder / f"output_{i}.npy" for i in range(len(source.outputs))),
        labels=evaluation.labels() if evaluation else None,
        pictures=pictures or {},
    )
    _run(made, source.graph, "onnxruntime", binding.identical(source.inputs), folder)
    return made


def validate(
    made: Reference,
    artifact: Artifact,
    folder: Path,
    runtime: str,
    *,
    metric: Metric,
    max_drop: float | None,
    infer: host.Infer = host.infer,
) -> tuple[ValidationReport, tuple[Path, ...]]:
    """Run the artifact on the reference's samples and compare.

    Args:
        made: the source's outputs.
        artifact: with ``path`` inside ``folder``.
        folder: holds the artifact; its outputs are written into ``folder/outputs``.
        runtime: the name of the host runtime.
        metric: decides; of the first output.
        max_drop: how much worse the metric may get; ``None``: as much as is usual for it.
        infer: what runs the artifact; see ``FormatSpec``.

    Returns:
        The report, and the artifact's outputs in its own layout and types.

    Raises:
        ToolError: the artifact does not run; ToolCrashed when it ended its process.
    """
    scratch = folder / "outputs"
    scratch.mkdir(exist_ok=True)
    names = _run(made, folder / artifact.path, runtime, artifact.inputs, scratch, infer)
    paths = tuple(scratch / f"output_{names.index(b.artifact.name)}.npy" for b in artifact.outputs)
    fidelity = tuple(
        _fidelity(b, np.load(expected, mmap_mode="r"), np.load(got, mmap_mode="r"))
        for b, expected, got in zip(artifact.outputs, made.outputs, paths, strict=True)
    )
    first = np.load(made.outputs[0], mmap_mode="r")
    got = binding.to_source(np.load(paths[0], mmap_mode="r"), artifact.outputs[0])
    baseline, value = _measured(made, metric, first, got)
    allowed = metric.usual(baseline) if max_drop is None else max_drop
    drop = baseline - value if metric.higher_is_better else value - baseline
    report = ValidationReport(
        sample_count=made.sample_count,
        data=made.data,
        metric=metric.name,
        baseline=baseline,
        value=value,
        drop=drop,
        max_drop=allowed,
        per_output=fidelity,
        drop_interval=_interval(made, metric, first, got),
        # The margin is for the rounding of a difference: 0.928 - 0.918 is not exactly 0.01.
        passed=bool(drop <= allowed + 1e-9),
    )
    return report, paths


def random_picture(spec: TensorSpec, picture: Picture, seed: int) -> Array:
    """What a user makes of random pixels, of the input's shape."""
    pixels = np.random.default_rng(seed).integers(0, 256, spec.shape)
    channels_first = spec.shape[1] == picture.channels
    shape = (1, -1, 1, 1) if channels_first else (-1,)
    scale, bias = (np.asarray(each).reshape(shape) for each in (picture.scale, picture.bias))
    made: Array = (scale * pixels + bias).astype(spec.dtype)
    return made


def choose_metric(name: str | None, labels: Array | None) -> Metric:
    """The metric asked for; by default top-1 for class labels, cosine where there are none.

    Raises:
        UsageError: unknown, not importable, or in need of labels that are not there.
    """
    if name is None:
        if labels is None:
            return METRICS["cosine"]
        return METRICS["top1" if labels.dtype.kind in "iu" else "mae"]
    if ":" in name:
        return _imported(name)
    if name not in METRICS:
        known = ", ".join((*METRICS, "module:function"))
        raise UsageError(f"no metric is named {name!r}", f"known: {known}")
    if labels is None and name != "cosine":
        raise UsageError(
            f"the metric {name} needs labels",
            "give --evaluate a file with y, or use --metric cosine",
        )
    return METRICS[name]


def write_golden(
    made: Reference, artifact: Artifact, outputs: Iterable[Path], recipe: Recipe, folder: Path
) -> Golden:
    """Write the first samples and the artifact's outputs for them as golden vectors.

    Args:
        made: where the samples are from.
        artifact: gives layouts, types and quantization.
        outputs: the artifact's outputs, as ``validate`` returned them.
        recipe: its precision decides how much another processor may differ.
        folder: the bundle's; ``golden/*.npy`` go into it.
    """
    (folder / "golden").mkdir()
    count = _golden_count(made, artifact)
    chosen = list(islice(made.samples(), count))
    inputs, kept, tolerances = [], [], []
    for index, bound in enumerate(artifact.inputs):
        stack = np.stack([binding.to_artifact(s[bound.source.name], bound) for s in chosen])
        inputs.append(f"golden/input_{index}.npy")
        np.save(folder / inputs[-1], stack)
    for index, (bound, path) in enumerate(zip(artifact.outputs, outputs, strict=True)):
        got = np.load(path, mmap_mode="r")[:count]
        expected = np.load(made.outputs[index], mmap_mode="r")[:count]
        kept.append(f"golden/output_{index}.npy")
        np.save(folder / kept[-1], np.ascontiguousarray(got))
        tolerances.append(_tolerance(bound, recipe, binding.to_source(got, bound), expected))
    return Golden(
        sample_count=count,
        inputs=tuple(inputs),
        outputs=tuple(kept),
        tolerances=tuple(tolerances),
    )


def _run(
    made: Reference,
    model: Path,
    runtime: str,
    inputs: Iterable[TensorBinding],
    folder: Path,
    infer: host.Infer = host.infer,
) -> list[str]:
    """Stream the samples through a model; the names of its outputs in the order of their files."""
    bound = list(inputs)
    paths = {b.artifact.name: folder / f"input_{i}.npy" for i, b in enumerate(bound)}
    _write_inputs(made, bound, list(paths.values()))
    described = infer(model, runtime, paths, folder)
    for path in paths.values():
        path.unlink()
    return [detail.name for detail in described.output_details]


def _write_inputs(made: Reference, bound: list[TensorBinding], paths: list[Path]) -> None:
    files = [
        np.lib.format.open_memmap(
            path, "w+", np.dtype(b.artifact.dtype), (made.sample_count, *b.artifact.shape)
        )
        for b, path in zip(bound, paths, strict=True)
    ]
    for index, sample in enumerate(made.samples()):
        for b, file in zip(bound, files, strict=True):
            file[index] = binding.to_artifact(sample[b.source.name], b)


def _fidelity(bound: TensorBinding, expected: Array, got: Array) -> OutputFidelity:
    cosines, agreed, worst, scale = [], 0, 0.0, 0.0
    for wanted, stored in zip(expected, got, strict=True):
        a = np.asarray(wanted, np.float64).ravel()
        b = np.asarray(binding.to_source(stored, bound), np.float64).ravel()
        cosines.append(cosine(a, b))
        agreed += int(a.argmax() == b.argmax())
        worst = max(worst, largest_difference(a, b))
        scale = max(scale, largest_finite(a))
    return OutputFidelity(
        name=bound.source.name,
        cosine=float(np.mean(cosines)),
        # JSON knows no infinity.
        max_relative_error=min(worst / (scale or 1.0), sys.float_info.max),
        agreement=agreed / len(cosines),
    )


def cosine(a: Array, b: Array) -> float:
    """Cosine similarity of two vectors; 1 for two zero vectors, 0 when only one is, or on NaN."""
    norms = float(np.linalg.norm(a) * np.linalg.norm(b))
    if norms == 0:
        return 1.0 if not a.any() and not b.any() else 0.0
    value = float(a @ b) / norms
    return value if np.isfinite(value) else 0.0


def _measured(made: Reference, metric: Metric, source: Array, got: Array) -> tuple[float, float]:
    """The metric of the source and of the artifact."""
    labels = _truth(made, metric, source)
    try:
        baseline, value = float(metric.measure(source, labels)), float(metric.measure(got, labels))
    except EdgekitError:
        raise
    except Exception as error:
        raise DataError(
            f"the metric {metric.name} cannot compare outputs of shape {list(source.shape)} "
            f"with labels of shape {list(labels.shape)}: {error}"
        ) from error
    if not np.isfinite((baseline, value)).all():
        raise ToolError(f"the metric {metric.name} is not a number: {baseline}, {value}")
    return baseline, value


def _interval(
    made: Reference, metric: Metric, source: Array, got: Array
) -> tuple[float, float] | None:
    """Of the drop; see ``ValidationReport``."""
    if metric.scores is None or made.sample_count < FEWEST_TELLING:
        return None
    labels = _truth(made, metric, source)
    before, after = metric.scores(source, labels), metric.scores(got, labels)
    pair = (before, after) if metric.higher_is_better else (after, before)
    low, high = paired.interval(*pair)
    return (low, high) if np.isfinite((low, high)).all() else None


def _truth(made: Reference, metric: Metric, source: Array) -> Array:
    """Without labels the source is the truth."""
    return source if metric.against_source or made.labels is None else made.labels


def _top1(outputs: Array, labels: Array) -> float:
    return float(np.mean(_right(outputs, labels)))


def _right(outputs: Array, labels: Array) -> Array:
    scores = outputs.reshape(len(outputs), -1)
    if labels.max() >= scores.shape[1] or labels.min() < 0:
        raise DataError(
            f"labels run from {labels.min()} to {labels.max()}, "
            f"the model has {scores.shape[1]} classes"
        )
    return np.asarray(scores.argmax(axis=1) == labels.reshape(len(labels)))


def _mean_cosine(outputs: Array, labels: Array) -> float:
    return float(np.mean(_cosines(outputs, labels)))


def _cosines(outputs: Array, labels: Array) -> Array:
    pairs = zip(outputs, labels, strict=True)
    return np.array([cosine(np.float64(a).ravel(), np.float64(b).ravel()) for a, b in pairs])


def _mae(outputs: Array, labels: Array) -> float:
    return float(np.mean(_errors(outputs, labels)))


def _errors(outputs: Array, labels: Array) -> Array:
    """The mean of each sample."""
    # In float64: unsigned integers would wrap around.
    errors = np.abs(np.subtract(outputs.reshape(labels.shape), labels, dtype=np.float64))
    return np.asarray(errors.reshape(len(errors), -1).mean(axis=1))


def _auc(outputs: Array, labels: Array) -> float:
    """Area under the ROC curve by the Mann-Whitney statistic; ties count one half."""
    scores = outputs.reshape(len(outputs), -1)[:, -1]
    positive = labels.reshape(len(labels)).astype(bool)
    if positive.all() or not positive.any():
        raise DataError("auc needs labels of both classes")
    if np.isnan(scores).any():
        return float("nan")  # sorted as the largest, they would count as sure positives
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    n = int(positive.sum())
    return float((ranks[positive].sum() - n * (n + 1) / 2) / (n * (len(scores) - n)))


METRICS = {
    metric.name: metric
    for metric in (
        Metric("top1", _top1, scores=_right),
        Metric("cosine", _mean_cosine, against_source=True, scores=_cosines),
        Metric("mae", _mae, higher_is_better=False, scores=_errors, usual_drop=0.02, relative=True),
        Metric("auc", _auc),
    )
}


def _imported(name: str) -> Metric:
    """The user's own function ``(outputs, labels) -> float``, higher is better."""
    module, _, function = name.partition(":")
    sys.path.insert(0, str(Path.cwd()))
    try:
        measure = getattr(importlib.import_module(module), function)
    except Exception as error:
        raise UsageError(f"the metric {name} cannot be imported: {error}") from error
    finally:
        sys.path.pop(0)
    if not callable(measure):
        raise UsageError(f"the metric {name} is no function (outputs, labels) -> float")
    return Metric(name, measure)


def _golden_count(made: Reference, artifact: Artifact) -> int:
    """Up to eight samples, fewer when they are large, at least two."""
    tensors = [b.artifact for b in (*artifact.inputs, *artifact.outputs)]
    size = sum(spec.elements * np.dtype(spec.dtype).itemsize for spec in tensors)
    fitting = min(GOLDEN_SAMPLES, _GOLDEN_BYTES // max(size, 1))
    return min(max(fitting, _FEWEST_GOLDEN), made.sample_count)


def _tolerance(bound: TensorBinding, recipe: Recipe, got: Array, expected: Array) -> float:
    """What a right device may differ by: rounding of its arithmetic, never less than a few steps.

    An artifact that lies some way off its source by quantization noise may land as far
    off on the other side on a processor that rounds otherwise. The noise is taken as the
    median distance: values that calibration clips are far off, and equally so everywhere.
    """
    share = _TOLERANCE.get(recipe.precision, _QUANTIZED_TOLERANCE)
    if recipe.accelerator != CPU:
        share = max(share, _ACCELERATED_TOLERANCE)
    scale = largest_finite(expected) or 1.0
    finite = np.isfinite(expected) & np.isfinite(got)
    differences = np.abs(got[finite].astype(np.float64) - expected[finite])
    noise = float(np.median(differences)) if differences.size else 0.0
    step = float(binding.quantized(expected.dtype))
    if bound.quantization:
        step = bound.quantization.scale
    return max(share * scale, _NOISE_FACTOR * noise, _STEPS * step)
