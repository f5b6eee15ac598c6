"""Recurrent layers unrolled over their steps; see ``coreml_rewrites``.

The equations are those of the ONNX operators LSTM, GRU and RNN. The product with the
inputs is taken once for all steps; each step adds its product with the state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from edgekit.formats.coreml_rewriting import Builder, Refused, Rewrite

_MAX_STEPS = 512
_BIAS, _LENGTHS, _HIDDEN, _CELL, _PEEPHOLES = 3, 4, 5, 6, 7
_DEFAULTS = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}
_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
Array = NDArray[np.float32]
State = dict[str, str]


class Direction(Struct, frozen=True):
    """One direction's weights, transposed to be multiplied from the right.

    Attributes:
        gates: the inputs' share of every gate, all steps: ``[steps, batch, gates * size]``.
        recurrence: ``[size, gates * size]``.
        bias: of the recurrence, ``[gates * size]``.
        peepholes: an LSTM's, ``[3 * size]``; zeros where there are none.
    """

    gates: str
    recurrence: Array
    bias: Array
    peepholes: Array
    size: int


def _lstm(b: Builder, d: Direction, gates: str, state: State) -> State:
    from_state = b("MatMul", state["h"], b.constant(d.recurrence))
    total = b("Add", gates, b("Add", from_state, b.constant(d.bias)))
    i, o, f, c = _parts(b, total, 4, d.size)
    pi, po, pf = (b.constant(p) for p in np.split(d.peepholes, 3))
    peeped = d.peepholes.any()
    if peeped:
        i = b("Add", i, b("Mul", pi, state["c"]))
        f = b("Add", f, b("Mul", pf, state["c"]))
    kept = b("Mul", b("Sigmoid", f), state["c"])
    cell = b("Add", kept, b("Mul", b("Sigmoid", i), b("Tanh", c)))
    if peeped:
        o = b("Add", o, b("Mul", po, cell))
    return {"h": b("Mul", b("Sigmoid", o), b("Tanh", cell)), "c": cell}


def _gru(b: Builder, d: Direction, gates: str, state: State) -> State:
    z, r, n = _parts(b, gates, 3, d.size)
    wz, wr, wn = (b.constant(w) for w in np.split(d.recurrence, 3, axis=1))
    bz, br, bn = (b.constant(bias) for bias in np.split(d.bias, 3))
    h = state["h"]
    update = b("Sigmoid", b("Add", z, b("Add", b("MatMul", h, wz), bz)))
    reset = b("Sigmoid", b("Add", r, b("Add", b("MatMul", h, wr), br)))
    if b.attribute("linear_before_reset", 0):
        past = b("Mul", reset, b("Add", b("MatMul", h, wn), bn))
    else:
        past = b("Add", b("MatMul", b("Mul", reset, h), wn), bn)
    fresh = b("Tanh", b("Add", n, past))
    # What is kept and what is fresh sum to one: one product less than the equation's two.
    return {"h": b("Add", fresh, b("Mul", update, b("Sub", h, fresh)))}


def _rnn(b: Builder, d: Direction, gates: str, state: State) -> State:
    from_state = b("Add", b("MatMul", state["h"], b.constant(d.recurrence)), b.constant(d.bias))
    return {"h": b("Tanh", b("Add", gates, from_state))}


_STEP: dict[str, Callable[[Builder, Direction, str, State], State]] = {
    "LSTM": _lstm,
    "GRU": _gru,
    "RNN": _rnn,
}


def _unrolled(b: Builder) -> tuple[str, ...]:
    op = b.node.op_type
    _check(b, op)
    x = b.node.input[0]
    batch_first = bool(b.attribute("layout", 0))
    if batch_first:
        x = b("Transpose", x, perm=[1, 0, 2])
    shape = b.shape(b.node.input[0])
    steps, batch = (shape[1], shape[0]) if batch_first else shape[:2]
    if steps > _MAX_STEPS:
        raise Refused(f"it has {steps} steps; unrolling ends at {_MAX_STEPS}")
    every, last = [], []
    for index, (direction, backward) in enumerate(_directions(b, op, x)):
        states = list(
            _walk(
                b, op, direction, _start(b, index, batch, batch_first, direction), steps, backward
            )
        )
        every.append(_stacked(b, [s["h"] for s in (reversed(states) if backward else states)]))
        last.append(states[-1])
    return _outputs(b, every, last, batch_first)


def _check(b: Builder, op: str) -> None:
    """What the unrolled equations leave out."""
    asked = b.attribute("activations") or []
    names = [name.decode() for name in asked]
    if any(n != _DEFAULTS[op][i % len(_DEFAULTS[op])] for i, n in enumerate(names)):
        raise Refused(f"activations {', '.join(names)}")
    if b.attribute("clip") or b.attribute("input_forget", 0):
        raise Refused("clipped gates, or a coupled input and forget gate")
    if b.input(_LENGTHS):
        lengths = b.fixed(_LENGTHS, "the sequences' lengths")
        steps = b.shape(b.node.input[0])[1 if b.attribute("layout", 0) else 0]
        if np.any(lengths != steps):
            raise Refused("sequences of several lengths")


def _directions(b: Builder, op: str, x: str) -> Iterator[tuple[Direction, bool]]:
    """The directions in ONNX's order, and whether each runs backward."""
    weights, recurrence = b.fixed(1, "its weight"), b.fixed(2, "its recurrence")
    count, size = recurrence.shape[0], recurrence.shape[2]
    width = _GATES[op] * size
    bias = (
        b.fixed(_BIAS, "its bias") if b.input(_BIAS) else np.zeros((count, 2 * width), np.float32)
    )
    peepholes = np.zeros((count, 3 * size), np.float32)
    if b.input(_PEEPHOLES):
        peepholes = b.fixed(_PEEPHOLES, "its peepholes")
    direction = b.attribute("direction", "forward")
    for i in range(count):
        product = b("MatMul", x, b.constant(weights[i].T))
        gates = b("Add", product, b.constant(bias[i, :width]))
        made = Direction(gates, recurrence[i].T, bias[i, width:], peepholes[i], size)
        yield made, direction == "reverse" or i == 1


def _start(b: Builder, index: int, batch: int, batch_first: bool, d: Direction) -> State:
    """The state before the first step: ``h``, and ``c`` of an LSTM, ``[batch, size]``."""
    state = {}
    for name, place in (("h", _HIDDEN), ("c", _CELL)):
        given = b.input(place)
        if given is None:
            state[name] = b.constant(np.zeros((batch, d.size), b.type(b.node.input[0])))
        else:
            axis = 1 if batch_first else 0
            state[name] = b("Gather", given, b.constant(np.array(index, np.int64)), axis=axis)
    return state


def _walk(
    b: Builder, op: str, d: Direction, state: State, steps: int, backward: bool
) -> Iterator[State]:
    """The state after each step, in the order in which they are taken."""
    for step in reversed(range(steps)) if backward else range(steps):
        gates = b("Gather", d.gates, b.constant(np.array(step, np.int64)), axis=0)
        state = _STEP[op](b, d, gates, state)
        yield state


def _parts(b: Builder, x: str, count: int, size: int) -> tuple[str, ...]:
    return b.several("Split", (x, b.integers(*[size] * count)), count, axis=-1)


def _stacked(b: Builder, steps: list[str]) -> str:
    """``[steps, 1, batch, size]``."""
    raised = [b("Unsqueeze", name, b.integers(0, 1)) for name in steps]
    return b("Concat", *raised, axis=0) if len(raised) > 1 else raised[0]


def _outputs(b: Builder, every: list[str], last: list[State], batch_first: bool) -> tuple[str, ...]:
    y = b("Concat", *every, axis=1) if len(every) > 1 else every[0]
    made = [b("Transpose", y, perm=[2, 0, 1, 3]) if batch_first else y]
    for name in ("h", "c") if b.node.op_type == "LSTM" else ("h",):
        ends = [b("Unsqueeze", state[name], b.integers(0)) for state in last]
        end = b("Concat", *ends, axis=0) if len(ends) > 1 else ends[0]
        made.append(b("Transpose", end, perm=[1, 0, 2]) if batch_first else end)
    return tuple(made)


RECURRENT: dict[str, Rewrite] = {"GRU": _unrolled, "LSTM": _unrolled, "RNN": _unrolled}
