"""A TensorFlow function with fixed shapes: run as it is, and converted by tf2onnx."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import tensorflow as tf
from msgspec import Struct
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from edgekit.domain import TensorSpec
from edgekit.errors import ModelError
from edgekit.sources.difference import largest_finite
from edgekit.sources.feeds import random_feeds
from edgekit.sources.tensorflow_graph import AGREES, OPSET, Ran

Function = Callable[..., list[Any]]


class Traceable(Struct, frozen=True, kw_only=True):
    """A model as a function.

    Attributes:
        inputs: names, fixed shapes and types.
        outputs: their names, in order.
        function: takes one tensor per input, gives one per output.
        owner: holds the variables; they go with it.
        framework: what runs it, with its version.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: list[str]
    function: Function
    owner: Any
    framework: str

    def frozen(self) -> tuple[Any, list[tf.TensorSpec]]:
        """A ``tf.function`` with named inputs and outputs that holds its weights; its signature.

        What a function captures (its variables, and tensors that a layer keeps) would else
        be inputs of the graph, or variables that nothing sets on the device.
        """
        signature = [tf.TensorSpec(spec.shape, spec.dtype, spec.name) for spec in self.inputs]
        with _without_xla():
            captures = tf.function(self.function).get_concrete_function(*signature)
        constant = convert_variables_to_constants_v2(captures, lower_control_flow=False)

        def named(*tensors: Any) -> dict[str, Any]:
            return dict(zip(self.outputs, tf.nest.flatten(constant(*tensors)), strict=True))

        return tf.function(named), signature


def convert(model: Traceable, graph: Path) -> Ran:
    """Run a model for ``random_feeds(inputs)``, and write its ONNX graph."""
    from tf2onnx import convert as tf2onnx

    from edgekit.sources import traced_operators  # noqa: F401 - registers its handlers

    feeds = random_feeds(model.inputs)
    tensors = [tf.constant(feeds[spec.name]) for spec in model.inputs]
    got = [np.asarray(array) for array in model.function(*tensors)]
    converted, _ = tf2onnx.from_function(*model.frozen(), opset=OPSET)
    _reorder(converted.graph.input, [spec.name for spec in model.inputs])
    _reorder(converted.graph.output, model.outputs)
    onnx.save(converted, graph)
    allowed = tuple(
        AGREES * (largest_finite(array) or 1.0) if array.dtype.kind == "f" else 0.0 for array in got
    )
    return Ran(inputs=model.inputs, outputs=got, allowed=allowed, framework=model.framework)


def to_tflite(model: Traceable, destination: Path) -> None:
    """Write the model as a float ``.tflite`` with TensorFlow's own converter."""
    function, signature = model.frozen()
    concrete = function.get_concrete_function(*signature)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], tf.Module())
    destination.write_bytes(converter.convert())


@contextmanager
def _without_xla() -> Iterator[None]:
    """Within, functions are traced as a part of the graph: no converter looks into XLA's.

    Keras 3 compiles grouped convolutions so.
    """
    function = tf.function

    def plain(*of: Any, **how: Any) -> Any:
        return function(*of, **(how | {"jit_compile": None}))

    tf.function = plain
    try:
        yield
    finally:
        tf.function = function


def _reorder(values: Any, names: Sequence[str]) -> None:
    """TensorFlow sorts what it names; the order of the user's model is kept."""
    by_name = {value.name: value for value in values}
    if by_name.keys() != set(names):
        raise ModelError(f"tf2onnx made {', '.join(by_name)} of {', '.join(names)}")
    ordered = [by_name[name] for name in names]
    del values[:]
    values.extend(ordered)
