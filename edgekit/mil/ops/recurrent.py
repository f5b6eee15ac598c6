"""Recurrent layers, ``[sequence, batch, features]``, computed step by step.

A layer that runs in reverse gives its outputs in the order in which it made them; only a
bidirectional one gives both in the order of its input.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from msgspec import Struct

from edgekit.mil.types import Array, Value

_ACTIVATIONS: Mapping[str, Callable[[Array], Array]] = {
    "linear": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "hard_sigmoid": lambda x: np.clip(0.2 * x + 0.5, 0, 1),
    "sigmoid_hard": lambda x: np.clip(0.2 * x + 0.5, 0, 1),
    "tanh": np.tanh,
    "scaled_tanh": np.tanh,
}


class _Weights(Struct, frozen=True, kw_only=True):
    """The weights of one direction; what is not given is left out."""

    ih: Array
    hh: Array
    bias: Array | None
    peephole: Array | None = None

    def projected(self, x: Array) -> Array:
        product = np.matmul(x, self.ih.T)
        return np.asarray(product if self.bias is None else product + self.bias)


class _Cell(Struct, frozen=True, kw_only=True):
    """What both directions of an LSTM share: MIL's parameters, each with its default."""

    direction: str = "forward"
    output_sequence: Value = False
    recurrent_activation: str = "sigmoid"
    cell_activation: str = "tanh"
    activation: str = "tanh"
    clip: Value = None


def _lstm(
    x: Array,
    initial_h: Array,
    initial_c: Array,
    weight_ih: Array,
    weight_hh: Array,
    **rest: Value,
) -> tuple[Array, Array, Array]:
    """Gates in the order input, forget, output, cell."""
    back = {name: rest.pop(f"{name}_back", None) for name in _WEIGHTS}
    forth = {name: rest.pop(name, None) for name in ("bias", "peephole")}
    cell = _Cell(**rest)
    ahead = _Weights(ih=weight_ih, hh=weight_hh, **forth)
    if cell.direction != "bidirectional":
        steps = x if cell.direction == "forward" else x[::-1]
        return _lstm_run(steps, initial_h, initial_c, ahead, cell)
    behind = _Weights(
        ih=back["weight_ih"], hh=back["weight_hh"], bias=back["bias"], peephole=back["peephole"]
    )
    (h, h_back), (c, c_back) = np.split(initial_h, 2, -1), np.split(initial_c, 2, -1)
    forward = _lstm_run(x, h, c, ahead, cell)
    outputs, h_back, c_back = _lstm_run(x[::-1], h_back, c_back, behind, cell)
    pairs = zip(forward, (outputs[::-1], h_back, c_back), strict=True)
    outputs, h, c = (np.concatenate(pair, -1) for pair in pairs)
    return outputs, h, c


_WEIGHTS = ("weight_ih", "weight_hh", "bias", "peephole")


def _lstm_run(
    x: Array, h: Array, c: Array, weights: _Weights, cell: _Cell
) -> tuple[Array, Array, Array]:
    gate, inner, outer = (
        _ACTIVATIONS[name]
        for name in (cell.recurrent_activation, cell.cell_activation, cell.activation)
    )
    peephole: Any = (0, 0, 0) if weights.peephole is None else np.split(weights.peephole, 3)
    outputs = []
    for step in weights.projected(x):
        i, f, o, z = np.split(step + np.matmul(h, weights.hh.T), 4, -1)
        c = gate(f + c * peephole[1]) * c + gate(i + c * peephole[0]) * inner(z)
        c = c if cell.clip is None else np.clip(c, -cell.clip, cell.clip)
        h = gate(o + c * peephole[2]) * outer(c)
        outputs.append(h)
    return _chosen(outputs, cell.output_sequence), h, c


def _gru(
    x: Array,
    initial_h: Array,
    weight_ih: Array,
    weight_hh: Array,
    bias: Array | None = None,
    **rest: Value,
) -> tuple[Array, Array]:
    """Gates in the order reset, output, update; the reset gate acts on the state itself.

    ``reset_after`` (iOS 18) is refused: coremltools' own test of it expects a failure.
    """
    if rest.pop("reset_after", False) or rest.pop("input_bias", None) is not None:
        raise ValueError("reset_after and input_bias have no settled definition")
    cell = _Cell(**rest)
    gate, outer = _ACTIVATIONS[cell.recurrent_activation], _ACTIVATIONS[cell.activation]
    to_reset, to_output, to_update = np.split(weight_hh, 3)
    weights = _Weights(ih=weight_ih, hh=weight_hh, bias=bias)
    h, outputs = initial_h, []
    for step in weights.projected(x if cell.direction == "forward" else x[::-1]):
        r, o, z = np.split(step, 3, -1)
        reset, update = gate(r + h @ to_reset.T), gate(z + h @ to_update.T)
        h = (1 - update) * outer(o + (reset * h) @ to_output.T) + update * h
        outputs.append(h)
    return _chosen(outputs, cell.output_sequence), h


def _rnn(
    x: Array,
    initial_h: Array,
    weight_ih: Array,
    weight_hh: Array,
    bias: Array | None = None,
    **rest: Value,
) -> tuple[Array, Array]:
    cell = _Cell(**rest)
    outer = _ACTIVATIONS[cell.activation]
    weights = _Weights(ih=weight_ih, hh=weight_hh, bias=bias)
    h, outputs = initial_h, []
    for step in weights.projected(x if cell.direction == "forward" else x[::-1]):
        h = outer(step + h @ weight_hh.T)
        outputs.append(h)
    return _chosen(outputs, cell.output_sequence), h


def _chosen(outputs: list[Array], sequence: Value) -> Array:
    return np.stack(outputs if sequence else outputs[-1:])


OPERATIONS: Mapping[str, Callable[..., Value]] = {"gru": _gru, "lstm": _lstm, "rnn": _rnn}
