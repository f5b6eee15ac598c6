"""What tf2onnx lacks or gets wrong of TFLite's operators; imported beside tf2onnx only.

Importing this module registers the handlers: a later registration replaces tf2onnx's own.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from tf2onnx import utils
from tf2onnx.handler import tfl_op
from tf2onnx.tflite_handlers.tfl_math import TflFullyConnectedOp

_INPUTS = 15
"""Of a plain LSTM: the sequence, 4 weights, 4 recurrent weights, 4 biases, 2 states."""
_MATRIX = 2
_SATURATED = 10
"""TFLite holds a cell's state within 10, where its tanh is 1 but for 4e-9; ONNX cannot."""
_GATES = (0, 3, 1, 2)
"""TFLite's gates (input, forget, cell, output) in ONNX's order (input, output, forget, cell)."""


@tfl_op(["TFL_FULLY_CONNECTED"])
class FullyConnected:
    """tf2onnx forgets the bias where it flattens the input first: it is flattened before that."""

    @classmethod
    def to_tf(cls, ctx: Any, node: Any, **kwargs: Any) -> None:
        node.set_attr("asymmetric_quantize_inputs", 0)
        if node.get_attr_int("keep_num_dims") == 0 and ctx.get_rank(node.input[0]) != _MATRIX:
            columns = ctx.get_shape(node.input[1])[1]
            _insert(ctx, node, "Reshape", np.array([-1, columns], np.int64))
        TflFullyConnectedOp.to_tf(ctx, node, **kwargs)


@tfl_op(["TFL_UNIDIRECTIONAL_SEQUENCE_LSTM"])
class SequenceLstm:
    """The plain LSTM of Keras as ONNX's; its states begin at zero."""

    @classmethod
    def to_tf(cls, ctx: Any, node: Any, **_kwargs: Any) -> None:
        names, shape = list(node.input), ctx.get_shape(node.output[0])
        clip = node.get_attr_value("cell_clip")
        plain = len(names) == _INPUTS and (clip == 0 or clip >= _SATURATED)
        tanh = node.get_attr_value("fused_activation_function") == b"TANH"
        utils.make_sure(plain and tanh, "only plain LSTMs are converted, %s is none", node.name)
        weights, recurrent, biases = (names[at : at + 4] for at in (1, 5, 9))
        hidden = ctx.get_shape(recurrent[0])[1]
        sequence = names[0]
        if not node.get_attr_int("time_major"):
            sequence = _op(ctx, "Transpose", [sequence], perm=[1, 0, 2])
        ctx.remove_node(node.name)
        silent = _constant(ctx, np.zeros(4 * hidden, np.float32))
        packed = [
            sequence,
            _stacked(ctx, [weights[gate] for gate in _GATES]),
            _stacked(ctx, [recurrent[gate] for gate in _GATES]),
            _stacked(ctx, [*(biases[gate] for gate in _GATES), silent]),
        ]
        run = _op(ctx, "LSTM", packed, hidden_size=hidden)
        steps = _op(ctx, "Squeeze", [run, _constant(ctx, np.array([1], np.int64))])
        order = [0, 1, 2] if node.get_attr_int("time_major") else [1, 0, 2]
        last = ctx.make_node(
            "Transpose",
            [steps],
            attr={"perm": order},
            outputs=node.output,
            shapes=[shape],
            dtypes=[1],
        )
        last.skip_conversion = True


def _insert(ctx: Any, node: Any, operator: str, argument: Any) -> None:
    made = ctx.make_node(operator, [node.input[0], _constant(ctx, argument)])
    made.skip_conversion = True
    ctx.set_dtype(made.output[0], ctx.get_dtype(node.input[0]))
    ctx.set_shape(made.output[0], argument.tolist())
    ctx.replace_input(node, node.input[0], made.output[0], 0)


def _stacked(ctx: Any, names: list[str]) -> str:
    """Gate by gate along the first axis, and an axis for the only direction before it."""
    joined = _op(ctx, "Concat", names, axis=0)
    return _op(ctx, "Unsqueeze", [joined, _constant(ctx, np.array([0], np.int64))])


def _op(ctx: Any, operator: str, inputs: list[str], **attributes: Any) -> str:
    made = ctx.make_node(operator, inputs, attr=attributes, dtypes=[1])
    made.skip_conversion = True
    return str(made.output[0])


def _constant(ctx: Any, value: Any) -> str:
    return str(ctx.make_const(utils.make_name("edgekit"), value).output[0])
