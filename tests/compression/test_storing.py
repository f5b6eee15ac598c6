"""The stage in the pipeline: bundles with weights in few bits, stored as they were chosen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgekit import datasets, pipeline, profiles, sources
from edgekit.compression import storing
from edgekit.compression.activations import values
from edgekit.domain import Format, Goal, Granularity, Mode, Quantization, Recipe
from edgekit.formats import FORMATS, Job
from edgekit.pipeline import Request
from edgekit.planning import Choice
from edgekit.validation import METRICS, reference, validate
from tests.paths import CALIBRATION, DIGITS_MODEL, EVALUATION

INT4 = Quantization(mode=Mode.WEIGHT_ONLY, weights="int4", activations="float32")
TABLES = Quantization(mode=Mode.PALETTIZED, weights="lut4", activations="float16")
BLOCKS = Quantization(
    mode=Mode.WEIGHT_ONLY, weights="int4", activations="float16", granularity=Granularity.PER_BLOCK
)


def test_a_bundle_says_what_rounding_brought(tmp_path: Path) -> None:
    request = Request(
        model=DIGITS_MODEL,
        profile=profiles.find("raspberry-pi-5"),
        goal=Goal(max_accuracy_drop=0.03),
        choice=Choice(formats=(Format.LITERT,), precisions=("int4-weight-only",)),
        calibration=CALIBRATION,
        evaluation=EVALUATION,
    )
    cache = tmp_path / "cache"
    manifest = pipeline.build(request, tmp_path / "out.edgekit", cache=cache).manifest
    assert manifest.validation.passed
    assert manifest.rounded is not None
    assert manifest.rounded.used
    assert manifest.rounded.error < manifest.rounded.error_to_nearest
    assert len(list((cache / "rounded").iterdir())) == 1


@pytest.mark.parametrize(
    ("format_", "quantization"),
    [(Format.LITERT, INT4), (Format.COREML, TABLES), (Format.COREML, BLOCKS)],
)
def test_tools_store_what_was_chosen(
    format_: Format, quantization: Quantization, tmp_path: Path
) -> None:
    """The artifact gives what the rounded graph gives: the tool has nothing left to round."""
    source = sources.load(DIGITS_MODEL, tmp_path)
    calibration = datasets.load(CALIBRATION, source.inputs)
    stored, report = storing.rounded(source, format_, quantization, calibration, tmp_path)
    assert report.used
    spec = FORMATS[format_]
    recipe = Recipe(format=format_, runtime=spec.host_runtime, quantization=quantization)
    (tmp_path / "made").mkdir()
    artifact = spec.make(Job(source=stored, recipe=recipe, folder=tmp_path / "made"))
    chosen, _ = validate(
        reference(stored, None, calibration, tmp_path),
        artifact,
        tmp_path / "made",
        spec.host_runtime,
        infer=spec.infer,
        metric=METRICS["cosine"],
        max_drop=1,
    )
    # Half-precision arithmetic is what is left; rounding anew would cost a hundred times it.
    assert chosen.value > 0.99999
    assert report.error_to_nearest > 1e-4


@pytest.mark.parametrize(
    ("quantization", "expected"),
    [
        (None, False),
        (INT4, True),
        (TABLES, True),
        (BLOCKS, True),
        (Quantization(mode=Mode.DYNAMIC, weights="int4", activations="float32"), True),
        (Quantization(mode=Mode.WEIGHT_ONLY, weights="int8", activations="float32"), False),
        (Quantization(mode=Mode.STATIC, weights="int8", activations="int8"), False),
        (Quantization(mode=Mode.FLOAT16, weights="float16", activations="float32"), False),
    ],
)
def test_only_few_bits_are_worth_the_work(
    quantization: Quantization | None, expected: bool
) -> None:
    assert storing.rounds(quantization) is expected


def test_what_is_kept_is_found_again(tmp_path: Path) -> None:
    source = sources.load(DIGITS_MODEL, tmp_path)
    calibration = datasets.load(CALIBRATION, source.inputs)
    given = (source, Format.LITERT, INT4, calibration, tmp_path)
    first, report = storing.rounded(*given)
    again, told = storing.rounded(*given)
    assert again.graph == first.graph
    assert told == report
    names = [spec.name for spec in source.outputs]
    ((computed,),) = values(onnx.load(first.graph), names, [sources.random_feeds(source.inputs)])
    with np.load(first.probe) as probe:
        assert np.allclose(probe["arr_0"], computed)


def test_what_keeps_more_bits_is_fitted_and_not_rounded(tmp_path: Path) -> None:
    source = sources.load(DIGITS_MODEL, tmp_path)
    calibration = datasets.load(CALIBRATION, source.inputs)
    stored, report = storing.rounded(source, Format.LITERT, INT4, calibration, tmp_path, ("conv2",))
    assert [layer.name for layer in report.layers] == ["conv1", "dense"]
    values_of = {
        tensor.name: len(np.unique(numpy_helper.to_array(tensor)[0]))
        for tensor in onnx.load(stored.graph).graph.initializer
    }
    assert values_of["conv1"] <= 15 < values_of["conv2"]
