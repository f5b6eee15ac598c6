"""TFLite files: run by TensorFlow's own interpreter, converted by tf2onnx with its gaps filled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.lite.tools import flatbuffer_utils

from edgekit.domain import TensorSpec
from edgekit.errors import ModelError
from edgekit.sources.difference import Array, largest_difference, largest_finite
from edgekit.sources.feeds import Feeds, random_feeds
from edgekit.sources.model import Shapes
from edgekit.sources.shapes import fixed
from edgekit.sources.tensorflow_graph import AGREES, OPSET, Ran

_STATE_TYPES = {0: np.float32, 7: np.int16, 9: np.int8}
_STEPS = 1
"""By how many steps of its scale a quantized output may be off."""


def convert(path: Path, shapes: Shapes, graph: Path) -> Ran:
    """Run the file and write its ONNX graph.

    Raises:
        ModelError: the interpreter cannot load or run it.
    """
    interpreter = _interpreter(path)
    inputs = tuple(_specs(interpreter, shapes))
    feeds = random_feeds(inputs)
    outputs = _run(interpreter, feeds)
    allowed = _allowed(path, interpreter, feeds, outputs)
    _to_onnx(path, graph)
    version = f"TensorFlow {tf.__version__}'s TFLite interpreter"
    return Ran(inputs=inputs, outputs=outputs, allowed=allowed, framework=version)


def _interpreter(path: Path, **options: Any) -> Any:
    try:
        return tf.lite.Interpreter(str(path), **options)
    except (RuntimeError, ValueError) as error:
        raise ModelError(f"TFLite cannot load the model: {_first_line(error)}") from error


def _specs(interpreter: Any, shapes: Shapes) -> list[TensorSpec]:
    details = interpreter.get_input_details()
    names = [detail["name"] for detail in details]
    if unknown := sorted(set(shapes) - set(names)):
        raise ModelError(f"--shape names {unknown[0]!r}; the model's inputs: {', '.join(names)}")
    specs = []
    for detail in details:
        declared = [int(size) if size > 0 else None for size in detail["shape_signature"]]
        shape = fixed(detail["name"], declared, shapes.get(detail["name"]))
        specs.append(TensorSpec(detail["name"], shape, np.dtype(detail["dtype"]).name))
    return specs


def _run(interpreter: Any, feeds: Feeds) -> list[Array]:
    """One run from the beginning: what an LSTM remembers is forgotten first."""
    details = interpreter.get_input_details()
    try:
        for detail in details:
            interpreter.resize_tensor_input(detail["index"], feeds[detail["name"]].shape)
        interpreter.allocate_tensors()
        interpreter.reset_all_variables()
        for detail in details:
            interpreter.set_tensor(detail["index"], feeds[detail["name"]])
        interpreter.invoke()
        return [interpreter.get_tensor(d["index"]) for d in interpreter.get_output_details()]
    except (RuntimeError, ValueError) as error:
        raise ModelError(f"TFLite cannot run the model: {_first_line(error)}") from error


def _allowed(path: Path, interpreter: Any, feeds: Feeds, outputs: list[Array]) -> tuple[float, ...]:
    """Rounding for a float model; of a quantized one a step, or what its own kernels differ by.

    TFLite's kernels for int8 weights under float activations quantize what flows between
    them on the fly, each in its own way.
    """
    steps = [
        float(_STEPS) if output.dtype.kind != "f" else AGREES * (largest_finite(output) or 1.0)
        for output in outputs
    ]
    if not any(detail["quantization"][0] for detail in interpreter.get_tensor_details()):
        return tuple(steps)
    resolver = tf.lite.experimental.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    others = _run(_interpreter(path, experimental_op_resolver_type=resolver), feeds)
    return tuple(
        _widened(step, largest_difference(a.astype(np.float64), b.astype(np.float64)))
        for step, a, b in zip(steps, outputs, others, strict=True)
    )


def _widened(step: float, kernels: float) -> float:
    """A step, or what the kernels differ by; infinitely (by NaN) allows nothing."""
    return max(step, kernels) if np.isfinite(kernels) else step


def _to_onnx(path: Path, graph: Path) -> None:
    from tf2onnx import convert as tf2onnx

    from edgekit.sources import tflite_operators  # noqa: F401 - registers its handlers

    prepared = graph.with_suffix(".tflite")
    flatbuffer_utils.write_model(_stateless(flatbuffer_utils.read_model(str(path))), str(prepared))
    tf2onnx.from_tflite(str(prepared), opset=OPSET, output_path=str(graph))


def _stateless(model: Any) -> Any:
    """Variables as the constants they begin as: ONNX has none, and a run begins anew."""
    for subgraph in model.subgraphs:
        for tensor in subgraph.tensors:
            if not tensor.isVariable:
                continue
            tensor.isVariable = False
            zero = tensor.quantization.zeroPoint if tensor.quantization else None
            start = 0 if zero is None else zero[0]
            value = np.full(tensor.shape, start, _STATE_TYPES[tensor.type])
            tensor.buffer = len(model.buffers)
            model.buffers.append(type(model.buffers[0])())
            model.buffers[-1].data = np.frombuffer(value.tobytes(), np.uint8)
    return model


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:400]
