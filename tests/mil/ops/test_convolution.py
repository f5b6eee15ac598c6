"""Convolution and pooling against sums written out in NumPy; ONNX Runtime is not asked."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np

from tests.mil.programs import Case, cases, check, floats, mb

IMAGE = floats(2, 4, 7, 6)
LINE = floats(1, 3, 9)
VOLUME = floats(1, 2, 4, 5, 3)


def _same(size, reach, stride, lower=False):
    total = max((-(-size // stride) - 1) * stride + reach - size, 0)
    small, large = total // 2, total - total // 2
    return (large, small) if lower else (small, large)


def _positions(x, kernel, strides, dilations, pads):
    """Where each window begins in the padded input, and its elements' offsets."""
    spatial = [
        (size + sum(pad) - (k - 1) * d - 1) // s + 1
        for size, k, s, d, pad in zip(x.shape[2:], kernel, strides, dilations, pads, strict=True)
    ]
    return spatial, list(product(*map(range, kernel)))


def _conv(x, w, strides, dilations, pads, groups=1, bias=None):
    x, w = x.astype(np.float64), w.astype(np.float64)
    spatial, offsets = _positions(x, w.shape[2:], strides, dilations, pads)
    padded = np.pad(x, [(0, 0), (0, 0), *pads])
    out = np.zeros((len(x), len(w), *spatial))
    per_in, per_out = x.shape[1] // groups, len(w) // groups
    for group, offset in product(range(groups), offsets):
        window = tuple(
            slice(o * d, o * d + (n - 1) * s + 1, s)
            for o, d, s, n in zip(offset, dilations, strides, spatial, strict=True)
        )
        rows = slice(group * per_out, (group + 1) * per_out)
        columns = slice(group * per_in, (group + 1) * per_in)
        part = padded[(slice(None), columns, *window)]
        out[:, rows] += np.einsum("oc,nc...->no...", w[(rows, slice(None), *offset)], part)
    return out if bias is None else out + bias.reshape(-1, *[1] * len(spatial))


def _transposed(x, w, strides, dilations, groups=1):
    """Every input element spreads the kernel over the output."""
    x, w = x.astype(np.float64), w.astype(np.float64)
    sizes = zip(x.shape[2:], w.shape[2:], strides, dilations, strict=True)
    spatial = [(n - 1) * s + (k - 1) * d + 1 for n, k, s, d in sizes]
    per_in, per_out = x.shape[1] // groups, w.shape[1]
    out = np.zeros((len(x), per_out * groups, *spatial))
    for group, offset in product(range(groups), product(*map(range, w.shape[2:]))):
        window = tuple(
            slice(o * d, o * d + (n - 1) * s + 1, s)
            for o, d, s, n in zip(offset, dilations, strides, x.shape[2:], strict=True)
        )
        rows = slice(group * per_in, (group + 1) * per_in)
        columns = slice(group * per_out, (group + 1) * per_out)
        spread = np.einsum("co,nc...->no...", w[(rows, slice(None), *offset)], x[:, rows])
        out[(slice(None), columns, *window)] += spread
    return out


def _pooled(x, kernel, strides, pads, reduce, fill):
    """``reduce`` over the elements of each window, ``[n, c, *spatial, elements]``."""
    spatial, offsets = _positions(x, kernel, strides, (1,) * len(kernel), pads)
    padded = np.pad(x.astype(np.float64), [(0, 0), (0, 0), *pads], constant_values=fill)
    parts = []
    for offset in offsets:
        window = tuple(
            slice(o, o + (n - 1) * s + 1, s)
            for o, s, n in zip(offset, strides, spatial, strict=True)
        )
        parts.append(padded[(slice(None), slice(None), *window)])
    return reduce(np.stack(parts, -1))


def _case(name, op, x, expected, target="iOS16", **parameters):
    return Case(
        name, lambda x: getattr(mb, op)(x=x, **parameters), {"x": x}, expected, target, 1e-4
    )


W = floats(6, 4, 3, 3, seed=1)
GROUPED = floats(6, 2, 3, 2, seed=2)
DEPTHWISE = floats(8, 1, 3, 3, seed=3)
BIAS = floats(6, seed=4)
CONV = [
    _case("valid", "conv", IMAGE, _conv(IMAGE, W, (1, 1), (1, 1), [(0, 0)] * 2), weight=W),
    _case(
        "same-strided-bias",
        "conv",
        IMAGE,
        _conv(IMAGE, W, (2, 2), (1, 1), [_same(7, 3, 2), _same(6, 3, 2)], bias=BIAS),
        weight=W,
        bias=BIAS,
        strides=[2, 2],
        pad_type="same",
    ),
    _case(
        "same_lower-grouped",
        "conv",
        IMAGE,
        _conv(IMAGE, GROUPED, (2, 1), (1, 1), [_same(7, 3, 2), _same(6, 2, 1, True)], groups=2),
        weight=GROUPED,
        strides=[2, 1],
        pad_type="same_lower",
        groups=2,
    ),
    _case(
        "custom-dilated",
        "conv",
        IMAGE,
        _conv(IMAGE, W, (1, 1), (2, 1), [(1, 2), (0, 3)]),
        weight=W,
        dilations=[2, 1],
        pad_type="custom",
        pad=[1, 2, 0, 3],
    ),
    _case(
        "same-dilated",
        "conv",
        IMAGE,
        _conv(IMAGE, W, (1, 1), (2, 2), [_same(7, 5, 1), _same(6, 5, 1)]),
        weight=W,
        dilations=[2, 2],
        pad_type="same",
    ),
    _case(
        "depthwise",
        "conv",
        IMAGE,
        _conv(IMAGE, DEPTHWISE, (1, 1), (1, 1), [(1, 1)] * 2, groups=4),
        weight=DEPTHWISE,
        pad_type="custom",
        pad=[1, 1, 1, 1],
        groups=4,
    ),
    _case(
        "line",
        "conv",
        LINE,
        _conv(LINE, floats(5, 3, 4), (2,), (1,), [(1, 1)]),
        weight=floats(5, 3, 4),
        strides=[2],
        pad_type="custom",
        pad=[1, 1],
    ),
    _case(
        "volume",
        "conv",
        VOLUME,
        _conv(VOLUME, floats(3, 2, 2, 2, 2), (1, 1, 1), (1, 1, 1), [(0, 0)] * 3),
        weight=floats(3, 2, 2, 2, 2),
    ),
]
TW = floats(4, 3, 3, 4, seed=7)
TG = floats(4, 3, 2, 2, seed=8)
TBIAS = floats(3, seed=9)
WHOLE = _transposed(IMAGE, TW, (2, 3), (1, 1))
GAPS = _transposed(IMAGE, TG, (3, 3), (1, 1), 2)
TRANSPOSED = [
    _case("valid", "conv_transpose", IMAGE, WHOLE, weight=TW, strides=[2, 3]),
    _case(
        "custom-bias",
        "conv_transpose",
        IMAGE,
        WHOLE[..., 1:-1, 2:-1] + TBIAS[:, None, None],
        weight=TW,
        bias=TBIAS,
        strides=[2, 3],
        pad_type="custom",
        pad=[1, 1, 2, 1],
    ),
    # 15 x 19 of the whole, 14 x 18 wanted: the odd element goes from the end.
    _case(
        "same",
        "conv_transpose",
        IMAGE,
        WHOLE[..., :14, :18],
        weight=TW,
        strides=[2, 3],
        pad_type="same",
    ),
    _case(
        "output_shape",
        "conv_transpose",
        IMAGE,
        WHOLE[..., 1:14, :19],
        weight=TW,
        strides=[2, 3],
        pad_type="same",
        output_shape=[2, 3, 13, 19],
    ),
    # The kernel is smaller than the stride: what no kernel reaches is zero.
    _case(
        "grouped-beyond-the-kernel",
        "conv_transpose",
        IMAGE,
        np.pad(GAPS, [(0, 0), (0, 0), (0, 1), (0, 1)]),
        weight=TG,
        strides=[3, 3],
        pad_type="same",
        groups=2,
    ),
]


def _pool(name, x, kernel, strides, pads, how, **parameters):
    op, reduce, fill = how
    expected = _pooled(x, kernel, strides, pads, reduce, fill)
    sizes = {"kernel_sizes": list(kernel), "strides": list(strides)}
    return _case(f"{op}-{name}", op, x, expected, **sizes, **parameters)


# The operation, what it makes of a window's elements, and what an element of the padding is.
LARGEST = ("max_pool", lambda parts: parts.max(-1), -np.inf)
MEAN = ("avg_pool", lambda parts: parts.mean(-1), 0)
MEAN_OF_INNER = ("avg_pool", lambda parts: np.nanmean(parts, -1), np.nan)
LENGTH = ("l2_pool", lambda parts: np.sqrt((parts**2).sum(-1)), 0)
K, S = (3, 2), (2, 2)
SAME = [_same(7, 3, 2), _same(6, 2, 2)]
CUSTOM = [(1, 0), (0, 1)]
POOLS = [
    _pool("valid", IMAGE, K, S, [(0, 0)] * 2, LARGEST, pad_type="valid"),
    _pool("same", IMAGE, K, S, SAME, LARGEST, pad_type="same"),
    _pool(
        "custom",
        IMAGE,
        K,
        S,
        CUSTOM,
        LARGEST,
        pad_type="custom",
        pad=[1, 0, 0, 1],
    ),
    _pool("line", LINE, (2,), (2,), [(0, 0)], LARGEST, pad_type="valid"),
    _pool("valid", IMAGE, K, S, [(0, 0)] * 2, MEAN, pad_type="valid"),
    _pool("same", IMAGE, K, S, SAME, MEAN, pad_type="same"),
    _pool(
        "same-without-padding",
        IMAGE,
        K,
        S,
        SAME,
        MEAN_OF_INNER,
        pad_type="same",
        exclude_padding_from_average=True,
    ),
    _pool("volume", VOLUME, (2, 2, 1), (1, 2, 1), [(0, 0)] * 3, MEAN, pad_type="valid"),
    _pool("same", IMAGE, K, S, SAME, LENGTH, pad_type="same"),
]
# Windows that reach beyond the padding: [0 1 2 3 4] by 2 and a stride of 2, and with padding 1
# by 3 and 2, as torch.nn.functional computes them.
FIVE = np.arange(5, dtype=np.float32).reshape(1, 1, 5)
CEIL = [
    _case(
        "max-ceil",
        "max_pool",
        FIVE,
        [[[1, 3, 4]]],
        kernel_sizes=[2],
        strides=[2],
        pad_type="valid",
        ceil_mode=True,
    ),
    # The last window would begin in the padding after the input: there is none.
    _case(
        "max-ceil-last",
        "max_pool",
        FIVE[..., :3],
        [[[0, 2]]],
        kernel_sizes=[2],
        strides=[2],
        pad_type="custom",
        pad=[1, 1],
        ceil_mode=True,
    ),
    _case(
        "avg-ceil",
        "avg_pool",
        FIVE,
        [[[0.5, 2.5, 4]]],
        kernel_sizes=[2],
        strides=[2],
        pad_type="valid",
        ceil_mode=True,
    ),
    _case(
        "avg-ceil-padded",
        "avg_pool",
        FIVE[..., :4],
        [[[1 / 3, 2, 1.5]]],
        kernel_sizes=[3],
        strides=[2],
        pad_type="custom",
        pad=[1, 1],
        ceil_mode=True,
    ),
]


@cases(*CONV)
def test_conv(case: Case, tmp_path: Path) -> None:
    check(case, tmp_path)


@cases(*TRANSPOSED)
def test_conv_transpose(case: Case, tmp_path: Path) -> None:
    check(case, tmp_path)


@cases(*POOLS, *CEIL)
def test_pools(case: Case, tmp_path: Path) -> None:
    check(case, tmp_path)


def test_weights_may_be_computed(tmp_path: Path) -> None:
    expected = _conv(IMAGE, W, (1, 1), (1, 1), [(0, 0)] * 2)
    case = Case("dynamic", lambda x, w: mb.conv(x=x, weight=w), {"x": IMAGE, "w": W}, expected)
    check(Case(case.name, case.build, case.inputs, expected, tolerance=1e-4), tmp_path)
