"""ONNX files that would take their reader's memory, time or files; each with what it stands for.

External data that leave the folder are in ``tests/sources/test_onnx.py``
(CVE-2022-25882, CVE-2024-27318: `..`, absolute names, links and hard links).
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from edgekit import sources
from edgekit.errors import ModelError
from edgekit.sources import external_data, onnx_limits
from tests import models
from tests.models import model, node, tensor, weights


def refusal(made: ModelProto | bytes, tmp_path: Path) -> str:
    """What a file is refused with, read as a user's is: in a process of its own."""
    path, folder = tmp_path / "model.onnx", tmp_path / "graphs"
    folder.mkdir()
    path.write_bytes(made if isinstance(made, bytes) else made.SerializeToString())
    with pytest.raises(ModelError) as caught:
        sources.load(path, folder)
    assert not list(folder.iterdir())
    return caught.value.message


# Tensors that claim more than they hold


def claiming(dims: list[int], data_type: int = TensorProto.FLOAT, **held: object) -> ModelProto:
    made = models.dense_net()
    lying = TensorProto(name="w", data_type=data_type, dims=dims, **held)
    made.graph.initializer[0].CopyFrom(lying)
    return made


@pytest.mark.parametrize(
    "made",
    [
        claiming([6, 2**40], raw_data=b"\0" * 8),
        claiming([2**62, 2**62], raw_data=b"\0" * 8),
        claiming([6, 7], raw_data=b"\0" * (4 * 6 * 7 - 1)),
        claiming([6, 7]),
        claiming([6, 7], float_data=[0.0] * 41),
        claiming([2**40], TensorProto.INT4, raw_data=b"\0"),
    ],
    ids=["huge", "past 64 bits", "a byte short", "nothing", "a number short", "packed"],
)
def test_a_tensor_that_claims_more_than_it_holds_is_refused(made: ModelProto, tmp_path) -> None:
    assert "claims" in refusal(made, tmp_path)


@pytest.mark.parametrize(
    "made",
    [claiming([-1], raw_data=b"\0" * 4), claiming([1], 99, raw_data=b"\0" * 4), claiming([1], 0)],
    ids=["negative", "unknown type", "no type"],
)
def test_a_tensor_of_no_shape_or_type_is_refused(made: ModelProto, tmp_path: Path) -> None:
    assert "which is none" in refusal(made, tmp_path)


@pytest.mark.parametrize("kind", [TensorProto.INT4, TensorProto.UINT4, TensorProto.INT2])
def test_packed_tensors_hold_what_they_claim(kind: int) -> None:
    array = np.ones((3, 5), helper.tensor_dtype_to_np_dtype(kind))
    raw = numpy_helper.from_array(array, "w")
    fields = helper.make_tensor("w", kind, [3, 5], [1] * 15)
    for one in (raw, fields):
        onnx_limits._check_tensor(one)


# Depth and counts


def nested(levels: int) -> ModelProto:
    """Branches inside one another."""
    inner = helper.make_graph([node("Identity", ["x"], ["o0"])], "g", [], [tensor("o0", [1, 4])])
    for level in range(1, levels):
        name = f"o{level}"
        branch = node("If", ["c"], [name], then_branch=inner, else_branch=inner)
        inner = helper.make_graph([branch], "g", [], [tensor(name, [1, 4])])
    outer = node("If", ["c"], ["y"], then_branch=inner, else_branch=inner)
    inputs = [tensor("x", [1, 4]), tensor("c", [], TensorProto.BOOL)]
    return model([outer], inputs, [tensor("y", [1, 4])])


def chained(levels: int) -> ModelProto:
    """The same with one branch only inside another, so that depth does not cost size."""
    inner = helper.make_graph([node("Identity", ["x"], ["o0"])], "g", [], [tensor("o0", [1, 4])])
    for level in range(1, levels):
        loop = node("Loop", ["", ""], [f"o{level}"], body=inner)
        inner = helper.make_graph([loop], "g", [], [tensor(f"o{level}", [1, 4])])
    return model([node("Loop", ["", ""], ["y"], body=inner)], [tensor("x", [1, 4])],
                 [tensor("y", [1, 4])])  # fmt: skip


def test_branches_a_few_levels_deep_are_taken(tmp_path: Path) -> None:
    onnx_limits.check(nested(4))


@pytest.mark.parametrize("levels", [onnx_limits.DEEPEST + 1, 30])
def test_loops_too_deep_are_refused(levels: int, tmp_path: Path) -> None:
    assert "levels deep" in refusal(chained(levels), tmp_path)


def test_nesting_past_what_protobuf_takes_is_refused(tmp_path: Path) -> None:
    """CVE-2025-4565: a parser that recurses as deep as a file says."""
    graph = b""
    for _ in range(2_000):  # a graph in an attribute in a node in a graph
        graph = field(1, field(5, field(6, graph)))
    content = field(7, graph) + helper.make_opsetid("", 17).SerializeToString()
    assert "not an ONNX model" in refusal(content, tmp_path)


def field(number: int, content: bytes) -> bytes:
    """A length-delimited field of a protobuf message."""
    length, size = len(content), b""
    while length > 127:
        size += bytes([length & 127 | 128])
        length >>= 7
    return bytes([number << 3 | 2]) + size + bytes([length]) + content


def laughing(levels: int) -> ModelProto:
    """Functions that each call the next one twice: 2 to the power of ``levels`` nodes."""
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    made = model(
        [node("f0", ["x"], ["y"], domain="own")],
        [tensor("x", [1, 4])],
        [tensor("y", [1, 4])],
        custom=["own"],
    )
    for level in range(levels):
        last = level == levels - 1
        name, domain = ("Identity", "") if last else (f"f{level + 1}", "own")
        body = [node(name, ["a"], ["t"], domain=domain), node(name, ["t"], ["b"], domain=domain)]
        made.functions.append(helper.make_function("own", f"f{level}", ["a"], ["b"], body, opsets))
    return made


def test_functions_that_multiply_are_refused_before_they_are_written_out(tmp_path: Path) -> None:
    """A "billion laughs" of functions (CVE-2003-1564's kind): 300 bytes, 2^40 nodes."""
    onnx_limits.check(laughing(3))
    assert "levels deep" in refusal(laughing(40), tmp_path)


def test_many_nodes_by_few_functions_are_refused(tmp_path: Path) -> None:
    made = laughing(14)
    first = made.functions[-1].node[0]
    for index in range(30):
        made.functions[-1].node.append(node("Identity", ["a"], [f"more{index}"]))
    assert first.op_type == "Identity"
    assert "nodes or more" in refusal(made, tmp_path)


def test_a_function_that_calls_itself_is_refused(tmp_path: Path) -> None:
    made = laughing(1)
    made.functions[0].node[0].op_type, made.functions[0].node[0].domain = "f0", "own"
    assert "levels deep" in refusal(made, tmp_path)


def test_a_million_nodes_are_refused(tmp_path: Path) -> None:
    made = model([node("Identity", ["x"], ["y"])], [tensor("x", [1])], [tensor("y", [1])])
    content = made.SerializeToString()
    one = field(1, node("Neg", ["x"], ["z"]).SerializeToString())
    graph = made.graph.SerializeToString() + one * 1_000_000
    assert "nodes or more" in refusal(content + field(7, graph), tmp_path)


# External data beyond their place


def beside(tmp_path: Path, location: str) -> ModelProto:
    path = models.save_external(models.dense_net(), tmp_path / "model.onnx")
    stored = onnx.load(path, load_external_data=False)
    for constant in stored.graph.initializer:
        constant.external_data[0].value = location
    return stored


def test_a_pipe_for_external_data_does_not_block(tmp_path: Path) -> None:
    """Opening a FIFO waits for a writer for ever."""
    stored = beside(tmp_path, "pipe")
    os.mkfifo(tmp_path / "pipe")
    assert "no plain file" in refusal(stored, tmp_path)


@pytest.mark.parametrize("location", [".", "folder", "model.onnx/x", "\0", "a\0b", "x" * 5000])
def test_external_data_that_are_no_file(location: str, tmp_path: Path) -> None:
    stored = beside(tmp_path, location)
    (tmp_path / "folder").mkdir()
    assert "external data" in (said := refusal(stored, tmp_path)) or "keeps weights in" in said


def test_external_data_larger_than_a_graph_can_be(tmp_path: Path) -> None:
    """A sparse file: a terabyte that takes no space."""
    stored = beside(tmp_path, "sparse")
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(2**40)
    assert f"pass {external_data.LARGEST_BYTES} bytes" in refusal(stored, tmp_path)


def test_a_file_that_is_swapped_after_the_check_changes_nothing(tmp_path, monkeypatch) -> None:
    """Checked and read through one descriptor: a link put there in between is not followed."""
    stored = beside(tmp_path, "weights.bin")
    secret = tmp_path / "secret"
    secret.write_bytes(b"\1" * 10_000)
    honest = (tmp_path / "weights.bin").read_bytes()
    check = external_data._check

    def swap(*arguments: object) -> None:
        check(*arguments)  # type: ignore[arg-type]
        (tmp_path / "weights.bin").unlink(missing_ok=True)
        (tmp_path / "weights.bin").symlink_to(secret)

    monkeypatch.setattr(external_data, "_check", swap)
    assert external_data.load(stored, tmp_path) == {"weights.bin": honest}


# What runs


def test_a_graph_that_allocates_without_end_is_refused(tmp_path: Path) -> None:
    made = model(
        [
            node("ConstantOfShape", ["s"], ["big"]),
            node("ReduceSum", ["big"], ["sum"], keepdims=0),
            node("Add", ["x", "sum"], ["y"]),
        ],
        [tensor("x", [1, 4])],
        [tensor("y", [1, 4])],
        {"s": np.array([2**40], np.int64)},
    )
    assert "cannot run the model" in refusal(made, tmp_path)


def test_weights_named_like_code_are_only_names(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    made = models.dense_net()
    name = f"__import__('pathlib').Path({str(canary)!r}).touch()"
    made.graph.name = made.graph.node[0].name = made.doc_string = name
    made.metadata_props.add(key=name, value=name)
    (tmp_path / "graphs").mkdir()
    source = sources.load(models.save(made, tmp_path / "model.onnx"), tmp_path / "graphs")
    assert name in [one.name for one in onnx.load(source.graph).graph.node]
    assert not canary.exists()


def test_weights_are_what_they_were(tmp_path: Path) -> None:
    """The checks refuse nothing of an honest file."""
    made = model(
        [node("MatMul", ["x", "w"], ["y"])],
        [tensor("x", [1, 4])],
        [tensor("y", [1, 3])],
        {"w": weights(4, 3)},
    )
    onnx_limits.check(made)
