"""LiteRT models that others made; tests that need one are skipped where it is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.runtime_stubs.bundles import Array, Contents, Tensor
from tests.runtime_stubs.harness import ask

_MODELS = Path(__file__).parents[3] / "shared" / "assets" / "models"
INT8 = _MODELS / "mlperf_kws_dscnn" / "kws_ref_model.tflite"
OPEN = _MODELS / "mlperf_vww_mobilenetv1" / "vww_96_int8.tflite"
SIGNED = _MODELS / "mnist_lstm" / "trained_lstm_int8.tflite"


def needs(model: Path) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not model.exists(), reason=f"{model.name} is not here")


def golden_of(model: Path, samples: int = 3) -> Contents:
    """A bundle of a LiteRT model whose golden outputs are what this machine's LiteRT gives."""
    _, (described,) = ask("describe", model, "--runtime", "litert")
    (given,), (taken,) = described["output_details"], described["input_details"]
    random = np.random.default_rng(0)
    x = random.integers(-100, 100, (samples, *taken["shape"])).astype(taken["dtype"])
    return Contents(
        model,
        "litert",
        ["ai_edge_litert"],
        [Tensor(taken["name"], x, (taken["scale"], taken["zero_point"]))],
        [Tensor(given["name"], _inferred(model, x), (given["scale"], given["zero_point"]))],
    )


def _inferred(model: Path, x: Array) -> Array:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(model))
    interpreter.allocate_tensors()
    (taken,), (given,) = interpreter.get_input_details(), interpreter.get_output_details()
    outputs = []
    for sample in x:
        interpreter.reset_all_variables()  # an LSTM remembers; each sample is a beginning
        interpreter.set_tensor(taken["index"], sample)
        interpreter.invoke()
        outputs.append(interpreter.get_tensor(given["index"]))
    return np.stack(outputs)
