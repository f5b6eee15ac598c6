"""LSTM, GRU and RNN against ONNX Runtime's, which takes its gates in another order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

from tests.mil.programs import Case, cases, check, floats, mb

S, B, F, H = 5, 2, 3, 4
X = floats(S, B, F)


def _onnx(op, x, w, r, bias, initial, peephole=None, **attributes):
    """Outputs ``[sequence, directions, batch, hidden]`` and the last states."""
    names = ["x", "w", "r", "b", "", *(f"s{n}" for n in range(len(initial)))]
    arrays = {"x": x, "w": w, "r": r, "b": bias}
    arrays |= {f"s{n}": state for n, state in enumerate(initial)}
    if peephole is not None:
        names.append("p")
        arrays["p"] = peephole
    outputs = ["y", "h", "c"][: 1 + len(initial)]
    node = helper.make_node(op, names, outputs, hidden_size=H, **attributes)
    infos = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, array.shape)
        for name, array in arrays.items()
    ]
    results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    graph = helper.make_graph([node], op, infos, results)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return onnxruntime.InferenceSession(model.SerializeToString()).run(None, arrays)


def _weights(gates, seed):
    return (
        floats(gates, H, F, seed=seed),
        floats(gates, H, H, seed=seed + 1),
        floats(gates, H, seed=seed + 2),
    )


def _order(array, order):
    """Gates in another order, one after the other: ``[gates * hidden, ...]``."""
    return array[order].reshape(-1, *array.shape[2:])


# Core ML: input, forget, output, cell; ONNX: input, output, forget, cell.
LSTM = [0, 2, 1, 3]
# Core ML: reset, output, update; ONNX: update, reset, hidden.
GRU = [2, 0, 1]
PEEPHOLE = floats(3, H, seed=40)


def _to_onnx(gates, order):
    w, r, b = gates
    bias = np.concatenate([_order(b, order), np.zeros(b.size, np.float32)])
    return _order(w, order), _order(r, order), bias


def _lstm(direction, sequence, peephole=None):
    directions = 2 if direction == "bidirectional" else 1
    gates = [_weights(4, 10 * n) for n in range(directions)]
    h, c = (floats(directions, B, H, seed=s) for s in (30, 31))
    ours = {
        key + suffix: value
        for (w, r, b), suffix in zip(gates, ("", "_back"), strict=False)
        for key, value in (
            ("weight_ih", w.reshape(-1, F)),
            ("weight_hh", r.reshape(-1, H)),
            ("bias", b.reshape(-1)),
        )
    }
    if peephole is not None:
        ours["peephole"] = peephole.reshape(-1)
        peephole = _order(peephole, [0, 2, 1])[np.newaxis]

    def build(x, h, c):
        return mb.lstm(
            x=x, initial_h=h, initial_c=c, direction=direction, output_sequence=sequence, **ours
        )

    w, r, b = (np.stack(parts) for parts in zip(*(_to_onnx(g, LSTM) for g in gates), strict=True))
    steps = X[::-1] if direction == "reverse" else X
    name = "bidirectional" if directions == 2 else "forward"
    y, hn, cn = _onnx("LSTM", steps, w, r, b, [h, c], peephole, direction=name)
    y = y.transpose(0, 2, 1, 3).reshape(S, B, -1)
    flat = [state.transpose(1, 0, 2).reshape(B, -1) for state in (h, c, hn, cn)]
    last = y[-1:] if directions == 1 else flat[2][np.newaxis]
    inputs = {"x": X, "h": flat[0], "c": flat[1]}
    kind = (
        f"{direction}-{'all' if sequence else 'last'}{'-peephole' if peephole is not None else ''}"
    )
    return Case(kind, build, inputs, (y if sequence else last, flat[2], flat[3]), tolerance=1e-4)


def _gru(direction, sequence):
    w, r, b = _weights(3, 50)
    h = floats(1, B, H, seed=60)

    def build(x, h):
        return mb.gru(
            x=x,
            initial_h=h,
            weight_ih=w.reshape(-1, F),
            weight_hh=r.reshape(-1, H),
            bias=b.reshape(-1),
            direction=direction,
            output_sequence=sequence,
        )

    steps = X if direction == "forward" else X[::-1]
    weights = [part[np.newaxis] for part in _to_onnx((w, r, b), GRU)]
    y, hn = _onnx("GRU", steps, *weights, [h], linear_before_reset=0)
    outputs = y[:, 0] if sequence else y[-1:, 0]
    name = f"{direction}-{'all' if sequence else 'last'}"
    return Case(name, build, {"x": X, "h": h[0]}, (outputs, hn[0]), tolerance=1e-4)


def _rnn(activation):
    w, r, b = _weights(1, 70)
    h = floats(1, B, H, seed=80)

    def build(x, h):
        return mb.rnn(
            x=x,
            initial_h=h,
            weight_ih=w[0],
            weight_hh=r[0],
            bias=b[0],
            output_sequence=True,
            activation=activation,
        )

    weights = [part[np.newaxis] for part in _to_onnx((w, r, b), [0])]
    y, hn = _onnx("RNN", X, *weights, [h], activations=[activation.capitalize()])
    return Case(activation, build, {"x": X, "h": h[0]}, (y[:, 0], hn[0]), tolerance=1e-4)


@cases(
    _lstm("forward", True),
    _lstm("forward", False),
    _lstm("reverse", True),
    _lstm("bidirectional", True),
    _lstm("bidirectional", False),
    _lstm("forward", True, PEEPHOLE),
)
def test_lstm(case: Case, tmp_path: Path) -> None:
    check(case, tmp_path)


@cases(_gru("forward", True), _gru("reverse", True), _gru("reverse", False))
def test_gru(case: Case, tmp_path: Path) -> None:
    check(case, tmp_path)


@cases(_rnn("tanh"), _rnn("relu"))
def test_rnn(case: Case, tmp_path: Path) -> None:
    check(case, tmp_path)


@pytest.mark.parametrize("clip", [0.2, 50.0])
def test_the_cell_of_an_lstm_is_clipped(tmp_path: Path, clip: float) -> None:
    w, r, b = _weights(4, 0)

    def build(x, h):
        return mb.lstm(
            x=x,
            initial_h=h,
            initial_c=h,
            weight_ih=w.reshape(-1, F),
            weight_hh=r.reshape(-1, H),
            bias=b.reshape(-1),
            clip=np.float32(clip),
        )

    h = c = np.zeros((B, H))
    for step in X.astype(np.float64):
        i, f, o, z = (step @ w[g].T + h @ r[g].T + b[g] for g in range(4))
        i, f, o = (1 / (1 + np.exp(-gate)) for gate in (i, f, o))
        c = np.clip(f * c + i * np.tanh(z), -clip, clip)
        h = o * np.tanh(c)
    inputs = {"x": X, "h": np.zeros((B, H), np.float32)}
    check(Case("clip", build, inputs, (h[np.newaxis], h, c), tolerance=1e-4), tmp_path)
