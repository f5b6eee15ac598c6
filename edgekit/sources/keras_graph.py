"""Keras files: run by the Keras that wrote them, traced with fixed shapes for tf2onnx."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from edgekit.domain import TensorSpec
from edgekit.errors import ModelError
from edgekit.sources.model import Original, Shapes
from edgekit.sources.shapes import fixed
from edgekit.sources.traced import Traceable


def _loaded(original: Original, wrote: str) -> tuple[Any, str]:
    """The model, and the name and version of the Keras that read it."""
    readers = (_keras_2, _keras_3) if wrote.startswith("2.") else (_keras_3, _keras_2)
    refusals = []
    for read in readers:
        try:
            return read(original.path, safe=not original.trusted)
        except Exception as error:  # whatever a layer raises about its configuration
            said = (str(error).splitlines() or [""])[0]
            refusals.append(f"{read.__doc__}: {type(error).__name__}: {said[:300]}")
    raise ModelError("Keras cannot read the model", "\n".join(refusals))


def _keras_3(path: Path, *, safe: bool) -> tuple[Any, str]:
    """Keras 3"""
    import keras

    return keras.models.load_model(
        path, compile=False, safe_mode=safe
    ), f"Keras {keras.__version__}"


def _keras_2(path: Path, *, safe: bool) -> tuple[Any, str]:
    """Keras 2"""
    import tf_keras

    model = tf_keras.models.load_model(path, compile=False, safe_mode=safe)
    return model, f"tf-keras {tf_keras.__version__}"


def traceable(original: Original, shapes: Shapes, wrote: str) -> Traceable:
    """The model of a file as a function, in inference mode.

    Args:
        original: the file, checked.
        shapes: for dynamic axes beyond the batch.
        wrote: the version of Keras that wrote it, or nothing.

    Raises:
        ModelError: neither Keras 3 nor Keras 2 can read it, it was never built, or it has a
            dynamic axis without a shape.
    """
    model, framework = _loaded(original, wrote)
    if not model.inputs:
        raise ModelError(
            "the model does not say what it takes: it was never called", "call it, then save it"
        )
    inputs = tuple(_spec(tensor, shapes) for tensor in model.inputs)
    if unknown := sorted(set(shapes) - {spec.name for spec in inputs}):
        names = ", ".join(spec.name for spec in inputs)
        raise ModelError(f"--shape names {unknown[0]!r}; the model's inputs: {names}")

    # A list, a dictionary, ... of inputs; a Sequential may not know, and takes one.
    structure = getattr(model, "input", model.inputs[0])

    def call(*tensors: Any) -> list[Any]:
        given = tf.nest.pack_sequence_as(structure, tensors)
        return list(tf.nest.flatten(model(given, training=False)))

    return Traceable(
        inputs=inputs,
        outputs=_output_names(model),
        function=call,
        owner=model,
        framework=framework,
    )


def _spec(tensor: Any, shapes: Shapes) -> TensorSpec:
    name = tensor.name.split(":")[0]
    dtype = np.dtype(getattr(tensor.dtype, "as_numpy_dtype", tensor.dtype)).name
    return TensorSpec(name, fixed(name, list(tensor.shape), shapes.get(name)), dtype)


def _output_names(model: Any) -> list[str]:
    names = list(getattr(model, "output_names", None) or [])
    count = len(model.outputs)
    plain = len(set(names)) == count
    return names if plain else [f"output_{index}" for index in range(count)]
