"""Normalization against its definition in float64."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.mil.programs import Case, cases, check, floats, mb

X = floats(2, 3, 4, 5)
WIDE = X.astype(np.float64)
MEAN, VARIANCE = floats(3), floats(3, low=0.1, seed=1)
GAMMA, BETA = floats(3, seed=2), floats(3, seed=3)
ROWS_GAMMA, ROWS_BETA = floats(4, 5, seed=4), floats(4, 5, seed=5)


def _channels(values):
    return values.astype(np.float64)[:, None, None]


def _normal(axes, epsilon):
    centred = WIDE - WIDE.mean(axes, keepdims=True)
    return centred / np.sqrt(WIDE.var(axes, keepdims=True) + epsilon)


def _local(size, alpha, beta, k):
    """PyTorch: the window begins ``size // 2`` channels before."""
    out = np.empty_like(WIDE)
    for c in range(3):
        first = max(c - size // 2, 0)
        window = WIDE[:, first : c - size // 2 + size] ** 2
        out[:, c] = WIDE[:, c] / (k + alpha / size * window.sum(1)) ** beta
    return out


def _case(name, expected, x=X, **parameters):
    op = name.split("-")[0]
    return Case(
        name, lambda x: getattr(mb, op)(x=x, **parameters), {"x": x}, expected, tolerance=1e-4
    )


NORMAL = (WIDE - _channels(MEAN)) / np.sqrt(_channels(VARIANCE) + 1e-3)
ROWS = [
    _case("batch_norm", NORMAL, mean=MEAN, variance=VARIANCE, epsilon=1e-3),
    _case(
        "batch_norm-scaled",
        NORMAL * _channels(GAMMA) + _channels(BETA),
        mean=MEAN,
        variance=VARIANCE,
        gamma=GAMMA,
        beta=BETA,
        epsilon=1e-3,
    ),
    _case("instance_norm", _normal((2, 3), 1e-5)),
    _case(
        "instance_norm-scaled",
        _normal((2, 3), 1e-2) * _channels(GAMMA) + _channels(BETA),
        gamma=GAMMA,
        beta=BETA,
        epsilon=1e-2,
    ),
    _case("layer_norm", _normal((1, 3), 1e-5), axes=[1, -1]),
    _case(
        "layer_norm-scaled",
        _normal((2, 3), 1e-2) * ROWS_GAMMA + ROWS_BETA,
        axes=[2, 3],
        gamma=ROWS_GAMMA,
        beta=ROWS_BETA,
        epsilon=1e-2,
    ),
    _case("l2_norm", WIDE / np.sqrt((WIDE**2).sum((1, 2, 3), keepdims=True) + 1e-6)),
    _case("local_response_norm-even", _local(2, 0.1, 0.5, 1.0), size=2, alpha=0.1, beta=0.5, k=1.0),
    _case("local_response_norm", _local(3, 0.1, 0.75, 2.0), size=3, alpha=0.1, beta=0.75, k=2.0),
]


@cases(*ROWS)
def test_it_is_as_defined(case: Case, tmp_path: Path) -> None:
    check(case, tmp_path)


def test_a_mean_far_from_zero_costs_no_digits(tmp_path: Path) -> None:
    x = (1000 + floats(1, 1, 64)).astype(np.float32)
    wide = x.astype(np.float64)
    expected = (wide - wide.mean()) / np.sqrt(wide.var() + 1e-5)
    build = lambda x: mb.layer_norm(x=x, axes=[2])  # noqa: E731
    check(Case("far", build, {"x": x}, expected, tolerance=1e-3), tmp_path)
