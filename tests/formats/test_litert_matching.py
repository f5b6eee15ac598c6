"""Nodes found again in a conversion, by their weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgekit.domain import Format, Recipe
from edgekit.errors import ToolError
from edgekit.formats import FORMATS, Job
from edgekit.formats.litert_matching import nodes_of, operators_of
from edgekit.formats.litert_quantizer import nodes
from edgekit.sources import SourceModel


@pytest.fixture
def converted(source: SourceModel, cache: Path, tmp_path: Path) -> Path:
    recipe = Recipe(format=Format.LITERT, runtime="litert")
    job = Job(source=source, recipe=recipe, folder=tmp_path, cache=cache)
    return tmp_path / FORMATS[Format.LITERT].make(job).path


def test_each_node_is_one_operator(source: SourceModel, converted: Path) -> None:
    named = ("conv1", "conv2", "dense")
    found = [operators_of((name,), source.graph, converted) for name in named]
    assert [len(names) for names in found] == [1, 1, 1]
    in_order = [name for name in nodes(converted.read_bytes()) if (name,) in found]
    assert [(name,) for name in in_order] == found
    assert operators_of(named, source.graph, converted) == tuple(in_order)


def test_operators_come_from_nodes(source: SourceModel, converted: Path) -> None:
    known = nodes_of(converted, source.graph)
    for name in ("conv1", "conv2", "dense"):
        (operator,) = operators_of((name,), source.graph, converted)
        assert known[operator] == name


def test_weights_that_were_changed_on_the_way_are_not_taken_for_others(
    source: SourceModel, converted: Path, tmp_path: Path
) -> None:
    model = onnx.load(source.graph)
    (weight,) = [t for t in model.graph.initializer if t.name == model.graph.node[0].input[1]]
    weight.CopyFrom(
        numpy_helper.from_array(2 * np.array(numpy_helper.to_array(weight)), weight.name)
    )
    onnx.save(model, tmp_path / "other.onnx")
    with pytest.raises(ToolError, match=model.graph.node[0].name):
        operators_of((model.graph.node[0].name,), tmp_path / "other.onnx", converted)
