"""What nothing can be compared with is refused, and what can be is not."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgekit.errors import ModelError
from edgekit.sources import onnx_graph
from tests import models
from tests.models import integers, model, node, tensor, weights

X, Y = [tensor("x", [1, 1, 4, 4])], [tensor("y", None)]
TRUE, HALF, ZERO = np.array(True), np.array(0.5, np.float32), np.array(0, np.float32)


def loaded(made, folder):
    return onnx_graph.normalise(models.save(made, folder / "model.onnx"), folder, {})


def dropout(*names):
    constants = {"half": HALF, "zero": ZERO, "true": TRUE, "false": ~TRUE}
    kept = {name: constants[name] for name in names if name}
    return model([node("Dropout", ["x", *names], ["y"], "drop")], X, Y, kept)


def random():
    return model([node("RandomNormalLike", ["x"], ["y"], "noise")], X, Y)


def unpool(*shape):
    nodes = [
        node("MaxPool", ["x"], ["p", "i"], kernel_shape=[2, 2], strides=[2, 2]),
        node("MaxUnpool", ["p", "i", *shape], ["y"], "unpool", kernel_shape=[2, 2], strides=[2, 2]),
    ]
    return model(nodes, X, Y, {name: integers(1, 1, 5, 5) for name in shape})


def attention(mode, causal=1):
    how = {"q_num_heads": 1, "kv_num_heads": 1, "is_causal": causal, "qk_matmul_output_mode": mode}
    nodes = [node("Attention", ["x", "x", "x"], ["y", "", "", "scores"], "attend", **how)]
    outputs = [*Y, tensor("scores", None)]
    return model(nodes, [tensor("x", [1, 4, 8])], outputs, opset=23, ir=10)


def in_a_branch(training):
    """Behind an If, with its mode a constant of the outer graph."""
    inner = node("Dropout", ["x", "half", "mode"], ["d"], "drop")
    branch = helper.make_graph([inner], "then", [], [tensor("d", None)])
    other = helper.make_graph([node("Identity", ["x"], ["o"])], "else", [], [tensor("o", None)])
    nodes = [
        node("Constant", [], ["mode"], value=onnx.numpy_helper.from_array(training)),
        node("If", ["c"], ["y"], then_branch=branch, else_branch=other),
    ]
    return model(nodes, [*X, tensor("c", [], TensorProto.BOOL)], Y, {"half": HALF})


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (random(), "RandomNormalLike 'noise' draws at random"),
        (dropout("half", "true"), "Dropout 'drop' is in training mode"),
        (dropout("", "true"), "training mode"),
        (in_a_branch(TRUE), "training mode"),
        (unpool("shape"), "MaxUnpool 'unpool' is given an output shape"),
        (attention(1), "Attention 'attend' gives its causal scores after the mask"),
        (attention(2), "after the mask"),
    ],
)
def test_it_is_refused(made, says, tmp_path):
    with pytest.raises(ModelError, match=says) as caught:
        loaded(made, tmp_path)
    assert caught.value.hint


@pytest.mark.parametrize(
    "made",
    [
        dropout(),
        dropout("half"),
        dropout("half", "false"),
        dropout("zero", "true"),
        in_a_branch(~TRUE),
        unpool(),
        attention(0),
        attention(3),
        attention(2, causal=0),
    ],
)
def test_its_harmless_sibling_is_not(made, tmp_path):
    loaded(made, tmp_path)


def test_a_training_mode_that_the_caller_gives_is_refused(tmp_path):
    made = model(
        [node("Dropout", ["x", "half", "mode"], ["y"], "drop")],
        [*X, tensor("mode", [], TensorProto.BOOL)],
        Y,
        {"half": HALF},
    )
    with pytest.raises(ModelError, match="training mode"):
        loaded(made, tmp_path)


def of_shape():
    nodes = [node("ConstantOfShape", ["x"], ["y"])]
    return model(nodes, [tensor("x", [3], TensorProto.INT64)], [tensor("y", [4, 3, 2])])


def non_zero():
    return model([node("NonZero", ["x"], ["y"])], X, [tensor("y", None, TensorProto.INT64)])


@pytest.mark.parametrize("made", [of_shape(), non_zero()])
def test_an_output_whose_shape_depends_on_the_data_is_refused(made, tmp_path):
    with pytest.raises(ModelError, match="the shape of output 'y' depends on the data"):
        loaded(made, tmp_path)


def test_a_shape_that_inference_cannot_see_may_be_fixed_all_the_same(tmp_path):
    """The shape is calculated, and the same for all data."""
    nodes = [
        node("Shape", ["x"], ["s"]),
        node("ReduceProd", ["s"], ["n"], keepdims=1),
        node("Concat", ["one", "n"], ["t"], axis=0),
        node("Reshape", ["x", "t"], ["f"]),
        node("MatMul", ["f", "w"], ["y"]),
    ]
    made = model(nodes, X, Y, {"one": integers(1), "w": weights(16, 3)})
    assert loaded(made, tmp_path).outputs[0].shape == (1, 3)
