"""Small models of TensorFlow's kinds, good and hostile; run in TensorFlow's environment.

    python tests/tensorflow_models.py FOLDER CANARY

Whatever would run when one of the hostile ones is loaded writes CANARY.
"""

import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import h5py
import keras
import numpy as np
import tensorflow as tf
import tf_keras
from keras import layers

FOLDER, CANARY = Path(sys.argv[1]), sys.argv[2]


def sequence(*middle, shape=(12, 6)):
    return keras.Sequential([keras.Input(shape, name="steps"), *middle, layers.Dense(3)])


def transformer():
    tokens = keras.Input((12, 8), name="tokens")
    attended = layers.MultiHeadAttention(2, 4)(tokens, tokens)
    x = layers.LayerNormalization()(tokens + attended)
    hidden = layers.Dense(16, activation="gelu")(x)
    x = layers.LayerNormalization()(x + layers.Dense(8)(hidden))
    pooled = layers.GlobalAveragePooling1D()(x)
    return keras.Model(tokens, layers.Dense(3, activation="softmax", name="classes")(pooled))


def two_by_two(kit):
    """Two inputs and outputs, whose order is not the alphabet's."""
    z, a = kit.Input((8, 8, 2), name="z_image"), kit.Input((4,), name="a_vector")
    x = kit.layers.DepthwiseConv2D(3, padding="same", bias_initializer="normal")(z)
    x = kit.layers.GlobalAveragePooling2D()(kit.layers.ReLU()(x))
    joined = kit.layers.Concatenate()([x, a])
    last, first = kit.layers.Dense(3, name="zz"), kit.layers.Dense(2, name="aa")
    return kit.Model([z, a], [last(joined), first(joined)])


def lstm_of_keras_2():
    """Keras 2's becomes TFLite's own LSTM, Keras 3's a loop."""
    kit = tf_keras.layers
    steps = tf_keras.Input((12, 6), batch_size=1)
    x = kit.Flatten()(kit.LSTM(5, return_sequences=True)(steps))
    return tf_keras.Model(steps, kit.Dense(3)(x))


def conv():
    """Its dense layer flattens what it gets, and has a bias."""
    image = keras.Input((10, 6, 1), batch_size=1, name="image")
    x = layers.Conv2D(4, (4, 3), strides=2, padding="same", activation="relu")(image)
    x = layers.Flatten()(layers.AveragePooling2D((5, 3))(x))
    return keras.Model(image, layers.Dense(3, bias_initializer="normal")(x))


def tflite(model, name, quantize=False):
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    if quantize:
        shape = (20, *model.inputs[0].shape)
        draws = np.random.default_rng(0).standard_normal(shape).astype("float32")
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([x] for x in draws)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
    (FOLDER / name).write_bytes(converter.convert())


class Module(tf.Module):
    def __init__(self, does=lambda x: x):
        self.weights = tf.Variable(tf.random.stateless_normal((4, 3), (0, 1)))
        self.does = does

    @tf.function(input_signature=[tf.TensorSpec((None, 4), "float32", name="x")])
    def serve(self, x):
        return {"scores": tf.nn.softmax(self.does(x) @ self.weights)}


def writes(x):
    tf.io.write_file(CANARY, "written when called")
    return x


def python(x):
    def touch(value):
        Path(CANARY).write_text("run when called")
        return value

    return tf.ensure_shape(tf.py_function(touch, [x], "float32"), (None, 4))


def saved_model(name, module):
    tf.saved_model.save(module, FOLDER / name, signatures={"serving_default": module.serve})


def good():
    keras.utils.set_random_seed(0)
    for name, model in {
        "gru": sequence(layers.GRU(5)),
        "conv1d": sequence(layers.Conv1D(4, 3, activation="relu"), layers.GlobalMaxPooling1D()),
        "transformer": transformer(),
        # Keeps its mean and variance as tensors, not as variables.
        "normalized": sequence(layers.Normalization(mean=range(6), variance=range(1, 7))),
        "two_by_two": two_by_two(keras),
        "open": sequence(layers.GlobalAveragePooling1D(), shape=(None, 6)),
    }.items():
        model.save(FOLDER / f"{name}.keras")
    two_by_two(tf_keras).save(FOLDER / "two_by_two.h5")
    lstm = lstm_of_keras_2()
    tflite(lstm, "lstm.tflite")
    tflite(lstm, "lstm_int8.tflite", quantize=True)
    tflite(conv(), "conv.tflite")
    saved_model("saved", Module())


def hostile():
    run = eval(f"lambda x: [open({CANARY!r}, 'w').close(), x][1]")
    sequence(layers.Lambda(run)).save(FOLDER / "lambda.keras")
    tf_keras.Sequential([tf_keras.Input((6,)), tf_keras.layers.Lambda(run)]).save(
        FOLDER / "lambda.h5"
    )
    saved_model("writes", Module(writes))
    saved_model("python", Module(python))
    table = Module()
    table.table = tf.lookup.StaticHashTable(
        tf.lookup.KeyValueTensorInitializer(["a"], [1]), default_value=0
    )
    saved_model("table", table)
    good_h5 = (FOLDER / "two_by_two.h5").read_bytes()
    for name, leak in {"external_link": external_link, "external_data": external_data,
                       "virtual": virtual}.items():  # fmt: skip
        path = FOLDER / f"{name}.h5"
        path.write_bytes(good_h5)
        with h5py.File(path, "a") as file:
            leak(file["model_weights"])


def external_link(group):
    group["more"] = h5py.ExternalLink(CANARY, "/")


def external_data(group):
    group.create_dataset("more", (4,), "f4", external=[("/etc/hostname", 0, 16)])


def virtual(group):
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource("/elsewhere.h5", "data", (4,))
    group.create_virtual_dataset("more", layout)


if __name__ == "__main__":
    good()
    hostile()
