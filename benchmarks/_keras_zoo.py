"""Write one of Keras's own networks with seeded random weights; run in TensorFlow's environment."""

from __future__ import annotations

import sys

import keras
import numpy as np

SAMPLES = 4
SIZE = 224
"""Of the images, where a network takes any."""


def main(name: str, path: str) -> None:
    """Random weights, and the statistics of random images for the batch norms.

    With the statistics that they begin with, the activations of a deep network vanish: its
    outputs would all be the same, and any conversion would agree with them.
    """
    keras.utils.set_random_seed(7)
    model = getattr(keras.applications, name)(weights=None)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    shape = (SAMPLES, *(size or SIZE for size in model.input.shape[1:]))
    model(np.random.default_rng(7).standard_normal(shape).astype("float32"), training=True)
    model.save(path)


if __name__ == "__main__":
    main(*sys.argv[1:])
