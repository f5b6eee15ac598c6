"""Products of matrices against NumPy in float64."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.mil.programs import Case, cases, check, floats, ints, mb

X, Y = floats(2, 3, 4, 5), floats(3, 5, 6, seed=1)
W, B = floats(7, 5, seed=2), floats(7, seed=3)
Q, K, V = floats(2, 3, 4, 8), floats(2, 3, 5, 8, seed=1), floats(2, 3, 5, 6, seed=2)
MASK = floats(4, 5, seed=3)
SEEN = ints(4, 5, low=0, high=2) | np.eye(4, 5, dtype=np.int32)


def _attention(mask):
    scores = Q.astype(np.float64) @ K.transpose(0, 1, 3, 2) / np.sqrt(8) + mask
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True) @ V


def _attend(q, k, v, mask=None, seen=None):
    mask = mb.cast(x=seen, dtype="bool") if seen is not None else mask
    extra = {} if mask is None else {"attn_mask": mask}
    return mb.scaled_dot_product_attention(query=q, key=k, value=v, **extra)


QKV = {"q": Q, "k": K, "v": V}
ROWS = [
    Case("matmul", lambda x, y: mb.matmul(x=x, y=y), {"x": X, "y": Y}, X @ Y),
    Case(
        "matmul-transposed",
        lambda x, y: mb.matmul(x=x, y=y, transpose_x=True, transpose_y=True),
        {"x": X.swapaxes(-1, -2), "y": Y.swapaxes(-1, -2)},
        X @ Y,
    ),
    Case(
        "matmul-vector",
        lambda x, y: mb.matmul(x=x, y=y),
        {"x": X[0, 0, 0], "y": Y[0]},
        X[0, 0, 0] @ Y[0],
    ),
    Case("linear", lambda x: mb.linear(x=x, weight=W, bias=B), {"x": X[0]}, X[0] @ W.T + B),
    Case("linear-without-bias", lambda x: mb.linear(x=x, weight=W), {"x": X[0]}, X[0] @ W.T),
    Case(
        "einsum",
        lambda x, y: mb.einsum(values=(x, y), equation="nchw,nwhu->nchu"),
        {"x": X, "y": floats(2, 5, 4, 6)},
        np.einsum("nchw,nwhu->nchu", X, floats(2, 5, 4, 6)),
    ),
    Case(
        "einsum-broadcast",
        lambda x, y: mb.einsum(values=(x, y), equation="chw,whr->chr"),
        {"x": X[0], "y": floats(5, 1, 6)},
        np.einsum("chw,wr->chr", X[0], floats(5, 1, 6)[:, 0]),
    ),
    Case("attention", _attend, QKV, _attention(0), "iOS18"),
    Case("attention-mask", _attend, QKV | {"mask": MASK}, _attention(MASK), "iOS18"),
    Case(
        "attention-seen",
        lambda q, k, v, seen: _attend(q, k, v, seen=seen),
        QKV | {"seen": SEEN},
        _attention(np.where(SEEN, 0, -np.inf)),
        "iOS18",
    ),
]


@cases(*ROWS)
def test_it_gives_what_numpy_gives(case: Case, tmp_path: Path) -> None:
    check(case, tmp_path)
