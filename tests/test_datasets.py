"""Data that fit are read a sample at a time; what does not fit is refused with what would."""

import io
import pickle
import tracemalloc
import zipfile

import numpy as np
import pytest

from edgekit import datasets
from edgekit.domain import TensorSpec
from edgekit.errors import DataError

IMAGE = TensorSpec("image", (1, 3, 8, 6), "float32")
NHWC = TensorSpec("image", (1, 8, 6, 3), "float32")
TOKENS = TensorSpec("tokens", (1, 5), "int32")
MASK = TensorSpec("mask", (1, 5), "int32")


def random(*shape, dtype=np.float32):
    return (np.random.default_rng(0).random(shape) * 100).astype(dtype)


@pytest.fixture
def saved(tmp_path):
    """Save arrays and return the file."""

    def save(**arrays):
        np.savez(tmp_path / "data.npz", **arrays)
        return tmp_path / "data.npz"

    return save


def refusal(path, *specs):
    with pytest.raises(DataError) as caught:
        datasets.load(path, specs or (IMAGE,))
    return caught.value


def with_member(path, name, content):
    """Put a raw member into a file of data that otherwise fit."""
    with zipfile.ZipFile(path, "w") as archive:
        buffer = io.BytesIO()
        np.save(buffer, random(4, 3, 8, 6))
        archive.writestr("x.npy", buffer.getvalue())
        archive.writestr(name, content)
    return path


def header(text, version=b"\x01\x00"):
    """An ``.npy`` header of one's own, without data."""
    raw = text.encode("latin1") + b"\n"
    return b"\x93NUMPY" + version + len(raw).to_bytes(2, "little") + raw


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_samples_come_as_the_model_takes_them(tmp_path, save):
    x, y = random(7, 3, 8, 6), np.arange(7)
    save(tmp_path / "data.npz", x=x, y=y)
    data = datasets.load(tmp_path / "data.npz", (IMAGE,))
    samples = [sample["image"] for sample in data.samples()]
    assert data.count == 7
    assert all(s.shape == IMAGE.shape and s.dtype == np.float32 for s in samples)
    np.testing.assert_array_equal(np.concatenate(samples), x)
    np.testing.assert_array_equal(data.labels(), y)
    np.testing.assert_array_equal(next(data.samples())["image"], x[:1])


def test_without_labels_there_are_none(saved):
    assert datasets.load(saved(x=random(2, 3, 8, 6)), (IMAGE,)).labels() is None


def test_an_array_may_bear_the_inputs_name(saved):
    x = random(2, 3, 8, 6)
    (first, _) = datasets.load(saved(image=x, x=random(9)), (IMAGE,)).samples()
    np.testing.assert_array_equal(first["image"], x[:1])


@pytest.mark.parametrize(
    ("shape", "given"),
    [
        ((1, 1, 8, 6), (4, 8, 6)),
        ((1, 1, 8, 6), (4, 1, 8, 6)),
        ((1, 1, 8, 6), (4, 8, 6, 1)),
        ((1, 8, 6, 1), (4, 8, 6)),
        ((1, 5), (4, 1, 5)),
        ((1, 1), (4,)),
        ((1,), (4, 1)),
        ((1, 5, 1, 1), (4, 5)),
    ],
)
def test_axes_of_one_may_be_left_out_or_added(saved, shape, given):
    x = random(*given)
    data = datasets.load(saved(x=x), (TensorSpec("in", shape, "float32"),))
    samples = [sample["in"] for sample in data.samples()]
    assert [s.shape for s in samples] == [shape] * 4
    np.testing.assert_array_equal(np.stack(samples).ravel(), x.ravel())


@pytest.mark.parametrize(
    ("spec", "given", "order"),
    [
        (IMAGE, (4, 8, 6, 3), (0, 3, 1, 2)),
        (NHWC, (4, 3, 8, 6), (0, 2, 3, 1)),
        (IMAGE, (4, 3, 6, 8), (0, 1, 3, 2)),
        (TensorSpec("in", (1, 3, 8, 8), "float32"), (4, 8, 8, 3), (0, 3, 1, 2)),
        (TensorSpec("in", (1, 8, 8, 3), "float32"), (4, 3, 8, 8), (0, 2, 3, 1)),
        (TensorSpec("in", (1, 1, 8, 6), "float32"), (4, 6, 8, 1), (0, 3, 2, 1)),
        (TensorSpec("in", (1, 50, 9), "float32"), (4, 9, 50), (0, 2, 1)),
    ],
)
def test_axes_in_another_order_are_refused_with_the_transpose(saved, spec, given, order):
    x = random(*given)
    error = refusal(saved(x=x), spec)
    assert f"have shape {list(given[1:])}" in error.message
    assert f"takes {list(spec.shape[1:])}" in error.message
    assert f"x.transpose({', '.join(map(str, order))})" in error.hint
    mended = datasets.load(saved(x=np.ascontiguousarray(x.transpose(order))), (spec,))
    np.testing.assert_array_equal(
        next(mended.samples())[spec.name], x[:1].transpose(order).reshape(spec.shape)
    )


@pytest.mark.parametrize("given", [(4, 3, 8, 7), (4, 144), (3, 8, 6), (4, 3, 8, 6, 2), (4,)])
def test_another_shape_is_refused(saved, given):
    error = refusal(saved(x=random(*given)))
    assert "'image' takes [3, 8, 6]" in error.message
    assert "transpose" not in error.hint
    assert "one sample per row" in error.hint


def test_a_single_number_is_no_samples(saved):
    assert "single number" in refusal(saved(x=np.float32(1))).message


def test_a_missing_array_names_what_is_there(saved):
    error = refusal(saved(images=random(4, 3, 8, 6), y=np.arange(4)))
    assert "no array for the input 'image'; it holds: images, y" in error.message
    assert "image" in error.hint
    assert "'x'" in error.hint


def test_several_inputs_each_have_their_array(saved):
    tokens, mask = np.arange(15).reshape(3, 5), np.ones((3, 5), bool)
    data = datasets.load(saved(mask=mask, tokens=tokens), (TOKENS, MASK))
    samples = list(data.samples())
    np.testing.assert_array_equal(np.concatenate([s["tokens"] for s in samples]), tokens)
    assert all(s["mask"].dtype == np.int32 and s["mask"].all() for s in samples)
    error = refusal(saved(tokens=tokens), TOKENS, MASK)
    assert "'mask'" in error.message
    assert "'x'" not in error.hint
    error = refusal(saved(tokens=tokens, mask=mask[:2]), TOKENS, MASK)
    assert "differ in their number of samples: {'tokens': 3, 'mask': 2}" in error.message


def test_an_input_may_be_named_like_the_labels(saved):
    left, right = TensorSpec("x", (1, 5), "float32"), TensorSpec("y", (1, 5), "float32")
    x, y = random(3, 5), random(3, 5) + 1
    data = datasets.load(saved(x=x, y=y), (left, right))
    np.testing.assert_array_equal(np.concatenate([s["y"] for s in data.samples()]), y)
    assert data.labels() is None


def test_a_single_input_may_be_named_like_the_labels(saved):
    spec, x = TensorSpec("y", (1, 5), "float32"), random(3, 5)
    for arrays, labels in (({"y": x}, None), ({"x": x, "y": np.arange(3)}, [0, 1, 2])):
        data = datasets.load(saved(**arrays), (spec,))
        np.testing.assert_array_equal(np.concatenate([s["y"] for s in data.samples()]), x)
        assert (data.labels() is None) if labels is None else (data.labels().tolist() == labels)
    assert "{'x': 3, 'y': 2}" in refusal(saved(x=x, y=np.arange(2)), spec).message


@pytest.mark.parametrize("labels", [np.arange(3), np.arange(5), np.zeros((0, 2)), np.int64(1)])
def test_labels_must_be_as_many_as_the_samples(saved, labels):
    error = refusal(saved(x=random(4, 3, 8, 6), y=labels))
    assert "differ in their number of samples: {'x': 4, 'y': " in error.message


def test_no_samples_are_refused(saved):
    assert "'x': 0" in refusal(saved(x=random(0, 3, 8, 6))).message


def test_objects_are_refused_unread(tmp_path, saved, monkeypatch):
    monkeypatch.chdir(tmp_path)
    objects = np.empty(4, object)
    objects[:] = [[1], [2], [3], [4]]
    for arrays in ({"x": objects}, {"x": random(4, 3, 8, 6), "y": objects}):
        assert "Python objects" in refusal(saved(**arrays)).message
    stream = header("{'descr': '|O', 'fortran_order': False, 'shape': (4,), }")
    pickled = b"cbuiltins\nexec\n(Vopen('was-read','w')\ntR."
    for name in ("y.npy", "z.npy"):
        path = with_member(tmp_path / "p.npz", name, stream + pickled)
        assert "Python objects" in refusal(path).message
    assert not (tmp_path / "was-read").exists()
    pickle.loads(pickled)
    assert (tmp_path / "was-read").exists()


def test_fortran_order_is_refused_with_what_to_do(saved, tmp_path):
    error = refusal(saved(x=np.asfortranarray(random(4, 3, 8, 6))))
    assert "'x'" in error.message
    assert "ascontiguousarray" in error.hint
    flat = header("{'descr': '<f4', 'fortran_order': True, 'shape': (4,)}") + bytes(16)
    assert datasets.load(with_member(tmp_path / "1d.npz", "y.npy", flat), (IMAGE,)).count == 4
    transposed = random(4, 8, 6, 3).transpose(0, 3, 1, 2)
    assert datasets.load(saved(x=np.ascontiguousarray(transposed)), (IMAGE,)).count == 4


def test_other_byte_orders_are_read(saved):
    x = random(2, 3, 8, 6)
    data = datasets.load(saved(x=x.astype(">f4")), (IMAGE,))
    np.testing.assert_array_equal(np.concatenate([s["image"] for s in data.samples()]), x)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float16, np.float64, bool])
def test_numbers_become_the_inputs_floats(saved, dtype):
    x = random(2, 3, 8, 6, dtype=dtype)
    data = datasets.load(saved(x=x), (IMAGE,))
    samples = np.concatenate([s["image"] for s in data.samples()])
    assert samples.dtype == np.float32
    np.testing.assert_array_equal(samples, x.astype(np.float32))


@pytest.mark.parametrize(
    ("x", "spec"),
    [
        (random(4, 5), TOKENS),
        (random(4, 5).astype(np.complex64), TensorSpec("x", (1, 5), "float32")),
        (np.full((4, 5), "word"), TensorSpec("x", (1, 5), "float32")),
        (np.zeros((4, 5), "datetime64[s]"), TOKENS),
        (np.zeros((4, 5), [("a", "f4")]), TensorSpec("x", (1, 5), "float32")),
    ],
    ids=["float into int", "complex", "text", "time", "record"],
)
def test_other_types_are_refused(saved, x, spec):
    error = refusal(saved(x=x), spec)
    assert f"holds {x.dtype.name}" in error.message
    assert f"takes {spec.dtype}" in error.message


@pytest.mark.parametrize("dtype", [np.int64, np.uint32])
def test_whole_numbers_that_do_not_fit_the_input_are_refused(saved, dtype):
    x = np.zeros((3, 5), dtype)
    x[2, 2] = 2**31
    data = datasets.load(saved(x=x), (TOKENS,))
    with pytest.raises(DataError, match="int32"):
        list(data.samples())


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("percent", range(0, 100, 10))
def test_a_truncated_file_is_refused(tmp_path, percent, save):
    path = tmp_path / "data.npz"
    save(path, x=random(4, 3, 8, 6))
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) * percent // 100])
    assert "is not a NumPy .npz file" in refusal(path).message


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_damage_anywhere_is_a_data_error(tmp_path, save):
    path = tmp_path / "data.npz"
    save(path, x=random(4, 3, 8, 6), y=np.arange(4))
    raw = path.read_bytes()
    refused = []
    for at in range(0, len(raw), 7):
        path.write_bytes(raw[:at] + bytes([raw[at] ^ 0xFF]) + raw[at + 1 :])
        try:
            data = datasets.load(path, (IMAGE,))
            assert len(list(data.samples())) == data.count
            data.labels()
        except DataError as error:
            refused.append(error.message)
    assert len(refused) > len(raw) / 7 / 2
    assert all(str(path) in message for message in refused)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (4, 3, 8, 6)",
        "'''",
        "{'descr': '<f4'}",
        "{'descr': 'no such', 'fortran_order': False, 'shape': (4,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': 'x'}",
        "[" * 9000,
        "-" * 9000 + "1",
        "\xff",
        "\0",
        "{[]: 1}",
        "if 1:\n   x\n  y",
        "{'descr': [1], 'fortran_order': False, 'shape': (4,)}",
    ],
    ids=lambda text: ascii(text[:20]),
)
def test_a_forged_header_is_refused(tmp_path, text):
    path = with_member(tmp_path / "data.npz", "image.npy", header(text))
    assert "is not a NumPy .npz file" in refusal(path).message


@pytest.mark.parametrize("shape", ["-4, 3", "-4, -3", "1000000, 3", "10**30, 3"])
def test_a_number_of_samples_that_is_not_there(tmp_path, shape):
    shape = shape.replace("10**30", str(10**30))
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({shape}, 8, 6)}}"
    for name in ("image.npy", "y.npy"):
        path = with_member(tmp_path / "data.npz", name, header(text) + bytes(4 * 3 * 8 * 6 * 4))
        error = refusal(path)
        assert str(path) in error.message
        assert "expected float32 of [" in error.message


@pytest.mark.parametrize("version", [b"\x03\x00", b"\x09\x00"])
def test_an_unknown_version_is_refused(tmp_path, version):
    path = with_member(tmp_path / "data.npz", "image.npy", header("{}", version))
    assert "unknown .npy version" in refusal(path).message


@pytest.mark.parametrize("content", [b"", b"hello", b"\x93NUMPY\x01\x00", bytes(1000)])
def test_another_kind_of_file_is_refused_with_what_makes_one(tmp_path, content):
    (tmp_path / "data.npz").write_bytes(content)
    error = refusal(tmp_path / "data.npz")
    assert "is not a NumPy .npz file" in error.message
    assert "numpy.savez" in error.hint


def test_a_folder_and_a_missing_file_are_refused(tmp_path):
    assert "is not a NumPy .npz file" in refusal(tmp_path).message
    assert "no such file" in refusal(tmp_path / "nowhere.npz").message


def test_the_digest_is_the_files(saved):
    one = datasets.load(saved(x=random(2, 3, 8, 6)), (IMAGE,)).sha256
    two = datasets.load(saved(x=random(2, 3, 8, 6) + 1), (IMAGE,)).sha256
    assert one != two


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_memory_does_not_grow_with_the_number_of_samples(tmp_path, save):
    spec = TensorSpec("x", (1, 32, 32), "float32")

    def peak(count):
        path = tmp_path / f"{count}.npz"
        save(path, x=np.zeros((count, 32, 32), np.float32), y=np.zeros(count))
        tracemalloc.start()
        try:
            read = sum(1 for _ in datasets.load(path, (spec,)).samples())
            assert read == count
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(4)  # what is loaded on first use counts for neither
    assert peak(4000) < 1.2 * peak(400)
