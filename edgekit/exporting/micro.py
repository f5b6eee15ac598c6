"""What TensorFlow Lite for Microcontrollers (TFLM) needs of a model: its kernels, and memory.

After the public sources of TFLM as of August 2026: the operators are those that
``micro_mutable_op_resolver.h`` has a method for, and memory is planned as
``greedy_memory_planner.cc`` and ``micro_allocation_info.cc`` do it.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from msgspec import Struct

from edgekit.errors import UsageError
from edgekit.exporting.tflite import Graph, Operator, Tensor

_WITH_KERNELS = """
    ABS ADD ADD_N ARG_MAX ARG_MIN ASSIGN_VARIABLE AVERAGE_POOL_2D BATCH_MATMUL
    BATCH_TO_SPACE_ND BROADCAST_ARGS BROADCAST_TO CALL_ONCE CAST CEIL CONCATENATION CONV_2D
    COS CUMSUM DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE DIV DYNAMIC_UPDATE_SLICE ELU
    EMBEDDING_LOOKUP EQUAL EXP EXPAND_DIMS FILL FLOOR FLOOR_DIV FLOOR_MOD FULLY_CONNECTED
    GATHER GATHER_ND GREATER GREATER_EQUAL HARD_SWISH IF L2_NORMALIZATION L2_POOL_2D
    LEAKY_RELU LESS LESS_EQUAL LOG LOGICAL_AND LOGICAL_NOT LOGICAL_OR LOGISTIC LOG_SOFTMAX
    MAXIMUM MAX_POOL_2D MEAN MINIMUM MIRROR_PAD MUL NEG NOT_EQUAL PACK PAD PADV2 PRELU
    QUANTIZE READ_VARIABLE REDUCE_ALL REDUCE_MAX REDUCE_MIN RELU RELU6 RESHAPE
    RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR REVERSE_V2 ROUND RSQRT SELECT_V2 SHAPE SIN SLICE
    SOFTMAX SPACE_TO_BATCH_ND SPACE_TO_DEPTH SPLIT SPLIT_V SQRT SQUARE SQUARED_DIFFERENCE
    SQUEEZE STRIDED_SLICE SUB SUM SVDF TANH TRANSPOSE TRANSPOSE_CONV
    UNIDIRECTIONAL_SEQUENCE_LSTM UNPACK VAR_HANDLE WHILE ZEROS_LIKE
"""
_OPERATORS = frozenset(_WITH_KERNELS.split())
_ODD_METHODS = {
    "AVERAGE_POOL_2D": "AveragePool2D",
    "BATCH_MATMUL": "BatchMatMul",
    "CONV_2D": "Conv2D",
    "CUMSUM": "CumSum",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2D",
    "L2_POOL_2D": "L2Pool2D",
    "MAX_POOL_2D": "MaxPool2D",
    "PADV2": "PadV2",
    "UNIDIRECTIONAL_SEQUENCE_LSTM": "UnidirectionalSequenceLSTM",
}
_TYPES = {"float32", "int32", "uint8", "int64", "bool", "int16", "int8", "int4"}
_WEIGHTED = {
    "CONV_2D": (0, 1),
    "DEPTHWISE_CONV_2D": (0, 1),
    "FULLY_CONNECTED": (0, 1),
    "BATCH_MATMUL": (0, 1),
    "TRANSPOSE_CONV": (2, 1),
}
"""Which inputs are an operator's values and its weights."""
_DEQUANTIZED = ("int8", "int16", "uint8")
_PER_CHANNEL = ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV")

_ALIGNMENT = 16
_FIXED_BYTES, _TENSOR_BYTES, _OPERATOR_BYTES, _CHANNEL_BYTES = 1024, 24, 192, 8
"""Of the interpreter, and of what it keeps for each tensor, operator and output channel: with
64-bit pointers, which is more than a microcontroller takes. The first and third are rounded up
from what TFLM's own allocator recorded for fourteen networks."""
_LSTM_BYTES = 640
_INFO_BYTES, _BUFFER_BYTES = 32, 40
"""What planning itself takes for each tensor, and for each that is placed: ``AllocationInfo``, and
the planner's own tables."""
_ACCUMULATOR_BYTES = {"int8": 4, "int16": 8}


class Arena(Struct, frozen=True, kw_only=True):
    """An estimate of the memory that an interpreter needs, in bytes.

    Attributes:
        tensors: what lives at the same time, laid out as TFLM's planner does.
        planning: what the planner takes before, in the same place.
        kept: what the interpreter and the reference kernels keep for good.
    """

    tensors: int
    planning: int
    kept: int

    @property
    def total(self) -> int:
        return _aligned(max(self.tensors, self.planning) + self.kept)


def methods(graphs: Sequence[Graph]) -> tuple[str, ...]:
    """The methods of TFLM's resolver that register a model's operators: ``AddConv2D``.

    Raises:
        UsageError: TFLM has no kernel for an operator, or not for its types.
    """
    operators = [operator for graph in graphs for operator in graph.operators]
    if unknown := sorted({operator.name for operator in operators} - _OPERATORS):
        raise UsageError(
            f"TFLite Micro has no kernel for {', '.join(unknown)}",
            "change the layers they come from, or run the model on LiteRT",
        )
    for graph in graphs:
        _check_types(graph)
    return tuple(sorted({_method(operator.name) for operator in operators}))


def _method(name: str) -> str:
    words = "".join(word.capitalize() for word in name.split("_"))
    return "Add" + _ODD_METHODS.get(name, words)


def _check_types(graph: Graph) -> None:
    hint = "build the bundle with --precision int8-static or float32"
    if odd := sorted({tensor.dtype for tensor in graph.tensors} - _TYPES):
        raise UsageError(f"TFLite Micro's kernels take no {', '.join(odd)}", hint)
    for operator in graph.operators:
        if operator.name == "DEQUANTIZE":
            _check_dequantized(graph.tensors[operator.inputs[0]], hint)
        values, weights = _types(operator, graph)
        if values == "float32" != weights:
            raise UsageError(
                f"{operator.name} has {weights} weights for float32 values, which TFLite Micro's "
                "kernels do not take",
                hint,
            )


def _check_dequantized(tensor: Tensor, hint: str) -> None:
    """Its kernel takes the first scale for all, without an error."""
    if tensor.dtype not in _DEQUANTIZED or tensor.scales > 1:
        raise UsageError(
            f"weights of {tensor.dtype} with {tensor.scales} scales are dequantized, TFLite "
            f"Micro's kernel takes {' or '.join(_DEQUANTIZED)} with one",
            hint,
        )


def _types(operator: Operator, graph: Graph) -> tuple[str, str]:
    """Of an operator's values and its weights; empty where it has none."""
    if operator.name not in _WEIGHTED:
        return "", ""
    values, weights = (operator.inputs[place] for place in _WEIGHTED[operator.name])
    return graph.tensors[values].dtype, graph.tensors[weights].dtype


def arena(graphs: Sequence[Graph]) -> Arena:
    """Estimate the memory of an interpreter."""
    lives = [_lives(graph) for graph in graphs]
    return Arena(
        tensors=sum(map(_planned, lives)),
        planning=_INFO_BYTES * sum(len(graph.tensors) for graph in graphs)
        + _BUFFER_BYTES * sum(map(len, lives)),
        kept=_FIXED_BYTES + sum(_kept(graph) for graph in graphs),
    )


class _Life(Struct, frozen=True):
    """A tensor's size, and from which operator to which it lives."""

    size: int
    first: int
    last: int


def _lives(graph: Graph) -> list[_Life]:
    """Of every tensor that is neither constant nor a variable, and of kernels' scratch memory."""
    first, last = dict.fromkeys(graph.inputs, 0), dict.fromkeys(graph.inputs, 0)
    for step, operator in enumerate(graph.operators, 1):
        for index in operator.outputs:
            first.setdefault(index, step)
        last |= dict.fromkeys((*operator.inputs, *operator.outputs), step)
    for index in graph.outputs:
        first.setdefault(index, len(graph.operators))
        last[index] = len(graph.operators)
    tensors = [
        _Life(_aligned(tensor.size_bytes), first[index], last[index])
        for index, tensor in enumerate(graph.tensors)
        if index in first and not tensor.constant and not tensor.variable and tensor.size_bytes
    ]
    scratch = [_scratch(operator, graph) for operator in graph.operators]
    return tensors + [
        _Life(_aligned(size), step, step) for step, size in enumerate(scratch, 1) if size
    ]


def _scratch(operator: Operator, graph: Graph) -> int:
    """Of the reference kernels, where it counts: 4-bit weights unpacked, sums before rounding."""
    _, weights = _types(operator, graph)
    size = 0
    if weights == "int4":
        size += prod(graph.tensors[operator.inputs[_WEIGHTED[operator.name][1]]].shape)
    if operator.name == "TRANSPOSE_CONV":
        output = graph.tensors[operator.outputs[0]]
        size += prod(output.shape) * _ACCUMULATOR_BYTES.get(output.dtype, 0)
    return size


def _planned(lives: Sequence[_Life]) -> int:
    """Where the last byte ends: the largest first, each at the first gap among its neighbours.

    Of two of the same size the later one goes first.
    """
    placed: list[tuple[int, _Life]] = []
    order = sorted(range(len(lives)), key=lambda index: (-lives[index].size, -index))
    for life in (lives[index] for index in order):
        start = 0
        for offset, other in placed:
            if other.first <= life.last and life.first <= other.last:
                if offset - start >= life.size:
                    break
                start = max(start, offset + other.size)
        placed.append((start, life))
        placed.sort(key=lambda each: each[0])
    return max((offset + life.size for offset, life in placed), default=0)


def _kept(graph: Graph) -> int:
    variables = sum(_aligned(each.size_bytes) for each in graph.tensors if each.variable)
    tensors = _TENSOR_BYTES * len(graph.tensors)
    return variables + tensors + sum(_kept_for(operator, graph) for operator in graph.operators)


def _kept_for(operator: Operator, graph: Graph) -> int:
    channels = 0
    if operator.name in _PER_CHANNEL:
        channels = graph.tensors[operator.outputs[0]].shape[-1]
    lstm = _LSTM_BYTES * (operator.name == "UNIDIRECTIONAL_SEQUENCE_LSTM")
    return _OPERATOR_BYTES + _CHANNEL_BYTES * channels + lstm


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT
