"""Train a small convolutional network on scikit-learn's digits and write it as ONNX.

    python examples/digits/train.py

needs scikit-learn (`pip install edgekit[train]`), takes about a minute, and writes
``digits.onnx``, ``calibration.npz`` and ``evaluation.npz`` beside this file. The network
is plain NumPy, so that no training framework is needed to run the example; a real one
would come from PyTorch or Keras.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits

HERE = Path(__file__).parent
Array = NDArray[Any]
Weights = dict[str, Array]

EPOCHS, BATCH, RATE = 30, 64, 2e-3
TRAINED, CALIBRATED = 1200, 100


def main() -> None:
    """Train, report, and write the three files."""
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    x = (x[order] / 16).astype(np.float32).reshape(-1, 1, 8, 8)
    y = y[order]
    weights = train(x[:TRAINED], y[:TRAINED], epochs=EPOCHS)
    accuracy = np.mean(forward(weights, x[TRAINED:])[0].argmax(1) == y[TRAINED:])
    print(f"held-out accuracy {accuracy:.4f} on {len(x) - TRAINED} samples")
    onnx.save(as_onnx(weights), HERE / "digits.onnx")
    np.savez_compressed(HERE / "calibration.npz", x=x[:CALIBRATED])
    np.savez_compressed(HERE / "evaluation.npz", x=x[TRAINED:], y=y[TRAINED:])


def train(x: Array, y: Array, *, epochs: int, seed: int = 1) -> Weights:
    """Minimise the cross entropy with Adam (Kingma and Ba, ICLR 2015)."""
    rng = np.random.default_rng(seed)
    weights = initial(rng)
    first = {name: np.zeros_like(w) for name, w in weights.items()}
    second = {name: np.zeros_like(w) for name, w in weights.items()}
    step = 0
    for _ in range(epochs):
        for batch in np.array_split(rng.permutation(len(x)), len(x) // BATCH):
            step += 1
            for name, gradient in gradients(weights, x[batch], y[batch]).items():
                first[name] = 0.9 * first[name] + 0.1 * gradient
                second[name] = 0.999 * second[name] + 0.001 * gradient**2
                mean, variance = first[name] / (1 - 0.9**step), second[name] / (1 - 0.999**step)
                weights[name] -= RATE * mean / (np.sqrt(variance) + 1e-8)
    return weights


def initial(rng: np.random.Generator) -> Weights:
    """He initialisation; two convolutions of 3x3, the second with stride 2, and a dense layer."""
    shapes = {"conv1": (16, 1, 3, 3), "conv2": (32, 16, 3, 3), "dense": (10, 32 * 4 * 4)}
    weights: Weights = {}
    for name, shape in shapes.items():
        spread = np.sqrt(2 / np.prod(shape[1:]))
        weights[name] = rng.normal(0, spread, shape).astype(np.float32)
        weights[f"{name}_bias"] = np.zeros(shape[0], np.float32)
    return weights


def forward(w: Weights, x: Array) -> tuple[Array, tuple[Array, ...]]:
    """The logits, ``[n, 10]``, and what the backward pass needs."""
    p1 = patches(x, 1)
    a1 = np.maximum(np.einsum("nchwij,ocij->nohw", p1, w["conv1"], optimize=True)
                    + w["conv1_bias"][:, None, None], 0)  # fmt: skip
    p2 = patches(a1, 2)
    a2 = np.maximum(np.einsum("nchwij,ocij->nohw", p2, w["conv2"], optimize=True)
                    + w["conv2_bias"][:, None, None], 0)  # fmt: skip
    flat = a2.reshape(len(x), -1)
    return flat @ w["dense"].T + w["dense_bias"], (p1, a1, p2, a2, flat)


def gradients(w: Weights, x: Array, y: Array) -> Weights:
    """The gradient of the mean cross entropy by every weight."""
    logits, (p1, a1, p2, a2, flat) = forward(w, x)
    softmax = np.exp(logits - logits.max(1, keepdims=True))
    softmax /= softmax.sum(1, keepdims=True)
    softmax[np.arange(len(y)), y] -= 1
    d_logits = softmax / len(y)
    d2 = (d_logits @ w["dense"]).reshape(a2.shape) * (a2 > 0)
    d1 = scattered(np.einsum("nohw,ocij->nchwij", d2, w["conv2"], optimize=True), a1.shape, 2)
    d1 *= a1 > 0
    return {
        "dense": d_logits.T @ flat,
        "dense_bias": d_logits.sum(0),
        "conv2": np.einsum("nohw,nchwij->ocij", d2, p2, optimize=True),
        "conv2_bias": d2.sum((0, 2, 3)),
        "conv1": np.einsum("nohw,nchwij->ocij", d1, p1, optimize=True),
        "conv1_bias": d1.sum((0, 2, 3)),
    }


def patches(x: Array, stride: int) -> Array:
    """Every 3x3 patch of the padded input: ``[n, channels, height, width, 3, 3]``."""
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    return sliding_window_view(padded, (3, 3), axis=(2, 3))[:, :, ::stride, ::stride]


def scattered(d: Array, shape: tuple[int, ...], stride: int) -> Array:
    """The transpose of ``patches``: every patch's gradient added back where it was read."""
    n, channels, height, width = shape
    padded = np.zeros((n, channels, height + 2, width + 2), d.dtype)
    for i in range(3):
        for j in range(3):
            rows = slice(i, i + stride * d.shape[2], stride)
            columns = slice(j, j + stride * d.shape[3], stride)
            padded[:, :, rows, columns] += d[..., i, j]
    return padded[:, :, 1:-1, 1:-1]


def as_onnx(w: Weights) -> onnx.ModelProto:
    """The network in opset 13, with a free batch axis."""
    nodes = [
        helper.make_node("Conv", ["image", "conv1", "conv1_bias"], ["c1"], "conv1", pads=[1] * 4),
        helper.make_node("Relu", ["c1"], ["a1"], "relu1"),
        helper.make_node(
            "Conv", ["a1", "conv2", "conv2_bias"], ["c2"], "conv2", pads=[1] * 4, strides=[2, 2]
        ),
        helper.make_node("Relu", ["c2"], ["a2"], "relu2"),
        helper.make_node("Flatten", ["a2"], ["flat"], "flatten"),
        helper.make_node("Gemm", ["flat", "dense", "dense_bias"], ["logits"], "dense", transB=1),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, 8, 8])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 10])
    constants = [numpy_helper.from_array(array.astype(np.float32), n) for n, array in w.items()]
    graph = helper.make_graph(nodes, "digits", [image], [logits], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


if __name__ == "__main__":
    main()
