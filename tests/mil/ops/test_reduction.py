"""Along axes, against NumPy in float64."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.mil.programs import Case, cases, check, floats, folded, ints, mb

X = floats(2, 3, 4)
POSITIVE = floats(2, 3, 4, low=0.1)
TIES = np.float32([[3, 1, 3, 2], [0, 0, 5, 5]])
LOWEST = np.int32([[np.iinfo(np.int32).min, 4, 0, 4]])


def _softmax(x, axis):
    raised = np.exp(x.astype(np.float64))
    return raised / raised.sum(axis, keepdims=True)


def _case(name, expected, x=X, target="iOS16", **parameters):
    op = name.split("-")[0]
    return Case(name, lambda x: getattr(mb, op)(x=x, **parameters), {"x": x}, expected, target)


REDUCTIONS = {
    "reduce_sum": np.sum,
    "reduce_mean": np.mean,
    "reduce_max": np.max,
    "reduce_min": np.min,
    "reduce_prod": np.prod,
    "reduce_sum_square": lambda x, **how: np.sum(x**2, **how),
    "reduce_l1_norm": lambda x, **how: np.sum(np.abs(x), **how),
    "reduce_l2_norm": lambda x, **how: np.sqrt(np.sum(x**2, **how)),
    "reduce_log_sum": lambda x, **how: np.log(np.sum(x, **how)),
    "reduce_log_sum_exp": lambda x, **how: np.log(np.sum(np.exp(x), **how)),
}
WIDE = POSITIVE.astype(np.float64)
REDUCED = [
    case
    for name, function in REDUCTIONS.items()
    for case in (
        _case(name, function(WIDE, axis=(0, 2)), POSITIVE, axes=[0, -1]),
        _case(
            f"{name}-kept",
            function(WIDE, axis=1, keepdims=True),
            POSITIVE,
            axes=[1],
            keep_dims=True,
        ),
        _case(f"{name}-all", function(WIDE), POSITIVE),
    )
]
OTHERS = [
    _case("reduce_sum-int", ints(3, 4).sum(1), ints(3, 4), axes=[1]),
    _case("reduce_mean-far", [[1e4 + 0.5]], np.float32([[1e4, 1e4 + 1]]), axes=[1], keep_dims=True),
    _case("reduce_log_sum_exp-large", [1000 + np.log(2)], np.float32([[1000, 1000]]), axes=[1]),
    _case("reduce_argmax", X.argmax(1), axis=1),
    _case("reduce_argmin-kept", X.argmin(2)[..., None], axis=-1, keep_dims=True),
    _case("softmax", _softmax(X, 1), axis=1),
    _case("softmax-large", [[0.5, 0.5]], np.float32([[1000, 1000]]), axis=-1),
    _case("cumsum", X.cumsum(1), axis=1),
    _case("cumsum-reverse", X[:, ::-1].cumsum(1)[:, ::-1], axis=1, reverse=True),
    _case("argsort", [[0, 2, 3, 1], [2, 3, 0, 1]], TIES, axis=1),
    _case("argsort-ascending", [[1, 3, 0, 2], [0, 1, 2, 3]], TIES, axis=1, ascending=True),
]
NOT_FOLDED = [
    _case(
        "cumsum-exclusive",
        np.pad(X, [(0, 0), (1, 0), (0, 0)])[:, :3].cumsum(1),
        axis=1,
        exclusive=True,
    ),
    _case("argsort-lowest", [[1, 3, 2, 0]], LOWEST, axis=1),
    _case("topk", ([[3, 3], [5, 5]], [[0, 2], [2, 3]]), TIES, k=2, axis=1),
    _case(
        "topk-ascending", ([[1, 2], [0, 0]], [[1, 3], [0, 1]]), TIES, k=2, axis=1, ascending=True
    ),
    _case("topk-values", [[3, 3, 2], [5, 5, 0]], TIES, k=3, axis=-1, return_indices=False),
    _case(
        "topk-short",
        ([[3, 3], [5, 5]], [[0, 2], [2, 3]]),
        TIES,
        "iOS17",
        k=2,
        axis=1,
        output_indices_dtype="uint16",
    ),
]


@cases(*REDUCED, *OTHERS)
def test_it_gives_what_numpy_gives(case: Case, tmp_path: Path) -> None:
    check(case, tmp_path)


def test_a_half_program_accumulates_in_single(tmp_path: Path) -> None:
    """400**2 is no float16, and 2049 is none either: 2048 + 1 would stay 2048 for ever."""
    x = np.full((1, 4), 400, np.float16)
    check(_case("reduce_l2_norm-half", [800], x, axes=[1]), tmp_path / "squares")
    ones = np.float16([[2048, *[1] * 64]])
    expected = (2048 + np.arange(65)).astype(np.float16)[np.newaxis]
    check(_case("cumsum-half", expected, ones, axis=1), tmp_path / "sum")


@cases(*NOT_FOLDED)
def test_it_gives_what_is_defined(case: Case, tmp_path: Path) -> None:
    check(case, tmp_path)


@cases(*REDUCED, *(c for c in OTHERS if "large" not in c.name and "argsort" not in c.name))
def test_coremltools_folds_constants_to_the_same(case: Case) -> None:
    values = folded(case)
    assert values is not None
    np.testing.assert_allclose(values[0], case.expected, 1e-4, 1e-5)
