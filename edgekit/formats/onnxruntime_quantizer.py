"""Quantizing an ONNX graph with ONNX Runtime's own tools; called in a process of its own."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.onnx_model import ONNXModel
from onnxruntime.quantization.shape_inference import quant_pre_process

from edgekit.datasets import Dataset
from edgekit.domain import Granularity, Mode, NodeCost, Quantization
from edgekit.errors import ToolError
from edgekit.formats import ort_file, qdq
from edgekit.toolchain import frameworks

_TYPES = {"int8": QuantType.QInt8, "uint8": QuantType.QUInt8}
_DYNAMIC_OPERATORS = ["MatMul", "Gemm", "Attention", "LSTM", "Gather", "EmbedLayerNormalization"]

_CHANNEL_AXIS = {"Conv": 0, "ConvTranspose": 1, "MatMul": 1}
_MIN_WEIGHT_RANK = 2


def quantize(
    source: Path,
    destination: Path,
    quantization: Quantization,
    calibration: Dataset | None,
    float_nodes: Collection[str] = (),
    cache: Path | None = None,
) -> None:
    """Write a quantized copy of the graph.

    Args:
        source: the normalised float graph.
        destination: where the quantized one goes.
        quantization: ``static`` inserts QDQ pairs from calibrated ranges.
        calibration: samples, for ``static`` only.
        float_nodes: what ``static`` leaves in float, by the names of ``sensitivity``.
        cache: where the ranges are kept for another time.

    Raises:
        DataError: ``static`` without calibration.
        ToolError: what was made is not a valid graph.
    """
    with _prepared(source) as prepared:
        if quantization.mode is Mode.STATIC:
            qdq.insert(prepared, destination, quantization, calibration, None, float_nodes, cache)
        else:
            _WITHOUT_DATA[quantization.mode](prepared, destination, quantization)
    try:
        onnx.checker.check_model(str(destination), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ToolError(f"the quantized graph is not valid: {error}") from error


def sensitivity(
    source: Path, quantization: Quantization, calibration: Dataset, cache: Path | None
) -> tuple[NodeCost, ...]:
    """What each node costs that alone is quantized; see ``quantize``."""
    with _prepared(source) as prepared:
        return qdq.sensitivity(prepared, quantization, calibration, cache)


@contextmanager
def _prepared(source: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="edgekit-quantize-") as folder:
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        yield prepared


def _dynamic(source: Path, destination: Path, quantization: Quantization) -> None:
    quantize_dynamic(
        str(source),
        str(destination),
        op_types_to_quantize=_DYNAMIC_OPERATORS,
        per_channel=quantization.granularity is Granularity.PER_CHANNEL,
        reduce_range=quantization.reduced_range,
        weight_type=_TYPES[quantization.weights],
    )


def _float16(source: Path, destination: Path, _quantization: Quantization) -> None:
    """Half precision inside; inputs and outputs keep their types.

    Softmax stays in float, as it does in mixed-precision training (Micikevicius et al., 2018,
    section 3.3: reductions); ONNX Runtime would make five operators of one in half precision.
    """
    from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

    in_float = [*DEFAULT_OP_BLOCK_LIST, "Softmax", "LogSoftmax"]
    whole = onnx.load(source)
    converted = ONNXModel(
        convert_float_to_float16(whole, keep_io_types=True, op_block_list=in_float)
    )
    converted.topological_sort()
    model = converted.model
    destination.write_bytes(model.SerializeToString(deterministic=True))


def _weight_only(source: Path, destination: Path, _quantization: Quantization) -> None:
    """Weights of matrix products and convolutions in int8, one scale per output channel.

    ONNX Runtime's tools quantize weights alone for MatMul only; a DequantizeLinear in
    front of any weight is plain ONNX (opset 13), and is folded when the model is loaded.
    """
    model = onnx.load(source)
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in list(model.graph.node):
        name = node.input[1] if len(node.input) > 1 else ""
        weight = constants.get(name)
        axis = _channel_axis(node)
        if weight is None or axis is None or len(weight.dims) < _MIN_WEIGHT_RANK:
            continue
        if weight.data_type == onnx.TensorProto.FLOAT:
            _dequantized(model.graph, weight, axis)
            del constants[name]
    destination.write_bytes(model.SerializeToString(deterministic=True))


_WITHOUT_DATA = {Mode.DYNAMIC: _dynamic, Mode.FLOAT16: _float16, Mode.WEIGHT_ONLY: _weight_only}


def _channel_axis(node: onnx.NodeProto) -> int | None:
    """The weight's axis of output channels; ``None`` for what has no weight."""
    if node.op_type == "Gemm":
        return 0 if any(a.name == "transB" and a.i for a in node.attribute) else 1
    return _CHANNEL_AXIS.get(node.op_type)


def _dequantized(graph: onnx.GraphProto, weight: onnx.TensorProto, axis: int) -> None:
    """Replace a float weight by its int8 values, scales and a DequantizeLinear of its name."""
    name = weight.name
    stored, scale = _per_channel(numpy_helper.to_array(weight), axis)
    graph.initializer.remove(weight)
    graph.initializer.append(numpy_helper.from_array(stored, f"{name}_int8"))
    graph.initializer.append(numpy_helper.from_array(scale, f"{name}_scale"))
    inputs = [f"{name}_int8", f"{name}_scale"]
    node = helper.make_node(
        "DequantizeLinear", inputs, [name], name=f"{name}_dequantize", axis=axis
    )
    graph.node.insert(0, node)


def _per_channel(weight: NDArray[Any], axis: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Symmetric int8: ``weight ~ int8 * scale``, one scale along ``axis``."""
    others = tuple(a for a in range(weight.ndim) if a != axis)
    peak = np.max(np.abs(weight), axis=others, keepdims=True)
    scale = np.where(peak > 0, peak / 127, 1).astype(np.float32)
    stored = np.clip(np.round(weight / scale), -127, 127).astype(np.int8)
    return stored, scale.reshape(-1)


def mobile_files(path: Path) -> tuple[str, ...]:
    """Write ``model.ort`` and its required-operators file beside an ``.onnx``; their names.

    Raises:
        ToolError: ONNX Runtime cannot convert it.
    """
    with frameworks.hidden():
        from onnxruntime.tools.convert_onnx_models_to_ort import (
            OptimizationStyle,
            convert_onnx_models_to_ort,
        )

    with tempfile.TemporaryDirectory(prefix="edgekit-ort-") as folder:
        try:
            convert_onnx_models_to_ort(
                path, output_dir=Path(folder), optimization_styles=[OptimizationStyle.Fixed]
            )
        except Exception as error:
            raise ToolError(f"cannot make {path.stem}.ort: {error}") from error
        graph, needed = f"{path.stem}.ort", f"{path.stem}.required_operators.config"
        (path.parent / graph).write_bytes(
            ort_file.sorted_bytes((Path(folder) / graph).read_bytes())
        )
        # It names the folder that it was made in.
        told = (Path(folder) / needed).read_text(encoding="utf-8").replace(f"{folder}/", "")
        (path.parent / needed).write_text(told, encoding="utf-8")
    return graph, needed
