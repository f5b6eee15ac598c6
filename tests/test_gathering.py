"""Folders of samples: arrays and images, with classes by folder; the same file every time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgekit import datasets, gathering
from edgekit.domain import Interface, Picture, TensorSpec
from edgekit.errors import DataError, UsageError

FIRST = TensorSpec("x", (1, 3, 4, 6), "float32")
LAST = TensorSpec("x", (1, 4, 6, 3), "float32")
GRAY = TensorSpec("x", (1, 4, 6, 1), "float32")
PLAIN = Interface(pictures={"x": Picture(colours="rgb")})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "samples").mkdir()
    return tmp_path / "samples"


def rows(folder: Path, *inputs: TensorSpec, interface: Interface = PLAIN) -> datasets.Dataset:
    file = gathering.gathered(folder, inputs, interface, folder.parent / "cache")
    return datasets.load(file, inputs)


def picture(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)


def test_arrays_in_the_order_of_their_names(folder: Path) -> None:
    made = np.random.default_rng(0).normal(size=(3, *LAST.shape)).astype(np.float32)
    for name, array in zip("bca", made, strict=True):
        np.save(folder / f"{name}.npy", array[0])
    (folder / ".hidden").write_text("not a sample")
    found = [sample["x"] for sample in rows(folder, LAST).samples()]
    np.testing.assert_array_equal(found, made[[2, 0, 1]])


def test_several_inputs_come_by_name(folder: Path) -> None:
    inputs = (TensorSpec("a", (1, 2), "float32"), TensorSpec("b", (1, 3), "float32"))
    np.savez(folder / "0.npz", a=np.zeros(2), b=np.ones((1, 3)), other=1)
    ((sample),) = rows(folder, *inputs).samples()
    assert {name: array.tolist() for name, array in sample.items()} == {
        "a": [[0, 0]],
        "b": [[1, 1, 1]],
    }
    np.savez(folder / "1.npz", a=np.zeros(2))
    with pytest.raises(DataError, match=r"1\.npz has no array for the input 'b'"):
        rows(folder, *inputs)


@pytest.mark.parametrize("spec", [FIRST, LAST])
def test_an_image_becomes_what_the_input_takes(folder: Path, spec: TensorSpec) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (4, 6, 3))
    picture(folder / "0.png", pixels)
    how = Picture(colours="bgr", scale=(0.5, 1, 2), bias=(-1.0,))
    ((sample),) = rows(folder, spec, interface=Interface(pictures={"x": how})).samples()
    expected = pixels[:, :, ::-1] * np.array([0.5, 1, 2]) - 1
    got = sample["x"][0]
    np.testing.assert_allclose(got.transpose(1, 2, 0) if spec is FIRST else got, expected)


def test_an_image_of_another_size_is_resized_and_of_other_colours_converted(folder: Path) -> None:
    picture(folder / "0.png", np.full((40, 60, 3), 100))
    interface = Interface(pictures={"x": Picture(colours="gray")})
    ((sample),) = rows(folder, GRAY, interface=interface).samples()
    assert sample["x"].shape == GRAY.shape
    assert (sample["x"] == 100).all()


def test_a_picture_is_turned_as_the_camera_was_held(folder: Path) -> None:
    pixels = np.zeros((6, 4, 3), np.uint8)
    pixels[0] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter, clockwise
    Image.fromarray(pixels).save(folder / "0.png", exif=exif)
    ((sample),) = rows(folder, LAST).samples()
    assert (sample["x"][0, :, -1] == 255).all()
    assert (sample["x"][0, :, :-1] == 0).all()


def test_folders_name_the_classes(folder: Path) -> None:
    for name in ("dog/1.png", "cat/1.png", "cat/2.png"):
        picture(folder / name, np.zeros((4, 6, 3)))
    assert rows(folder, LAST).labels().tolist() == [0, 0, 1]
    labelled = Interface(pictures=PLAIN.pictures, labels=("dog", "bird", "cat"))
    assert rows(folder, LAST, interface=labelled).labels().tolist() == [2, 2, 0]
    few = Interface(pictures=PLAIN.pictures, labels=("dog", "bird"))
    with pytest.raises(DataError, match="cat is named like none of the labels: dog, bird"):
        rows(folder, LAST, interface=few)
    picture(folder / "astray.png", np.zeros((4, 6, 3)))
    with pytest.raises(DataError, match=r"astray\.png lies in no class's folder"):
        rows(folder, LAST)


def test_folders_named_by_numbers_are_these_classes(folder: Path) -> None:
    """Also where some are missing: there is no other order."""
    for name in ("3/1.png", "10/1.png", "3/2.png"):
        picture(folder / name, np.zeros((4, 6, 3)))
    assert sorted(rows(folder, LAST).labels().tolist()) == [3, 3, 10]


def test_an_npz_brings_its_label_and_may_call_a_single_input_x(folder: Path) -> None:
    spec = TensorSpec("image", LAST.shape, "float32")
    for n in range(2):
        np.savez(folder / f"{n}.npz", x=np.full(LAST.shape[1:], n, np.float32), y=n + 5)
    found = rows(folder, spec)
    assert found.labels().tolist() == [5, 6]
    assert [sample["image"].max() for sample in found.samples()] == [0, 1]


def test_the_same_samples_in_another_folder_are_found_again(folder: Path) -> None:
    np.save(folder / "0.npy", np.zeros((4, 6, 3)))
    first = gathering.gathered(folder, (LAST,), PLAIN, folder.parent / "cache")
    renamed = folder.rename(folder.with_name("renamed"))
    assert gathering.gathered(renamed, (LAST,), PLAIN, folder.parent / "cache") == first
    assert first.is_file()


def test_a_picture_of_16_bits_is_not_taken_for_a_white_one(folder: Path) -> None:
    Image.fromarray(np.full((4, 6), 3000, np.uint16)).save(folder / "0.png")
    with pytest.raises(DataError, match="more than 8 bits"):
        rows(folder, LAST)


def test_what_changed_is_gathered_anew_and_nothing_else(folder: Path) -> None:
    np.save(folder / "0.npy", np.zeros((4, 6, 3)))
    first = gathering.gathered(folder, (LAST,), PLAIN, folder.parent / "cache")
    assert gathering.gathered(folder, (LAST,), PLAIN, folder.parent / "cache") == first
    np.save(folder / "0.npy", np.ones((4, 6, 3)))
    assert gathering.gathered(folder, (LAST,), PLAIN, folder.parent / "cache") != first
    assert [sample["x"].max() for sample in rows(folder, LAST).samples()] == [1]


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        ("", b"", "holds no samples"),
        ("0.txt", b"1 2 3", r"0\.txt is no sample"),
        ("0.npy", b"junk", r"0\.npy holds no arrays"),
        ("0.png", b"junk", r"0\.png is no image that can be read"),
    ],
)
def test_what_is_no_sample_is_named(folder: Path, name: str, content: bytes, error: str) -> None:
    if name:
        (folder / name).write_bytes(content)
    with pytest.raises(DataError, match=error):
        rows(folder, LAST)


def test_objects_are_not_unpickled(folder: Path) -> None:
    np.save(folder / "0.npy", np.array([{"a": 1}], object), allow_pickle=True)
    with pytest.raises(DataError, match="holds no arrays"):
        rows(folder, LAST)


def test_a_sample_that_does_not_fit_is_named(folder: Path) -> None:
    np.save(folder / "0.npy", np.zeros((4, 6, 3)))
    np.save(folder / "1.npy", np.zeros((6, 4, 3)))
    with pytest.raises(DataError, match=r"1\.npy has shape \[6, 4, 3\], .* takes \[4, 6, 3\]"):
        rows(folder, LAST)
    (folder / "1.npy").unlink()
    np.save(folder / "1.npy", np.zeros((4, 6, 3), np.float32))
    with pytest.raises(DataError, match=r"of sample 1 is float32 .* of the first float64"):
        rows(folder, LAST)


def test_an_image_needs_to_be_declared_a_picture(folder: Path) -> None:
    picture(folder / "0.png", np.zeros((4, 6, 3)))
    with pytest.raises(DataError, match="nothing says what 'x' takes of it") as caught:
        rows(folder, LAST, interface=Interface())
    assert "--image-input" in caught.value.hint
    with pytest.raises(UsageError, match="a picture of rgb needs"):
        rows(folder, GRAY)
