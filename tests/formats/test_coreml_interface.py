"""Pictures as inputs, and labels of classes, in Core ML packages: evaluated, and read as saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgekit import mil, sources
from edgekit.domain import Artifact, Interface, Picture, TensorSpec
from edgekit.errors import UsageError
from edgekit.formats import binding, coreml, coreml_interface
from edgekit.formats.coreml_package import MODEL
from tests import models

ct = pytest.importorskip("coremltools")

LABELS = ("cat", "dog", "a bird", "Käfer", "5")
PIXELS = np.random.default_rng(3).integers(0, 256, (9, 9, 3), np.uint8)


def gray_net() -> onnx.ModelProto:
    return models.model(
        [models.node("Conv", ["x", "w"], ["y"], "conv")],
        [models.tensor("x", [1, 1, 9, 9])],
        [models.tensor("y", [1, 2, 7, 7])],
        {"w": models.weights(2, 1, 3, 3)},
    )


def made(
    model: onnx.ModelProto, folder: Path, interface: Interface
) -> tuple[Path, Artifact, sources.SourceModel]:
    path = models.save(model, folder / "net.onnx")
    source = sources.load(path, folder)
    package = folder / "model.mlpackage"
    # In this process: loading the tools takes longer than what they do here.
    form = coreml.Form(quantization=None, release=16, interface=interface)
    described = coreml.write(source, package, form)
    return package, coreml.record(source, package, described, interface), source


def saved(package: Path) -> Any:
    """The model as coremltools reads it."""
    return ct.utils.load_spec(str(package / MODEL))


@pytest.mark.parametrize(
    ("net", "size", "picture", "space"),
    [
        (models.conv_net, 8, Picture(colours="rgb", scale=(1 / 255,)), "RGB"),
        (
            models.conv_net,
            8,
            Picture(colours="bgr", scale=(0.017, 0.018, 0.019), bias=(-1.8, -2.0, -2.1)),
            "BGR",
        ),
        (
            models.nhwc_net,
            9,
            Picture(colours="rgb", scale=(0.1, 0.2, 0.3), bias=(-1.0, 0.5, 2.0)),
            "RGB",
        ),
        (gray_net, 9, Picture(colours="gray", scale=(1 / 127.5,), bias=(-1.0,)), "GRAYSCALE"),
    ],
)
def test_a_picture_gives_what_the_user_makes_of_it(
    tmp_path: Path, net: Any, size: int, picture: Picture, space: str
) -> None:
    package, artifact, source = made(net(), tmp_path, Interface(pictures={"x": picture}))
    pixels = PIXELS[:size, :size]
    pixels = pixels[..., 0] if space == "GRAYSCALE" else pixels
    # By hand, as an application would: the colours in the model's order, then its layout.
    real = pixels[..., ::-1] if space == "BGR" else pixels.reshape(size, size, -1)
    real = np.array(picture.scale) * real + np.array(picture.bias)
    real = real[None] if net is models.nhwc_net else real.transpose(2, 0, 1)[None]
    wanted = models.run(tmp_path / "net.onnx", {"x": real.astype(np.float32)})["y"]
    got = mil.evaluate(mil.load(package), {"x": pixels})["y"]
    assert got.shape == wanted.shape
    assert np.abs(got - wanted).max() < 1e-4 * np.abs(wanted).max()
    # What the reference's samples are made into is the picture.
    (bound,) = artifact.inputs
    assert bound.artifact == TensorSpec("x", pixels.shape, "uint8")
    assert bound.source == source.inputs[0]
    assert np.array_equal(binding.to_artifact(real.astype(np.float32), bound), pixels)
    image = saved(package).description.input[0].type.imageType
    assert (image.width, image.height) == (size, size)
    assert image.ColorSpace.Name(image.colorSpace) == space


def test_labels_name_the_likeliest_class(tmp_path: Path) -> None:
    package, artifact, _ = made(models.conv_net(), tmp_path, Interface(labels=LABELS))
    x = models.weights(1, 3, 8, 8)
    wanted = models.run(tmp_path / "net.onnx", {"x": x})["y"]
    program = mil.load(package)
    got = mil.evaluate(program, {"x": x})
    assert program.classes == LABELS
    assert str(got["classLabel"]) == LABELS[int(wanted.argmax())]
    assert np.allclose(got["classLabel_probs"], wanted[0], rtol=1e-4)
    assert [b.artifact.name for b in artifact.outputs] == ["classLabel_probs"]
    assert artifact.outputs[0].artifact.shape == (1, 5)


def test_labels_are_written_as_coremltools_writes_them(tmp_path: Path) -> None:
    from coremltools.converters.mil import Builder

    @Builder.program(input_specs=[Builder.TensorSpec((1, 5))], opset_version=ct.target.iOS16)
    def program(y: Any) -> Any:
        return Builder.softmax(x=y, axis=1)

    theirs = ct.convert(
        program,
        convert_to="mlprogram",
        classifier_config=ct.ClassifierConfig(list(LABELS)),
        minimum_deployment_target=ct.target.iOS16,
        skip_model_load=True,
    ).get_spec()
    package, _, _ = made(models.conv_net(), tmp_path, Interface(labels=LABELS))
    ours = saved(package)
    for one in ("predictedFeatureName", "predictedProbabilitiesName"):
        assert getattr(ours.description, one) == getattr(theirs.description, one)
    assert list(ours.description.output) == list(theirs.description.output)
    last = [_operations(spec)[-1] for spec in (ours, theirs)]
    assert [op.type for op in last] == ["classify", "classify"]
    assert last[0].inputs["classes"] == last[1].inputs["classes"]
    assert list(last[0].outputs) == list(last[1].outputs)


def _operations(spec: Any) -> Any:
    function = spec.mlProgram.functions["main"]
    return function.block_specializations[function.opset].operations


def test_the_same_interface_gives_the_same_bytes(tmp_path: Path) -> None:
    interface = Interface(pictures={"x": Picture(colours="rgb")}, labels=LABELS)
    digests = set()
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        digests.add(made(models.conv_net(), tmp_path / name, interface)[1].sha256)
    assert len(digests) == 1


Y = TensorSpec("y", (1, 5), "float32")


def test_a_tensor_that_is_called_as_the_label_is() -> None:
    label = TensorSpec("classLabel", (1, 8), "float32")
    with pytest.raises(UsageError, match="'classLabel' is a tensor of the model"):
        coreml_interface.check((label,), (Y,))
