"""Moving elements, against NumPy, and TensorFlow's and PyTorch's orders written out."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.mil.programs import Case, cases, check, floats, folded, ints, mb

X = floats(2, 3, 4)
IMAGE = floats(2, 12, 4, 6)
SMALL = floats(2, 3, 4, 6)
LENGTHS = np.int32([2, 4, 0])


def _case(name, expected, x=X, target="iOS16", **parameters):
    op = name.split("-")[0]
    return Case(name, lambda x: getattr(mb, op)(x=x, **parameters), {"x": x}, expected, target)


def _depth_to_space(x, block):
    """TensorFlow: channel ``(row * block + column) * C + c`` goes to row, column of c."""
    n, channels, height, width = x.shape
    out = np.zeros((n, channels // block**2, height * block, width * block), x.dtype)
    for row in range(block):
        for column in range(block):
            first = (row * block + column) * out.shape[1]
            out[:, :, row::block, column::block] = x[:, first : first + out.shape[1]]
    return out


def _pixel_shuffle(x, block):
    """PyTorch: channel ``c * block**2 + row * block + column``."""
    n, channels, height, width = x.shape
    out = np.zeros((n, channels // block**2, height * block, width * block), x.dtype)
    for row in range(block):
        for column in range(block):
            out[:, :, row::block, column::block] = x[:, row * block + column :: block**2]
    return out


def _space_to_batch(x, rows, columns):
    return np.concatenate(
        [x[:, :, i::rows, j::columns] for i in range(rows) for j in range(columns)]
    )


def _reversed(x, lengths):
    out = x.copy()
    for i, length in enumerate(lengths):
        out[:, i, :length] = x[:, i, :length][:, ::-1]
    return out


PAD = [(0, 0), (1, 2), (2, 1)]
ROWS = [
    _case("reshape", X.reshape(4, 6), shape=[4, -1]),
    _case("reshape-zero", X.reshape(2, 12), shape=[2, -1]),
    _case("reshape-inherits", X.reshape(1, 2, 3, 4), shape=[1, 2, 0, -1], target="iOS17"),
    _case("expand_dims", X[:, None, :, None], axes=[1, 3]),
    _case("expand_dims-negative", X[..., None], axes=[-1]),
    _case("squeeze", X, x=X[None, :, None], axes=[0, 2]),
    _case("squeeze-all", X, x=X[None, :, None]),
    _case("flatten2d", X.reshape(6, 4), axis=2),
    _case("transpose", X.transpose(2, 0, 1), perm=[2, 0, 1]),
    _case("reverse", X[:, ::-1, ::-1], axes=[1, 2]),
    _case("reverse-all", X[::-1, ::-1, ::-1]),
    _case("slice_by_index", X[:, 1:3, 3:0:-2], begin=[0, 1, 3], end=[2, 3, 0], stride=[1, 1, -2]),
    _case(
        "slice_by_index-masks",
        X[:, 1, :-1],
        begin=[1, 1, 0],
        end=[1, 2, -1],
        begin_mask=[True, False, False],
        end_mask=[True, False, False],
        squeeze_mask=[False, True, False],
    ),
    _case("slice_by_size", X[:, 1:2, 2:], begin=[0, 1, -2], size=[-1, 1, 2]),
    _case("split", tuple(np.split(X, [1], 1)), axis=1, split_sizes=[1, 2]),
    _case("split-even", tuple(np.split(X, 2, 2)), axis=2, num_splits=2),
    _case("tile", np.tile(X, (1, 2, 3)), reps=[1, 2, 3]),
    _case("pad", np.pad(X, PAD, constant_values=7), pad=[1, 2, 2, 1], constant_val=7.0),
    _case("pad-reflect", np.pad(X, PAD, "reflect"), pad=[1, 2, 2, 1], mode="reflect"),
    _case("pad-replicate", np.pad(X, PAD, "edge"), pad=[1, 2, 2, 1], mode="replicate"),
    _case("crop", SMALL[..., 1:4, 2:5], x=SMALL, crop_height=[1, 0], crop_width=[2, 1]),
    _case("depth_to_space", _depth_to_space(IMAGE, 2), x=IMAGE, block_size=2),
    _case("space_to_depth", IMAGE, x=_depth_to_space(IMAGE, 2), block_size=2),
    _case("pixel_shuffle", _pixel_shuffle(IMAGE, 2), x=IMAGE, upscale_factor=2),
    _case("pixel_unshuffle", IMAGE, x=_pixel_shuffle(IMAGE, 2), downscale_factor=np.uint32(2)),
    _case(
        "space_to_batch",
        _space_to_batch(np.pad(SMALL, [(0, 0), (0, 0), (1, 1), (0, 0)]), 2, 3),
        x=SMALL,
        block_shape=[2, 3],
        paddings=[[1, 1], [0, 0]],
    ),
    _case(
        "batch_to_space",
        SMALL[:, :, 1:],
        x=_space_to_batch(SMALL, 2, 3),
        block_shape=[2, 3],
        crops=[[1, 0], [0, 0]],
    ),
    _case(
        "sliding_windows",
        np.stack([X[:, :, i : i + 2] for i in (0, 2)], 2),
        axis=2,
        size=2,
        stride=2,
    ),
    _case("sliding_windows-first", np.stack([X[:, i : i + 2] for i in (0, 1)], 1), axis=1, size=2),
    _case("band_part", np.triu(np.tril(X, 0), -1), lower=1, upper=0),
    _case("band_part-upper", np.triu(X), lower=0, upper=-1),
    _case("reverse_sequence", _reversed(X, LENGTHS), lengths=LENGTHS, seq_axis=2, batch_axis=1),
    _case("shape", [2, 3, 4]),
    Case(
        "concat",
        lambda x, y: mb.concat(values=(x, y), axis=1),
        {"x": X, "y": X[:, :1]},
        np.concatenate([X, X[:, :1]], 1),
    ),
    Case("concat-one", lambda x: mb.concat(values=(x,), axis=1), {"x": X}, X),
    Case(
        "concat-interleaved",
        lambda x, y: mb.concat(values=(x, y), axis=0, interleave=True),
        {"x": X, "y": -X},
        np.stack([X[0], -X[0], X[1], -X[1]]),
    ),
    Case(
        "stack",
        lambda x, y: mb.stack(values=(x, y), axis=1),
        {"x": X, "y": -X},
        np.stack([X, -X], 1),
    ),
    Case(
        "fill", lambda s: mb.fill(shape=s, value=2.5), {"s": np.int32([2, 3])}, np.full((2, 3), 2.5)
    ),
    Case(
        "fill_like",
        lambda x: mb.fill_like(ref_tensor=x, value=2.5),
        {"x": X},
        np.full(X.shape, 2.5),
    ),
    Case(
        "range_1d",
        lambda a, b, c: mb.range_1d(
            start=mb.squeeze(x=a), end=mb.squeeze(x=b), step=mb.squeeze(x=c)
        ),
        {"a": np.int32([3]), "b": np.int32([11]), "c": np.int32([3])},
        [3, 6, 9],
    ),
    Case(
        "one_hot",
        lambda i: mb.one_hot(
            indices=i, one_hot_vector_size=4, axis=1, on_value=2.0, off_value=-1.0
        ),
        {"i": np.int32([[0, 3], [2, 2]])},
        np.where(np.arange(4)[:, None] == np.int32([[0, 3], [2, 2]])[:, None], 2.0, -1.0),
    ),
    Case(
        "non_zero", lambda x: mb.non_zero(x=x), {"x": np.int32([[0, 5], [2, 0]])}, [[0, 1], [1, 0]]
    ),
    Case(
        "slice_update",
        lambda x, u: mb.slice_update(x=x, update=u, begin=[0, 1, 0], end=[2, 2, 4]),
        {"x": X, "u": -X[:, :1]},
        np.concatenate([X[:, :1], -X[:, :1], X[:, 2:]], 1),
        "iOS18",
    ),
    Case(
        "reshape_like",
        lambda x, y: mb.reshape_like(
            x=x, ref_tensors=(y, y), begins=(0, 1), ends=(1, 0), end_masks=(False, True)
        ),
        {"x": X, "y": floats(4, 6)},
        X.reshape(4, 6),
    ),
]
# What coremltools does not fold, or (concat) folds into symbols.
_NOT_FOLDED = {
    "depth_to_space",
    "space_to_depth",
    "pixel_shuffle",
    "pixel_unshuffle",
    "space_to_batch",
    "batch_to_space",
    "sliding_windows",
    "reverse_sequence",
    "crop",
    "one_hot",
    "reshape_like",
}


@cases(*ROWS)
def test_it_gives_what_numpy_gives(case: Case, tmp_path: Path) -> None:
    check(case, tmp_path)


@cases(*(c for c in ROWS if c.name.split("-")[0] not in _NOT_FOLDED | {"concat"}))
def test_coremltools_folds_constants_to_the_same(case: Case) -> None:
    values = folded(case)
    assert values is not None
    expected = case.expected if isinstance(case.expected, tuple) else (case.expected,)
    for value, wanted in zip(values, expected, strict=True):
        np.testing.assert_array_equal(value, wanted)


def test_a_dimension_that_is_not_declared_may_be_anything(tmp_path: Path) -> None:
    i = ints(5, low=0, high=2)
    check(Case("non_zero", lambda i: mb.non_zero(x=i), {"i": i}, np.argwhere(i)), tmp_path)
