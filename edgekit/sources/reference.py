"""What a graph gives as written: the outputs that every change to it is compared with."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from edgekit.errors import ModelError
from edgekit.sources.feeds import Feeds

NUMBERS = "fiub"
"""NumPy's kinds of what edgekit feeds and compares: no text, no objects."""

_AGREES = 1e-4
Outputs = dict[str, NDArray[Any]]


def run(model: onnx.ModelProto, feeds: Feeds) -> Outputs:
    """Run a graph once in ONNX Runtime, nothing fused.

    Raises:
        ModelError: it does not run, or gives something else than tensors of numbers.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # The reference is the graph as written: nothing is fused before it is compared.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        names = [value.name for value in session.get_outputs()]
        outputs = dict(zip(names, session.run(names, feeds), strict=True))
    except Exception as error:
        raise ModelError(
            f"ONNX Runtime cannot run the model: {str(error).splitlines()[0][:400]}",
            "the file may be damaged, need custom operators, or need --shape",
        ) from error
    for name, array in outputs.items():
        if not isinstance(array, np.ndarray) or array.dtype.kind not in NUMBERS:
            raise ModelError(
                f"output {name!r} is no tensor of numbers (text, a sequence, a map, ...)",
                "export the model without it",
            )
    return outputs


def agree(got: Outputs, expected: Outputs) -> bool:
    """Whether outputs differ by rounding only: under 1e-4 of the largest finite value."""
    return all(_agree(got[name], array) for name, array in expected.items())


def _agree(got: NDArray[Any], expected: NDArray[Any]) -> bool:
    if got.shape != expected.shape or got.dtype != expected.dtype:
        return False
    if expected.dtype.kind != "f":
        return bool(np.array_equal(got, expected))
    finite = expected[np.isfinite(expected)]
    scale = float(np.max(np.abs(finite), initial=0.0)) or 1.0
    return bool(np.allclose(got, expected, rtol=0.0, atol=_AGREES * scale, equal_nan=True))
