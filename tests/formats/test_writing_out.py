"""Operators that LiteRT's converter does not know are written out, and the model converts."""

import onnx
import pytest

from edgekit.domain import Format, Recipe
from edgekit.errors import ToolError
from edgekit.formats import FORMATS, Job, writing_out
from edgekit.sources import onnx_graph
from tests import models
from tests.models import model, node, tensor, weights


def attention():
    """Self-attention of two heads behind an RMS normalization."""
    nodes = [
        node("RMSNormalization", ["x", "g"], ["n"], "norm"),
        node("MatMul", ["n", "q"], ["a"], "query"),
        node("Attention", ["a", "n", "n"], ["h"], "attend", q_num_heads=2, kv_num_heads=2),
        node("Add", ["x", "h"], ["y"], "residual"),
    ]
    shape = [1, 6, 8]
    constants = {"g": weights(8), "q": weights(8, 8)}
    return model(nodes, [tensor("x", shape)], [tensor("y", shape)], constants, opset=23, ir=10)


def read(made, folder):
    return onnx_graph.normalise(models.save(made, folder / "model.onnx"), folder, {})


def operators(path):
    return {one.op_type for one in onnx.load(path).graph.node}


def test_what_the_format_does_not_take_is_written_out(tmp_path):
    source, made = read(attention(), tmp_path), tmp_path / "made.onnx"
    told = writing_out.write_out(source, Format.LITERT, made)
    assert told == ("Attention", "RMSNormalization")
    assert not operators(made) & {*told, "CastLike"}
    assert {"MatMul", "Softmax"} <= operators(made)


def test_what_it_takes_is_not(tmp_path):
    source = read(models.dense_net(), tmp_path)
    with pytest.raises(ToolError, match="no smaller operators"):
        writing_out.write_out(source, Format.LITERT, tmp_path / "made.onnx")
    assert not (tmp_path / "made.onnx").exists()


def test_it_ends_at_an_artifact_that_agrees(tmp_path):
    source, folder = read(attention(), tmp_path), tmp_path / "made"
    folder.mkdir()
    job = Job(source=source, recipe=Recipe(format=Format.LITERT, runtime="any"), folder=folder)
    first, rewritten, *refused = FORMATS[Format.LITERT].make(job).notes
    assert first == "by onnx2tf 2.6.9 of smaller operators"
    assert rewritten.startswith("operators rewritten")
    assert [note.split(" did not do: ")[0] for note in refused] == ["onnx2tf 2.6.9"]
