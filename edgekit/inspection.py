"""What a graph costs: multiply-accumulates and bytes per node, and the peak of live activations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from pathlib import Path

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper

from edgekit.domain import GraphSize, ModelSummary, NodeSummary, TensorSpec
from edgekit.errors import ModelError
from edgekit.sources import SourceModel

QUANTIZED_OPERATORS = frozenset(
    {
        "QuantizeLinear",
        "DequantizeLinear",
        "DynamicQuantizeLinear",
        "QLinearConv",
        "QLinearMatMul",
        "ConvInteger",
        "MatMulInteger",
    }
)

_IN_PLACE = frozenset(
    {"Relu", "LeakyRelu", "Clip", "Sigmoid", "Tanh", "HardSwish", "Elu", "Gelu", "Softmax"}
    | {"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout", "BatchNormalization"}
)

_WEIGHT = {"Conv": 1, "ConvInteger": 1, "ConvTranspose": 1, "QLinearConv": 3}
"""Where convolutions take their weight: QLinearConv behind the input, its scale and zero point."""

_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
_MOST_OF_A_SHAPE = 1024
_VALUES = ("raw_data", "float_data", "double_data", "int32_data", "int64_data", "uint64_data")
Tensors = Mapping[str, TensorSpec]


def inspect(source: SourceModel) -> ModelSummary:
    """Summarise a normalised graph.

    Raises:
        ModelError: the shape of an intermediate tensor cannot be inferred.
    """
    model = _inferred(source.graph)
    constants = {t.name: t for t in model.graph.initializer}
    tensors = _tensors(model)
    nodes = _summaries(model, tensors, constants)
    return ModelSummary(
        sha256=source.sha256,
        name=source.name,
        opset=source.opset,
        inputs=source.inputs,
        outputs=source.outputs,
        nodes=nodes,
        parameters=sum(node.parameters for node in nodes),
        parameter_bytes=sum(node.parameter_bytes for node in nodes),
        macs=sum(node.macs for node in nodes),
        activation_peak_bytes=_activation_peak(model, tensors, constants),
        quantized=any(node.op in QUANTIZED_OPERATORS for node in nodes),
    )


def size(graph: Path) -> GraphSize:
    """A graph on disk in four numbers."""
    model = _inferred(graph)
    constants = {t.name: t for t in model.graph.initializer}
    tensors = _tensors(model)
    made = [node.output[0] for node in model.graph.node if node.op_type == "Constant"]
    weights = (tensors[name] for name in (*constants, *made) if name in tensors)
    try:
        macs: int | None = sum(n.macs for n in _summaries(model, tensors, constants))
    except ModelError:
        macs = None
    return GraphSize(
        nodes=len(model.graph.node),
        transposes=sum(node.op_type == "Transpose" for node in model.graph.node),
        macs=macs,
        weight_bytes=sum(map(size_bytes, weights)),
    )


def macs(model: onnx.ModelProto) -> dict[str, int]:
    """Multiply-accumulates of each node of a normalised graph, by its name."""
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    constants = {t.name: t for t in inferred.graph.initializer}
    return {n.name: n.macs for n in _summaries(inferred, _tensors(inferred), constants)}


def _inferred(graph: Path) -> onnx.ModelProto:
    """The graph with every shape that can be inferred, and without the values of its weights.

    Nothing here looks at them, and inference copies them twice; small ones may be shapes.
    """
    model = onnx.load(graph)
    for constant in model.graph.initializer:
        if prod(constant.dims) > _MOST_OF_A_SHAPE:
            for values in _VALUES:
                constant.ClearField(values)
    return onnx.shape_inference.infer_shapes(model, data_prop=True)


def size_bytes(spec: TensorSpec) -> int:
    """What a tensor takes in memory."""
    return spec.elements * np.dtype(spec.dtype).itemsize


def _tensors(model: onnx.ModelProto) -> dict[str, TensorSpec]:
    graph = model.graph
    found = {}
    for value in (*graph.input, *graph.value_info, *graph.output):
        tensor = value.type.tensor_type
        shape = tuple(dim.dim_value for dim in tensor.shape.dim)
        if tensor.elem_type and tensor.HasField("shape") and all(shape):
            dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
            found[value.name] = TensorSpec(value.name, shape, dtype)
    for constant in graph.initializer:
        dtype = helper.tensor_dtype_to_np_dtype(constant.data_type).name
        found[constant.name] = TensorSpec(constant.name, tuple(constant.dims), dtype)
    return found


def _summaries(
    model: onnx.ModelProto, tensors: Tensors, constants: Mapping[str, TensorProto]
) -> tuple[NodeSummary, ...]:
    counted: set[str] = set()
    summaries = []
    for node in model.graph.node:
        if not any(name in tensors for name in node.output if name):
            raise ModelError(
                f"the shape of {node.output[0]!r} ({node.op_type} {node.name!r}) is not known "
                "before the model runs",
                "edgekit needs fixed shapes: export the model without data-dependent shapes",
            )
        fresh = [n for n in node.input if n in constants and n not in counted]
        counted.update(fresh)
        summaries.append(_summary(node, tensors, constants, fresh))
    return tuple(summaries)


def _summary(
    node: NodeProto, tensors: Tensors, constants: Mapping[str, TensorProto], fresh: list[str]
) -> NodeSummary:
    outputs = [tensors[name] for name in node.output if name in tensors]
    inputs = [tensors[n] for n in node.input if n in tensors and n not in constants]
    group = _attribute(node, "group", 1)
    count = _MACS.get(node.op_type, _no_macs)
    return NodeSummary(
        name=node.name,
        op=node.op_type,
        macs=count(node, tensors, outputs[0]),
        parameters=sum(tensors[name].elements for name in fresh),
        parameter_bytes=sum(size_bytes(tensors[name]) for name in fresh),
        input_elements=sum(spec.elements for spec in inputs),
        output_elements=sum(spec.elements for spec in outputs),
        output_shape=outputs[0].shape,
        group=group,
        input_type=tensors[node.input[0]].dtype if node.input and node.input[0] in tensors else "",
        channelwise=group > 1 and bool(inputs) and group == inputs[0].shape[1],
        taps=_taps(node, tensors),
    )


def _attribute(node: NodeProto, name: str, default: int) -> int:
    for attribute in node.attribute:
        if attribute.name == name:
            return int(attribute.i)
    return default


def _taps(node: NodeProto, tensors: Tensors) -> int:
    """Elements of the window: of a pooling by its attribute, of a convolution by its weight."""
    if weight := _WEIGHT.get(node.op_type):
        return prod(tensors[node.input[weight]].shape[2:])
    return prod(next((a.ints for a in node.attribute if a.name == "kernel_shape"), ()))


def _no_macs(_node: NodeProto, _tensors: Tensors, _output: TensorSpec) -> int:
    return 0


def _conv_macs(node: NodeProto, tensors: Tensors, output: TensorSpec) -> int:
    """Each output element takes one weight of its filter per input channel and kernel element."""
    weight = node.input[_WEIGHT[node.op_type]]
    return output.elements * prod(tensors[weight].shape[1:])


def _transposed_conv_macs(node: NodeProto, tensors: Tensors, _output: TensorSpec) -> int:
    return tensors[node.input[0]].elements * prod(tensors[node.input[1]].shape[1:])


def _gemm_macs(node: NodeProto, tensors: Tensors, output: TensorSpec) -> int:
    shape = tensors[node.input[0]].shape
    return output.elements * shape[0 if _attribute(node, "transA", 0) else -1]


def _matmul_macs(node: NodeProto, tensors: Tensors, output: TensorSpec) -> int:
    return output.elements * tensors[node.input[0]].shape[-1]


def _recurrent_macs(node: NodeProto, tensors: Tensors, _output: TensorSpec) -> int:
    """Per step and direction: every gate multiplies the input and the hidden state."""
    steps, batch, size = tensors[node.input[0]].shape
    directions, _, hidden = tensors[node.input[2]].shape
    return steps * batch * directions * _GATES[node.op_type] * hidden * (size + hidden)


_MACS: dict[str, Callable[[NodeProto, Tensors, TensorSpec], int]] = {
    "Conv": _conv_macs,
    "ConvInteger": _conv_macs,
    "QLinearConv": _conv_macs,
    "ConvTranspose": _transposed_conv_macs,
    "Gemm": _gemm_macs,
    "MatMul": _matmul_macs,
    "MatMulInteger": _matmul_macs,
    "QLinearMatMul": _matmul_macs,
    "LSTM": _recurrent_macs,
    "GRU": _recurrent_macs,
    "RNN": _recurrent_macs,
}


def _activation_peak(
    model: onnx.ModelProto, tensors: Tensors, constants: Mapping[str, TensorProto]
) -> int:
    """The most that activations take at once: each lives from its making to its last use.

    What is computed from constants alone is no activation, and a node of ``_IN_PLACE``
    writes over an input that nobody reads later.
    """
    outputs = {value.name for value in model.graph.output}
    last_use = {name: len(model.graph.node) for name in outputs}
    for index, node in enumerate(model.graph.node):
        last_use |= {name: index for name in node.input if name not in outputs}
    fixed = set(constants)
    live = {v.name: size_bytes(tensors[v.name]) for v in model.graph.input}
    peak = sum(live.values())
    for index, node in enumerate(model.graph.node):
        if all(name in fixed for name in node.input if name):
            fixed.update(node.output)
            continue
        if node.op_type in _IN_PLACE and last_use.get(node.input[0]) == index:
            live.pop(node.input[0], None)
        live |= {name: size_bytes(tensors[name]) for name in node.output if name in tensors}
        peak = max(peak, sum(live.values()))
        live = {name: size for name, size in live.items() if last_use.get(name, -1) > index}
    return peak
