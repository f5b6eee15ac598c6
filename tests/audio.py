"""A small audio transformer with its front end inside, and sounds to tell apart.

Built after the field's keyword transformers: frames, a discrete Fourier transform written as
a convolution, power, mel bands, logarithm, then encoder blocks over the frames and a dense
head. The blocks' weights are random and the head is fitted to their features in closed form
(Rahimi, Recht: "Weighted Sums of Random Kitchen Sinks", NIPS 2008): no training, and a
network that is right. Sounds differ in loudness by a factor of a thousand, as speech does:
power then spans a range of a million, of which eight bits keep nothing.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

CLASSES, LENGTH, FRAME, HOP = 10, 2048, 128, 64
BINS, BANDS, WIDTH, HEADS, BLOCKS = FRAME // 2 + 1, 32, 96, 4, 2
FRAMES = (LENGTH - FRAME) // HOP + 1


class _Graph:
    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, array: np.ndarray) -> str:
        name = f"c{len(self.constants)}"
        kept = array if array.dtype == np.int64 else array.astype(np.float32)
        self.constants.append(numpy_helper.from_array(kept, name))
        return name

    def node(self, op: str, *inputs: str, name: str = "", **attributes: object) -> str:
        called = name or f"{op}{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [f"{called}_out"], called, **attributes))
        return f"{called}_out"

    def dense(self, x: str, taken: int, made: int) -> str:
        weight = self.rng.standard_normal((taken, made)) / np.sqrt(taken)
        return self.node("MatMul", x, self.constant(weight))

    def normed(self, x: str) -> str:
        ones, zeros = self.constant(np.ones(WIDTH)), self.constant(np.zeros(WIDTH))
        return self.node("LayerNormalization", x, ones, zeros, axis=-1)


def _front_end(graph: _Graph) -> str:
    """Log-mel spectrogram, ``[1, FRAMES, BANDS]``."""
    time, bins = np.arange(FRAME), np.arange(BINS)[:, None]
    turned = 2 * np.pi * bins * time / FRAME
    window = np.hanning(FRAME)
    parts = []
    for name, wave in (("real", np.cos(turned)), ("imaginary", np.sin(turned))):
        kernel = graph.constant((window * wave)[:, None, :])
        part = graph.node("Conv", "sound", kernel, name=f"front.{name}", strides=[HOP])
        parts.append(graph.node("Mul", part, part, name=f"front.{name}.squared"))
    power = graph.node("Add", *parts, name="front.power")
    frames = graph.node("Transpose", power, name="front.frames", perm=[0, 2, 1])
    centres = np.linspace(0, BINS - 1, BANDS + 2)
    spread = np.abs(bins - centres[1:-1]) / (centres[1] - centres[0])
    mel = graph.node("MatMul", frames, graph.constant(np.clip(1 - spread, 0, 1)), name="front.mel")
    loud = graph.node("Add", mel, graph.constant(np.array(1e-6)), name="front.floor")
    return graph.node("Log", loud, name="front.log")


def _attention(graph: _Graph, x: str) -> str:
    split = graph.constant(np.array([1, FRAMES, HEADS, WIDTH // HEADS]))
    heads = []
    for _ in range(3):
        flat = graph.node("Reshape", graph.dense(x, WIDTH, WIDTH), split)
        heads.append(graph.node("Transpose", flat, perm=[0, 2, 1, 3]))
    query, key, value = heads
    scores = graph.node("MatMul", query, graph.node("Transpose", key, perm=[0, 1, 3, 2]))
    scale = graph.constant(np.array(1 / np.sqrt(WIDTH // HEADS)))
    weights = graph.node("Softmax", graph.node("Mul", scores, scale), axis=-1)
    mixed = graph.node("Transpose", graph.node("MatMul", weights, value), perm=[0, 2, 1, 3])
    joined = graph.node("Reshape", mixed, graph.constant(np.array([1, FRAMES, WIDTH])))
    return graph.dense(joined, WIDTH, WIDTH)


def _block(graph: _Graph, x: str) -> str:
    x = graph.node("Add", x, _attention(graph, graph.normed(x)))
    inner = graph.node("Relu", graph.dense(graph.normed(x), WIDTH, 4 * WIDTH))
    return graph.node("Add", x, graph.dense(inner, 4 * WIDTH, WIDTH))


def _features() -> _Graph:
    """Up to what the head reads, ``[1, WIDTH]``."""
    graph = _Graph()
    x = graph.dense(_front_end(graph), BANDS, WIDTH)
    for _ in range(BLOCKS):
        x = _block(graph, x)
    graph.node("ReduceMean", graph.normed(x), name="pooled", axes=[1], keepdims=0)
    return graph


def _model(graph: _Graph, output: str, size: int) -> onnx.ModelProto:
    value = helper.make_tensor_value_info
    made = helper.make_graph(
        graph.nodes,
        "audio",
        [value("sound", TensorProto.FLOAT, [1, 1, LENGTH])],
        [value(output, TensorProto.FLOAT, [1, size])],
        graph.constants,
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def sounds(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Tones of ten pitches, each with an overtone, in noise, of any loudness.

    Returns:
        ``[count, 1, LENGTH]`` and the labels.
    """
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, count)
    pitch = (4 + 5 * labels + rng.uniform(-1, 1, count)) / FRAME
    angle = 2 * np.pi * (pitch[:, None] * np.arange(LENGTH) + rng.uniform(0, 1, count)[:, None])
    waves = np.sin(angle) + 0.3 * np.sin(0.5 * angle) + rng.normal(0, 1.2, angle.shape)
    loudness = 10 ** rng.uniform(-3, 0, count)
    return (loudness[:, None] * waves).astype(np.float32)[:, None], labels


@lru_cache(maxsize=1)
def transformer() -> onnx.ModelProto:
    """The network, its head fitted on sounds of its own."""
    graph = _features()
    bare = _model(graph, "pooled_out", WIDTH)
    session = onnxruntime.InferenceSession(
        bare.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    heard, labels = sounds(1000, seed=1)
    features = np.concatenate([session.run(None, {"sound": sound[None]})[0] for sound in heard])
    rows = np.c_[features, np.ones(len(features))].astype(np.float64)
    gram = rows.T @ rows + 1e-3 * len(rows) * np.eye(WIDTH + 1)
    head = np.linalg.solve(gram, rows.T @ np.eye(CLASSES)[labels])
    weight, bias = graph.constant(10 * head[:-1]), graph.constant(10 * head[-1])
    logits = graph.node("Gemm", "pooled_out", weight, bias, name="head")
    return _model(graph, logits, CLASSES)


def save(folder: Path) -> tuple[Path, Path, Path]:
    """The model, calibration and evaluation data as files."""
    paths = folder / "audio.onnx", folder / "calibration.npz", folder / "evaluation.npz"
    onnx.save(transformer(), paths[0])
    np.savez(paths[1], x=sounds(40, seed=2)[0])
    heard, labels = sounds(150, seed=3)
    np.savez(paths[2], x=heard, y=labels)
    return paths
