"""A .tflite file becomes a graph that gives what TFLite gives, or is refused."""

import numpy as np
import pytest

from edgekit import inspection, sources
from tests.paths import ASSETS

pytestmark = pytest.mark.xdist_group("tensorflow")
QUICK = ("kws_ref_model_float32", "kws_ref_model_true_fp32", "trained_lstm_int8", "vww_96_int8")
"""int8 weights under float activations, a flattened dense layer, states, and static int8."""


def published():
    for path in sorted((ASSETS / "models").glob("*/*.tflite")):
        marks = () if path.stem in QUICK else pytest.mark.lab
        yield pytest.param(path, id=path.stem, marks=marks)


@pytest.mark.parametrize("path", published())
def test_a_published_file_agrees_with_its_own_framework(path, tmp_path):
    source = sources.load(path, tmp_path)
    assert (source.origin, source.name) == (path.resolve(), path.stem)
    assert any("agrees with TensorFlow" in note for note in source.notes)
    with np.load(source.probe) as probe:
        shapes = [probe[name].shape for name in probe.files]
    assert shapes == [spec.shape for spec in source.outputs]
    # Whatever its name says, this one has int8 weights.
    stored = path.stem == "kws_ref_model_float32"
    assert inspection.inspect(source).quantized == (stored or source.inputs[0].dtype == "int8")
