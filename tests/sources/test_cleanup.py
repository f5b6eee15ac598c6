"""The clean-up: each pass does its work, and none that changes an output is kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, numpy_helper

from edgekit.inspection import size
from edgekit.sources import cleanup, reference
from edgekit.sources.cleanup import PASSES, Pass, cleaned
from tests import models
from tests.models import model, node, tensor, weights


def operators(made: ModelProto) -> list[str]:
    return [one.op_type for one in made.graph.node]


def clean(made: ModelProto) -> tuple[list[str], dict[str, str], ModelProto]:
    """The operators left, what became of each pass, and the graph."""
    feeds = {
        value.name: np.random.default_rng(0)
        .standard_normal([d.dim_value for d in value.type.tensor_type.shape.dim])
        .astype(np.float32)
        for value in made.graph.input
    }
    expected = reference.run(made, feeds)
    changed, passes = cleaned(made, feeds, expected)
    got = reference.run(changed, feeds)
    for name, array in expected.items():
        np.testing.assert_allclose(got[name], array, rtol=0, atol=1e-5 * np.abs(array).max())
    told = {one.name: one.reason or ("done" if one.changed else "no change") for one in passes}
    return operators(changed), told, changed


def conv_block(*after: onnx.NodeProto, pad: bool = False, opset: int = 17) -> ModelProto:
    """A convolution, and what may be fused into it; ``t`` is its output, ``y`` the graph's."""
    before = [node("Pad", ["x", "pads"], ["p"], mode="constant")] if pad else []
    constants = {
        "w": weights(4, 3, 3, 3),
        "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64),
        "s": weights(4) + 2,
        "b": weights(4),
        "m": weights(4),
        "v": np.abs(weights(4)) + 1,
        "c": weights(1, 4, 1, 1),
    }
    nodes = [*before, node("Conv", ["p" if pad else "x", "w"], ["t"], "conv"), *after]
    used = {name for one in nodes for name in one.input}
    shape = [1, 4, 8, 8] if pad else [1, 4, 6, 6]
    return model(
        nodes,
        [tensor("x", [1, 3, 8, 8])],
        [tensor(nodes[-1].output[0], shape)],
        {name: array for name, array in constants.items() if name in used},
        opset=opset,
    )


@pytest.mark.parametrize(
    "made",
    [
        conv_block(node("BatchNormalization", ["t", "s", "b", "m", "v"], ["y"])),
        conv_block(node("Add", ["t", "c"], ["y"])),
        conv_block(node("Mul", ["t", "c"], ["y"])),
        conv_block(node("Identity", ["t"], ["y"])),
        conv_block(node("Relu", ["t"], ["r"]), node("Relu", ["r"], ["y"])),
        conv_block(pad=True),
    ],
    ids=["batch norm", "bias", "scale", "identity", "twice", "padding"],
)
def test_convolutions_take_in_what_surrounds_them(made: ModelProto) -> None:
    left, told, changed = clean(made)
    assert left in (["Conv"], ["Conv", "Relu"])
    assert told["fuse"] == "done" or told["fold"] == "done"
    assert changed.graph.node[0].name == "conv"


def gelu(opset: int) -> ModelProto:
    return model(
        [
            node("MatMul", ["x", "w"], ["a"]),
            node("Div", ["a", "root"], ["d"]),
            node("Erf", ["d"], ["f"]),
            node("Add", ["f", "one"], ["p"]),
            node("Mul", ["a", "p"], ["m"]),
            node("Mul", ["m", "half"], ["y"]),
        ],
        [tensor("x", [1, 7, 16])],
        [tensor("y", [1, 7, 16])],
        {
            "w": weights(16, 16),
            "root": np.sqrt(np.float32(2)),
            "one": np.float32(1),
            "half": np.float32(0.5),
        },
        opset=opset,
    )


def layer_norm() -> ModelProto:
    return model(
        [
            node("ReduceMean", ["x"], ["m"], axes=[-1]),
            node("Sub", ["x", "m"], ["d"]),
            node("Mul", ["d", "d"], ["q"]),
            node("ReduceMean", ["q"], ["v"], axes=[-1]),
            node("Add", ["v", "e"], ["ve"]),
            node("Sqrt", ["ve"], ["s"]),
            node("Div", ["d", "s"], ["n"]),
            node("Mul", ["n", "g"], ["ng"]),
            node("Add", ["ng", "b"], ["y"]),
        ],
        [tensor("x", [1, 7, 16])],
        [tensor("y", [1, 7, 16])],
        {"e": np.float32(1e-5), "g": weights(16), "b": weights(16)},
    )


def test_patterns_become_one_node_where_the_opset_has_one() -> None:
    assert clean(layer_norm())[0] == ["LayerNormalization"]
    assert clean(gelu(20))[0] == ["MatMul", "Gelu"]
    assert "Erf" in clean(gelu(17))[0]


def attention() -> ModelProto:
    """A self-attention block of two heads, as it is written by hand."""
    heads, size = 2, 4
    nodes = []
    for name, perm in (("q", [0, 2, 1, 3]), ("k", [0, 2, 3, 1]), ("v", [0, 2, 1, 3])):
        nodes += [
            node("MatMul", ["x", f"w{name}"], [f"{name}0"]),
            node("Reshape", [f"{name}0", "split"], [f"{name}1"]),
            node("Transpose", [f"{name}1"], [name], perm=perm),
        ]
    nodes += [
        node("MatMul", ["q", "k"], ["qk"]),
        node("Mul", ["qk", "scale"], ["s"]),
        node("Softmax", ["s"], ["p"], axis=-1),
        node("MatMul", ["p", "v"], ["c"]),
        node("Transpose", ["c"], ["c1"], perm=[0, 2, 1, 3]),
        node("Reshape", ["c1", "join"], ["c2"]),
        node("MatMul", ["c2", "wo"], ["y"]),
    ]
    wide = heads * size
    return model(
        nodes,
        [tensor("x", [1, 5, wide])],
        [tensor("y", [1, 5, wide])],
        {f"w{name}": weights(wide, wide, seed=seed) for seed, name in enumerate("qkvo")}
        | {
            "scale": np.float32(size**-0.5),
            "split": np.array([1, 5, heads, size], np.int64),
            "join": np.array([1, 5, wide], np.int64),
        },
    )


def test_attention_stays_what_every_format_takes() -> None:
    """onnxsim would make one node of it that ONNX Runtime alone knows (com.microsoft)."""
    left, _, changed = clean(attention())
    assert "Attention" not in left
    assert {one.domain for one in changed.opset_import} == {""}


def nhwc_convolutions() -> ModelProto:
    """What TensorFlow's exporters write: each convolution between two transposes."""
    into, out = [0, 3, 1, 2], [0, 2, 3, 1]
    return model(
        [
            node("Transpose", ["x"], ["t"], perm=into),
            node("Conv", ["t", "w"], ["c"], pads=[1, 1, 1, 1]),
            node("Transpose", ["c"], ["u"], perm=out),
            node("Add", ["u", "k"], ["a"]),
            node("Relu", ["a"], ["r"]),
            node("Transpose", ["r"], ["t2"], perm=into),
            node("Conv", ["t2", "w2"], ["c2"], pads=[1, 1, 1, 1]),
            node("Transpose", ["c2"], ["y"], perm=out),
        ],
        [tensor("x", [1, 8, 8, 3])],
        [tensor("y", [1, 8, 8, 4])],
        {"w": weights(4, 3, 3, 3), "w2": weights(4, 4, 3, 3), "k": weights(4)},
    )


def test_transposes_between_layers_are_cancelled() -> None:
    left, told, changed = clean(nhwc_convolutions())
    assert told["transpose"] == "done"
    assert left.count("Transpose") == 2
    assert {one.domain for one in changed.opset_import} == {""}
    assert not changed.metadata_props


def test_a_graph_without_transposes_to_save_is_not_touched() -> None:
    assert clean(models.nhwc_net())[1]["transpose"] == "no change"
    assert clean(models.qdq_net())[1]["transpose"] == "no change"


def test_what_no_output_needs_is_removed() -> None:
    made = models.conv_net()
    made.graph.node.append(node("Exp", ["r"], ["unused"], "dead"))
    made.graph.initializer.append(numpy_helper.from_array(weights(1000), "unused weights"))
    _, told, changed = clean(made)
    assert "Exp" not in operators(changed)
    assert "unused weights" not in [one.name for one in changed.graph.initializer]
    assert "done" in (told["fold"], told["fuse"])


def test_the_users_metadata_stay_and_no_tool_adds_its_own() -> None:
    made = models.conv_net()
    made.metadata_props.add(key="author", value="me")
    changed = clean(made)[2]
    assert [(one.key, one.value) for one in changed.metadata_props] == [("author", "me")]


def test_the_users_graph_is_not_changed() -> None:
    made = nhwc_convolutions()
    before = made.SerializeToString(deterministic=True)
    clean(made)
    assert made.SerializeToString(deterministic=True) == before


# A pass that does harm


def off_by_a_little(made: ModelProto) -> ModelProto:
    array = numpy_helper.to_array(made.graph.initializer[0]) * np.float32(1.001)
    made.graph.initializer[0].CopyFrom(
        numpy_helper.from_array(array, made.graph.initializer[0].name)
    )
    return made


def broken(made: ModelProto) -> ModelProto:
    made.graph.node[0].input[0] = "nowhere"
    return made


def crashing(made: ModelProto) -> ModelProto:
    raise RuntimeError("no such pattern")


def for_one_runtime(made: ModelProto) -> ModelProto:
    made.graph.node[1].domain = "com.microsoft"
    return made


@pytest.mark.parametrize(
    ("apply", "says"),
    [
        (for_one_runtime, "operators of com.microsoft"),
        (off_by_a_little, "the outputs would have changed"),
        (broken, "nowhere"),
        (crashing, "RuntimeError: no such pattern"),
    ],
)
def test_a_pass_that_does_harm_is_dropped_and_named(apply, says: str, monkeypatch) -> None:
    passes = (Pass("bad", "does harm", apply), *PASSES)
    monkeypatch.setattr(cleanup, "PASSES", passes)
    made = conv_block(node("BatchNormalization", ["t", "s", "b", "m", "v"], ["y"]))
    left, told, _ = clean(made)
    assert says in told["bad"]
    assert left == ["Conv"]


def test_before_and_after_in_numbers(tmp_path: Path) -> None:
    made = nhwc_convolutions()
    changed = clean(made)[2]
    before, after = (
        size(models.save(one, tmp_path / f"{index}.onnx"))
        for index, one in enumerate((made, changed))
    )
    assert (before.nodes, before.transposes) == (8, 4)
    assert (after.nodes, after.transposes) == (len(changed.graph.node), 2)
    assert before.macs == after.macs == 8 * 8 * 4 * 9 * (3 + 4)
    assert before.weight_bytes == 4 * (4 * 3 * 9 + 4 * 4 * 9 + 4)
