"""A TensorFlow function with fixed shapes: run as it is, and converted by tf2onnx."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import tensorflow as tf

from edgekit.domain import TensorSpec
from edgekit.sources.difference import largest_finite
from edgekit.sources.feeds import random_feeds
from edgekit.sources.tensorflow_graph import AGREES, OPSET, Ran

Function = Callable[..., list[Any]]


def convert(
    function: Function,
    inputs: tuple[TensorSpec, ...],
    outputs: Sequence[str],
    graph: Path,
    framework: str,
) -> Ran:
    """Run a function for ``random_feeds(inputs)``, and write its ONNX graph.

    Args:
        function: takes one tensor per input, gives one per output.
        inputs: names, fixed shapes and types.
        outputs: their names, in order.
        graph: where the ONNX graph goes.
        framework: what runs it, for messages.
    """
    from tf2onnx import convert as tf2onnx

    feeds = random_feeds(inputs)
    got = [np.asarray(array) for array in function(*(tf.constant(feeds[i.name]) for i in inputs))]
    named = tf.function(lambda *tensors: dict(zip(outputs, function(*tensors), strict=True)))
    signature = [tf.TensorSpec(spec.shape, spec.dtype, spec.name) for spec in inputs]
    model, _ = tf2onnx.from_function(named, signature, opset=OPSET)
    _reorder(model.graph.input, [spec.name for spec in inputs])
    _reorder(model.graph.output, outputs)
    onnx.save(model, graph)
    return Ran(
        inputs=inputs,
        outputs=got,
        allowed=tuple(
            AGREES * (largest_finite(a) or 1.0) if a.dtype.kind == "f" else 0.0 for a in got
        ),
        framework=framework,
    )


def _reorder(values: Any, names: Sequence[str]) -> None:
    """TensorFlow sorts what it names; the order of the user's model is kept."""
    by_name = {value.name: value for value in values}
    ordered = [by_name[name] for name in names]
    del values[:]
    values.extend(ordered)
