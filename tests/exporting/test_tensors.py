"""Names and tensors as an app's programmer sees them."""

from __future__ import annotations

import msgspec
import pytest

from edgekit.domain import AffineQuantization, Format, Interface, Picture, TensorBinding, TensorSpec
from edgekit.errors import BundleError
from edgekit.exporting.tensors import identifier, identifiers, signature
from tests.factories import make_manifest


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("x", "x"),
        ("serving_default_x:0", "serving_default_x_0"),
        ("inputImage", "input_image"),
        ("Größe", "groe"),
        ("a" * 99, "a" * 60),
        ("../../etc/passwd", "etc_passwd"),
        ('a"; system("rm")', "a_system_rm"),
        ("class", "class_"),
        ("None", "none_"),
        ("boolean", "boolean_"),
        ("time", "time"),
        ("42", "input_42"),
        ("図", "input"),
        ("", "input"),
    ],
)
def test_a_name_becomes_an_identifier(name: str, expected: str) -> None:
    assert identifier(name, "input") == expected


def test_identifiers_are_all_different() -> None:
    named = [("input", "a.b"), ("input", "a/b"), ("output", "a_b"), ("output", "a_b_2")]
    assert identifiers(named) == ["a_b", "a_b_2", "a_b_3", "a_b_2_2"]
    assert identifiers([("input", "int"), ("input", "Int")]) == ["int_", "int_2"]


def test_the_view_of_a_manifest() -> None:
    """Pictures by the source's name, what the artifact takes beside what the source has."""
    manifest = make_manifest(b"")
    source = TensorSpec("image:0", (1, 3, 4, 4), "float32")
    bound = TensorBinding(
        source=source,
        artifact=TensorSpec("serving", (1, 4, 4, 3), "int8"),
        permutation=(0, 2, 3, 1),
        quantization=AffineQuantization(0.5, -3),
    )
    picture = Picture(colours="rgb", scale=(1 / 255,))
    artifact = msgspec.structs.replace(manifest.artifact, inputs=(bound,))
    interface = Interface(pictures={"image:0": picture}, labels=("cat", "dog"))
    seen = signature(msgspec.structs.replace(manifest, artifact=artifact, interface=interface))
    (only,) = seen.inputs
    assert (only.name, only.identifier) == ("image:0", "image_0")
    assert (only.source, only.artifact, only.permutation) == (source, bound.artifact, (0, 2, 3, 1))
    assert (only.picture, only.takes_picture, only.quantization) == (
        picture,
        False,
        bound.quantization,
    )
    assert [tensor.name for tensor in seen.outputs] == ["y"]
    assert seen.labels == ("cat", "dog")


@pytest.mark.parametrize(
    ("permutation", "shape"),
    [((0, 2), (1, 4)), ((0, 0), (1, 1)), ((1, 0), (1, 4)), ((0,), (1, 4)), ((0, 1), (1, 5))],
)
def test_axes_that_make_no_sense(permutation: tuple[int, ...], shape: tuple[int, ...]) -> None:
    """No code is made of them: it would reach outside its memory."""
    manifest = make_manifest(b"")
    odd = TensorBinding(
        source=TensorSpec("x", (1, 4), "float32"),
        artifact=TensorSpec("x", shape, "float32"),
        permutation=permutation,
    )
    artifact = msgspec.structs.replace(manifest.artifact, inputs=(odd,))
    with pytest.raises(BundleError, match="as the axes of a tensor"):
        signature(msgspec.structs.replace(manifest, artifact=artifact))


def test_an_artifact_that_takes_pictures_itself() -> None:
    manifest = make_manifest(b"")
    picture = Picture(colours="gray")
    bound = msgspec.structs.replace(manifest.artifact.inputs[0], image=picture)
    artifact = msgspec.structs.replace(manifest.artifact, inputs=(bound,))
    with pytest.raises(BundleError, match="pictures as what onnxruntime takes"):
        signature(msgspec.structs.replace(manifest, artifact=artifact))
    artifact = msgspec.structs.replace(artifact, format=Format.COREML)
    (only,) = signature(msgspec.structs.replace(manifest, artifact=artifact)).inputs
    assert (only.picture, only.takes_picture) == (picture, True)
