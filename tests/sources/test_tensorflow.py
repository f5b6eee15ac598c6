"""Keras, SavedModel and TFLite files: each gives what its own framework gives, or is refused.

``load`` itself compares them; these tests hold what it says, and that it would notice.
"""

import shutil

import numpy as np
import onnx
import pytest

from edgekit import sources
from edgekit.domain import Format, Recipe
from edgekit.errors import ModelError
from edgekit.formats import FORMATS, Job
from edgekit.sources import tensorflow
from edgekit.sources.tensorflow_graph import Converted

pytestmark = pytest.mark.xdist_group("tensorflow")
F32 = "float32"


def loaded(name, models, folder, **how):
    return sources.load(models / name, folder, **how)


def specs(tensors):
    return [(spec.name, spec.shape, spec.dtype) for spec in tensors]


@pytest.mark.parametrize(
    ("name", "inputs", "framework"),
    [
        ("gru.keras", [("steps", (1, 12, 6), F32)], "Keras 3"),
        ("conv1d.keras", [("steps", (1, 12, 6), F32)], "Keras 3"),
        ("transformer.keras", [("tokens", (1, 12, 8), F32)], "Keras 3"),
        ("normalized.keras", [("steps", (1, 12, 6), F32)], "Keras 3"),
        ("conv.tflite", None, "TFLite"),
        ("lstm.tflite", None, "TFLite"),
        ("saved", [("x", (1, 4), F32)], "TensorFlow 2"),
    ],
)
def test_it_agrees_with_its_own_framework(name, inputs, framework, tensorflow_models, tmp_path):
    source = loaded(name, tensorflow_models, tmp_path)
    (said,) = [note for note in source.notes if note.startswith("agrees with ")]
    assert framework in said
    assert inputs is None or specs(source.inputs) == inputs
    assert source.channels_first == ()
    assert source.original.path.exists()


@pytest.mark.parametrize(
    ("name", "framework"), [("two_by_two.keras", "Keras 3"), ("two_by_two.h5", "tf-keras")]
)
def test_inputs_and_outputs_keep_their_order(name, framework, tensorflow_models, tmp_path):
    source = loaded(name, tensorflow_models, tmp_path)
    assert [spec.name for spec in source.inputs] == ["z_image", "a_vector"]
    assert [(spec.name, spec.shape) for spec in source.outputs] == [("zz", (1, 3)), ("aa", (1, 2))]
    assert any(framework in note for note in source.notes)


def test_a_quantized_tflite_keeps_its_bytes(tensorflow_models, tmp_path):
    source = loaded("lstm_int8.tflite", tensorflow_models, tmp_path)
    assert {spec.dtype for spec in (*source.inputs, *source.outputs)} == {"int8"}
    artifact = FORMATS[Format.LITERT].make(
        Job(source=source, recipe=Recipe(format=Format.LITERT, runtime="litert"), folder=tmp_path)
    )
    original = (tensorflow_models / "lstm_int8.tflite").read_bytes()
    assert (tmp_path / artifact.path).read_bytes() == original
    assert artifact.notes == ("by the .tflite file itself",)
    assert [bound.quantization for bound in (*artifact.inputs, *artifact.outputs)] == [None, None]


def test_tensorflows_own_converter_is_the_first_way_to_litert(tensorflow_models, tmp_path):
    source = loaded("normalized.keras", tensorflow_models, tmp_path)
    artifact = FORMATS[Format.LITERT].make(
        Job(source=source, recipe=Recipe(format=Format.LITERT, runtime="litert"), folder=tmp_path)
    )
    assert artifact.notes == ("by TFLiteConverter",)
    assert [bound.source for bound in artifact.inputs] == list(source.inputs)


def test_an_open_axis_needs_a_shape(tensorflow_models, tmp_path):
    with pytest.raises(ModelError, match="dynamic axes") as caught:
        loaded("open.keras", tensorflow_models, tmp_path)
    assert caught.value.hint == "fix them with --shape steps=1,N,6"
    other = tmp_path / "other"
    other.mkdir()
    source = loaded("open.keras", tensorflow_models, other, shapes={"steps": (1, 9, 6)})
    assert specs(source.inputs) == [("steps", (1, 9, 6), F32)]


def test_a_folder_has_one_digest_whatever_else_lies_in_it(tensorflow_models, tmp_path):
    first, second, changed = (tmp_path / name for name in ("first", "second", "changed"))
    for folder in (first, second, changed):
        folder.mkdir()
    copy = shutil.copytree(tensorflow_models / "saved", tmp_path / "copy")
    (copy / "notes.txt").write_text("not the model's")
    digests = [
        tensorflow._digest(tensorflow._copied("saved_model", path, folder))
        for path, folder in ((tensorflow_models / "saved", first), (copy, second))
    ]
    weights = copy / "variables" / "variables.data-00000-of-00001"
    raw = bytearray(weights.read_bytes())
    raw[0] ^= 1
    weights.write_bytes(raw)
    digests.append(tensorflow._digest(tensorflow._copied("saved_model", copy, changed)))
    assert digests[0] == digests[1] != digests[2]


def _converted(folder, got, allowed):
    """A conversion to the identity, which the framework says is ``got``."""
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", ["x"], ["y"])],
        "g",
        [value("x", 1, [1, 4])],
        [value("y", 1, [1, 4])],
    )
    model = onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8
    )
    onnx.save(model, folder / "graph.onnx")
    np.savez(folder / "probe.given.npz", got)
    return Converted(
        graph=folder / "graph.onnx",
        inputs=(sources.model.TensorSpec("x", (1, 4), F32),),
        probe=folder / "probe.given.npz",
        allowed=(allowed,),
        framework="the framework",
    )


@pytest.mark.parametrize("off", [0.0, 0.9e-4, 1.1e-4, np.nan])
def test_a_conversion_that_gives_something_else_is_refused(off, tmp_path):
    x = sources.random_feeds((sources.model.TensorSpec("x", (1, 4), F32),))["x"]
    got = x.copy()
    got[0, 2] += np.float32(off)
    converted = _converted(tmp_path, got, 1e-4)
    if off < 1e-4:
        source = tensorflow._proven(converted, tmp_path, {})
        with np.load(source.probe) as probe:
            assert np.array_equal(probe["arr_0"], got)
        return
    with pytest.raises(ModelError, match="gives something else than the framework"):
        tensorflow._proven(converted, tmp_path, {})


def test_nothing_but_nan_cannot_be_compared(tmp_path):
    nothing = np.full((1, 4), np.nan, np.float32)
    with pytest.raises(ModelError, match="gives nothing but NaN"):
        tensorflow._compared(nothing, nothing, 1e-4, "the framework")
