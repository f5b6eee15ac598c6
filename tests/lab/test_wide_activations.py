"""16-bit activations on networks of the field's kind; LiteRT's kernels for them take their time."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekit import pipeline, profiles
from edgekit.domain import Format, Goal, Manifest
from edgekit.pipeline import Request
from edgekit.planning import Choice
from tests import audio
from tests.paths import ASSETS, DATA, needs_assets

pytestmark = pytest.mark.lab
KEYWORDS = ASSETS / "models" / "mlperf_kws_dscnn" / "kws_ref_model_true_fp32.tflite"


def built(files: tuple[Path, Path, Path], format_: Format, folder: Path) -> Manifest:
    model, calibration, evaluation = files
    request = Request(
        model=model,
        profile=profiles.find("raspberry-pi-5"),
        goal=Goal(max_accuracy_drop=0.01),
        choice=Choice(formats=(format_,), precisions=("int8-static-int16",)),
        calibration=calibration,
        evaluation=evaluation,
    )
    out = folder / "made.edgekit"
    return pipeline.build(request, out, cache=folder / "cache").manifest


@needs_assets
@pytest.mark.parametrize("format_", [Format.LITERT, Format.ONNXRUNTIME])
def test_a_keyword_model_loses_nothing(format_: Format, tmp_path: Path) -> None:
    """By the ranges of LiteRT's own tool it is right about one word in twelve."""
    data = DATA / "speech_mfcc.calib.npz", DATA / "speech_mfcc.eval.npz"
    manifest = built((KEYWORDS, *data), format_, tmp_path)
    assert manifest.validation.drop <= 0
    assert manifest.recipe.raised == {}


def test_a_front_end_needs_more_than_sixteen_bits(tmp_path: Path) -> None:
    """Power spans a range of a million: what makes it stays in float, all else is in integers."""
    manifest = built(audio.save(tmp_path), Format.ONNXRUNTIME, tmp_path)
    naive, repaired = manifest.attempts
    assert naive.validation is not None
    assert 0.05 < naive.validation.drop < 0.5
    assert repaired.validation is not None
    assert repaired.validation.drop <= 0.01
    assert all(name.startswith("front.") for name in manifest.recipe.float_nodes)
