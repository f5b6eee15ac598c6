"""How far a network's outputs are from those of the one it was made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from edgekit.compression.activations import Sample, values

Array = NDArray[Any]

_HELD_OUT = 5
"""Every fifth sample judges."""

LOST = 1e6
"""Stands for outputs that have nothing to do with what they should be."""


def apart(samples: Sequence[Sample]) -> tuple[Sequence[Sample], Sequence[Sample]]:
    """Those that a network is made with, and those that judge it; a single one does both."""
    judging = samples[::_HELD_OUT]
    return [s for index, s in enumerate(samples) if index % _HELD_OUT] or judging, judging


def before_softmax(model: onnx.ModelProto) -> list[str]:
    """The outputs, a final softmax taken off: it hides how far values are from each other."""
    makers = {name: node for node in model.graph.node for name in node.output}
    names = [value.name for value in model.graph.output]
    softmax = [makers.get(name) for name in names]
    return [
        node.input[0] if node is not None and node.op_type == "Softmax" else name
        for name, node in zip(names, softmax, strict=True)
    ]


def outputs(
    model: onnx.ModelProto, names: Sequence[str], samples: Sequence[Sample]
) -> tuple[Array, ...]:
    """The outputs for all samples, stacked."""
    rows = list(values(model, names, samples))
    return tuple(np.stack(column) for column in zip(*rows, strict=True))


def difference(got: Sequence[Array], told: Sequence[Array]) -> float:
    """Squared error as a share of the variance over the samples, the mean of the outputs.

    Of a single sample, which has none, as a share of its square.
    ``LOST`` at the most, also where an output is no number any more.
    """
    shares = [
        float(np.sum((mine - its) ** 2) / max(np.sum((its - _middle(its)) ** 2), 1e-12))
        for mine, its in zip(got, told, strict=True)
        if its.dtype.kind == "f"
    ]
    share = sum(shares) / max(len(shares), 1)
    return share if share < LOST else LOST


def _middle(told: Array) -> Array:
    return np.asarray(told.mean(0)) if len(told) > 1 else np.zeros(1, told.dtype)
