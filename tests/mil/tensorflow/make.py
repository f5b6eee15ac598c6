"""Make the packages beside this file: coremltools' own conversion of TensorFlow networks.

edgekit has no part in it. Run it where both are installed, and commit what it writes:

    pip install tensorflow-cpu==2.17.1 coremltools==9.0
    python tests/mil/tensorflow/make.py

Each network becomes ``NAME.mlpackage`` and ``NAME.npz``: inputs, and the outputs that TensorFlow
gives for them. What was used is written into ``versions.json``.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import coremltools as ct
import numpy as np
import tensorflow as tf

HERE = Path(__file__).parent
RNG = np.random.default_rng(7)


def weights(*shape):
    scale = 1 / np.sqrt(max(np.prod(shape[:-1]), 1))
    return tf.constant(RNG.normal(0, scale, shape).astype(np.float32))


STEM, DEPTHWISE, POINTWISE = weights(3, 3, 3, 16), weights(3, 3, 16, 1), weights(1, 1, 16, 24)
UP, HEAD, BIAS = weights(4, 4, 8, 24), weights(56, 10), weights(10)
MEAN, VARIANCE = RNG.normal(0, 0.1, 16), RNG.uniform(0.5, 2, 16)
GAMMA, BETA = RNG.uniform(0.5, 2, 16), RNG.normal(0, 0.1, 16)


def vision(image):
    """What convolutional networks are made of, ``[1, 32, 32, 3]`` to 10 classes."""
    x = tf.nn.conv2d(image, STEM, strides=2, padding="SAME")
    x = tf.nn.batch_normalization(x, *map(np.float32, (MEAN, VARIANCE, BETA, GAMMA)), 1e-3)
    x = tf.nn.relu6(x)
    x = tf.nn.depthwise_conv2d(x, DEPTHWISE, strides=[1, 1, 1, 1], padding="SAME")
    x = tf.nn.swish(x)
    x = tf.nn.conv2d(x, POINTWISE, strides=1, padding="VALID")
    pooled = tf.nn.max_pool2d(x, 3, 2, "SAME")
    mean = tf.nn.avg_pool2d(x, 2, 2, "VALID")
    grown = tf.image.resize(pooled, [16, 16], method="bilinear")
    nearest = tf.image.resize(mean, [16, 16], method="nearest")
    up = tf.nn.conv2d_transpose(pooled, UP, [1, 16, 16, 8], strides=2, padding="SAME")
    x = tf.concat([grown, tf.pad(nearest, [[0, 0]] * 4) - x, tf.nn.leaky_relu(up, 0.1)], axis=-1)
    x = tf.reduce_mean(x, axis=[1, 2])
    return {"classes": tf.nn.softmax(x @ HEAD + BIAS)}


EMBEDDING, QKV, MIX = weights(40, 24), weights(24, 72), weights(24, 24)
GATES, OUT = weights(24, 48), weights(48, 5)


def sequence(tokens):
    """Attention, gelu, layer norm, gathers, slices and top k over ``[1, 12]`` tokens."""
    x = tf.gather(EMBEDDING, tokens)
    q, k, v = tf.split(tf.einsum("bsf,fg->bsg", x, QKV), 3, axis=-1)
    heads = [tf.transpose(tf.reshape(each, [1, 12, 3, 8]), [0, 2, 1, 3]) for each in (q, k, v)]
    scores = tf.matmul(heads[0], heads[1], transpose_b=True) / np.float32(np.sqrt(8))
    scores += (1 - tf.linalg.band_part(tf.ones([12, 12]), -1, 0)) * -1e9
    mixed = tf.matmul(tf.nn.softmax(scores), heads[2])
    x += tf.reshape(tf.transpose(mixed, [0, 2, 1, 3]), [1, 12, 24]) @ MIX
    mean, variance = tf.nn.moments(x, -1, keepdims=True)
    x = (x - mean) * tf.math.rsqrt(variance + 1e-5)
    x = tf.nn.gelu(x @ GATES)
    logits = tf.concat([x[:, ::2, :], tf.stack([x[:, 1, :]] * 2, axis=1)], axis=1) @ OUT
    values, places = tf.math.top_k(tf.reduce_max(logits, axis=1), k=3)
    chosen = tf.where(logits > 0, logits, tf.math.softplus(logits) - tf.one_hot([[1] * 8], 5))
    return {"logits": chosen, "values": values, "places": places}


WX, WH, WB = weights(6, 32), weights(8, 32), weights(32)


def recurrent(signal):
    """A loop over time that coremltools keeps as a loop: ``[1, 9, 6]`` to its last state."""
    steps = tf.transpose(signal, [1, 0, 2])

    def step(i, h, c):
        parts = tf.split(steps[i] @ WX + h @ WH + WB, 4, axis=-1)
        c = tf.sigmoid(parts[1]) * c + tf.sigmoid(parts[0]) * tf.tanh(parts[2])
        return i + 1, tf.sigmoid(parts[3]) * tf.tanh(c), c

    zeros = tf.zeros([1, 8])
    _, h, c = tf.while_loop(lambda i, h, c: i < 9, step, [0, zeros, zeros])
    return {"h": h, "c": c}


def make(function, name, sample, precision, target):
    spec = tf.TensorSpec(sample.shape, tf.as_dtype(sample.dtype), name=name)
    concrete = tf.function(function).get_concrete_function(spec)
    model = ct.convert(
        [concrete],
        source="tensorflow",
        convert_to="mlprogram",
        compute_precision=precision,
        minimum_deployment_target=target,
        skip_model_load=True,
    )
    path = HERE / f"{function.__name__}.mlpackage"
    shutil.rmtree(path, ignore_errors=True)
    model.save(str(path))
    # The converter keeps the order of the outputs, not their names.
    kept = [output.name for output in model.get_spec().description.output]
    values = concrete(tf.constant(sample))
    given = dict(zip(kept, (values[key] for key in sorted(values)), strict=True))
    arrays = {f"output_{key}": value.numpy() for key, value in given.items()}
    np.savez_compressed(HERE / f"{function.__name__}.npz", **{f"input_{name}": sample}, **arrays)


if __name__ == "__main__":
    half, single = ct.precision.FLOAT16, ct.precision.FLOAT32
    image = RNG.uniform(-1, 1, (1, 32, 32, 3)).astype(np.float32)
    tokens = RNG.integers(0, 40, (1, 12)).astype(np.int32)
    signal = RNG.normal(0, 1, (1, 9, 6)).astype(np.float32)
    make(vision, "image", image, half, ct.target.iOS16)
    make(sequence, "tokens", tokens, single, ct.target.iOS17)
    make(recurrent, "signal", signal, single, ct.target.iOS15)
    versions = {"tensorflow": tf.__version__, "coremltools": ct.__version__}
    (HERE / "versions.json").write_text(json.dumps(versions, indent=2) + "\n")
