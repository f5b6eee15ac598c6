"""A binding is proven by values; integers of 0 and 1 alone prove little."""

import numpy as np
import pytest
from onnx import TensorProto

from edgekit.errors import ToolError
from edgekit.formats import binding
from edgekit.sources import onnx_graph
from tests import models
from tests.models import model, node, tensor, weights

RUNTIME = "onnxruntime"


def on_integers(*nodes, constants=None, of=TensorProto.INT32):
    inputs = [tensor("x", [1, 6], TensorProto.INT32)]
    return model(nodes, inputs, [tensor("y", None, of)], constants)


def proven(made, other, folder):
    """``made`` is the source, ``other`` what a converter made of it."""
    source = onnx_graph.normalise(models.save(made, folder / "model.onnx"), folder, {})
    return binding.proven(source, models.save(other, folder / "other.onnx"), RUNTIME)


def test_what_is_the_same_for_0_and_1_only_is_found_out(tmp_path):
    square = on_integers(node("Mul", ["x", "x"], ["y"]))
    itself = on_integers(node("Identity", ["x"], ["y"]))
    with pytest.raises(ToolError, match="for integers up to 99: relative error"):
        proven(square, itself, tmp_path)
    assert proven(square, square, tmp_path)


@pytest.mark.parametrize("rows", [2, 4, 200])
def test_indices_are_drawn_from_what_the_source_has(rows, tmp_path):
    table = {"table": weights(rows, 5)}
    made = on_integers(node("Gather", ["table", "x"], ["y"]), constants=table, of=TensorProto.FLOAT)
    assert proven(made, made, tmp_path)
    if rows > 2:
        other = {"table": table["table"] * (np.arange(rows) < 2)[:, None].astype(np.float32)}
        damaged = on_integers(
            node("Gather", ["table", "x"], ["y"]), constants=other, of=TensorProto.FLOAT
        )
        with pytest.raises(ToolError, match=f"up to {2 if rows == 4 else 99}"):
            proven(made, damaged, tmp_path)
