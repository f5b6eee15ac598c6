"""Any ONNX file becomes one graph to rely on, or is refused; the file itself is never touched."""

import hashlib
import re
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit import sources
from edgekit.errors import ModelError
from edgekit.sources import MIN_OPSET, onnx_graph, random_feeds, reference
from tests import models
from tests.models import model, node, tensor, weights

ASSETS = Path(__file__).parents[3] / "shared" / "assets" / "models"
EXAMPLES = sorted(ASSETS.glob("**/*.onnx"))
TINY = [
    models.conv_net,
    models.nhwc_net,
    models.dense_net,
    models.lstm_net,
    models.depthwise_net,
    models.two_by_two,
    models.old_net,
    models.qdq_net,
]


@pytest.fixture
def folder(tmp_path):
    """Where graphs are written."""
    made = tmp_path / "graphs"
    made.mkdir()
    return made


def loaded(made, folder, shapes=None):
    """What ``load`` gives, without the process it starts."""
    path = made if isinstance(made, Path) else models.save(made, folder.parent / "model.onnx")
    return onnx_graph.normalise(path, folder, shapes or {})


def refusal(made, folder, shapes=None):
    """The error a model is refused with; nothing was written."""
    with pytest.raises(ModelError) as caught:
        loaded(made, folder, shapes)
    assert not list(folder.iterdir())
    return caught.value


def graph_of(source):
    return onnx.load(source.graph).graph


def assert_same_outputs(original, source):
    """The normalised graph gives what the user's file gives."""
    feeds = random_feeds(source.inputs, seed=1)
    expected, got = models.run(original, feeds), models.run(source.graph, feeds)
    assert list(got) == list(expected) == [spec.name for spec in source.outputs]
    for spec in source.outputs:
        a, b = expected[spec.name], got[spec.name]
        assert (b.shape, b.dtype) == (a.shape, a.dtype) == (spec.shape, np.dtype(spec.dtype))
        np.testing.assert_allclose(b, a, rtol=0, atol=1e-4 * max(np.abs(a).max(), 1e-30))


def digests(folder):
    files = (path for path in folder.iterdir() if path.is_file())
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize("made", TINY, ids=lambda made: made.__name__)
def test_outputs_stay_the_same(made, folder):
    source = loaded(made(), folder)
    assert_same_outputs(folder.parent / "model.onnx", source)
    onnx.checker.check_model(str(source.graph), full_check=True)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_outputs_of_real_models_stay_the_same(path, folder):
    source = sources.load(path, folder)
    assert source.origin == path.resolve()
    assert_same_outputs(path, source)
    names = [n.name for n in graph_of(source).node]
    assert len(set(names)) == len(names)
    assert all(names)


# Shapes


def test_a_dynamic_batch_becomes_one(folder):
    source = loaded(models.conv_net(batch="N"), folder)
    assert source.inputs[0].shape == (1, 3, 8, 8)
    assert source.outputs[0].shape == (1, 5)
    assert source.notes == ("input x fixed to [1, 3, 8, 8]",)
    assert_same_outputs(folder.parent / "model.onnx", source)


@pytest.mark.parametrize("size", [0, -1])
def test_a_batch_of_nought_or_less_is_dynamic_too(size, folder):
    assert loaded(models.dense_net(batch=size), folder).inputs[0].shape == (1, 6)


def test_another_dynamic_axis_needs_a_shape_and_the_hint_says_which(folder):
    error = refusal(models.sequence_net(), folder)
    name, shape = re.fullmatch(r"fix them with --shape (\w+)=(\S+)", error.hint).groups()
    assert (name, shape) == ("x", "1,N,4")
    given = {name: tuple(int(size) for size in shape.replace("N", "7").split(","))}
    source = loaded(models.sequence_net(), folder, given)
    assert source.inputs[0].shape == (1, 7, 4)
    assert source.outputs[0].shape == (1, 7, 2)
    assert_same_outputs(folder.parent / "model.onnx", source)


def test_an_input_without_any_shape_takes_the_one_given(folder):
    made = model([node("Relu", ["x"], ["y"])], [tensor("x", None)], [tensor("y", None)])
    assert "--shape x=" in refusal(made, folder).hint
    source = loaded(made, folder, {"x": (1, 4)})
    assert source.inputs[0].shape == source.outputs[0].shape == (1, 4)


@pytest.mark.parametrize(
    ("shapes", "says"),
    [
        ({"z": (1, 6)}, "'z'; the model's inputs: x"),
        ({"x": (1, 5)}, "x=[1, 5] does not fit the input's ['?', 6]"),
        ({"x": (1, 6, 1)}, "does not fit"),
        ({"x": (0, 6)}, "does not fit"),
        ({"x": ()}, "does not fit"),
    ],
)
def test_a_shape_that_does_not_fit_is_refused(shapes, says, folder):
    assert says in refusal(models.dense_net(batch="N"), folder, shapes).message


def test_what_is_nan_for_made_up_inputs_is_said(folder):
    made = model([node("Sqrt", ["x"], ["y"])], [tensor("x", [1, 8])], [tensor("y", [1, 8])])
    negative = int((random_feeds(loaded(made, folder).inputs)["x"] < 0).sum())
    assert 0 < negative < 8
    (note,) = loaded(made, folder).notes
    assert note.startswith(f"output y is NaN in {negative} of 8 places")


# Versions


def test_an_old_opset_is_raised(folder):
    source = loaded(models.old_net(), folder)
    graph = onnx.load(source.graph)
    assert source.opset == 8
    assert [o.version for o in graph.opset_import if not o.domain] == [MIN_OPSET]
    assert "raised from opset 8 to 13" in source.notes
    assert [spec.name for spec in source.inputs] == ["x"]
    assert_same_outputs(folder.parent / "model.onnx", source)


def test_a_newer_opset_is_kept(folder):
    source = loaded(models.dense_net(), folder)
    assert [o.version for o in onnx.load(source.graph).opset_import] == [17]
    assert source.notes == ()


@pytest.mark.parametrize("ir", [3, onnx.IR_VERSION])
def test_the_ir_version_is_one_that_old_runtimes_read(ir, folder):
    made = models.dense_net()
    made.ir_version = ir
    assert onnx.load(loaded(made, folder).graph).ir_version == 8


def test_an_opset_that_onnx_does_not_know_is_refused(folder):
    made = models.dense_net()
    made.opset_import[0].version = onnx.defs.onnx_opset_version() + 1
    assert "lower opset" in refusal(made, folder).hint


def test_an_old_operator_that_cannot_be_raised_is_refused(folder):
    made = model(
        [node("TopK", ["x"], ["y"], k=1)],  # its second output is missing
        [tensor("x", [1, 4])],
        [tensor("y", [1, 1])],
        opset=9,
    )
    assert "opset 9" in refusal(made, folder).message


def test_no_operator_set_but_a_custom_one_is_refused(folder):
    made = model([node("Relu", ["x"], ["y"])], [tensor("x", [1])], [tensor("y", [1])])
    made.opset_import[0].domain = "my.own"
    refusal(made, folder)


# What later stages rely on


def test_nodes_get_unique_names(folder):
    nodes = [
        node("Sigmoid", ["x"], ["a"], "Tanh_1"),
        node("Tanh", ["a"], ["b"]),
        node("Sin", ["b"], ["c"], "same"),
        node("Cos", ["c"], ["d"], "same"),
        node("Exp", ["d"], ["y"]),
    ]
    source = loaded(model(nodes, [tensor("x", [1, 4])], [tensor("y", [1, 4])]), folder)
    names = [n.name for n in graph_of(source).node]
    assert names == ["Tanh_1", "Tanh_1_", "same", "Cos_3", "Exp_4"]


def test_what_is_computed_from_constants_is_folded(folder):
    made = model(
        [node("Add", ["c", "c"], ["k"]), node("Mul", ["x", "k"], ["y"])],
        [tensor("x", [1, 4])],
        [tensor("y", [1, 4])],
        {"c": weights(4)},
    )
    assert [n.op_type for n in graph_of(loaded(made, folder)).node] == ["Mul"]


def test_weights_in_constant_nodes_become_initializers(folder):
    made = model(
        [
            node("Constant", [], ["w"], value=numpy_helper.from_array(weights(4, 3))),
            node("Constant", [], ["k"], value_float=2.0),
            node("MatMul", ["x", "w"], ["p"]),
            node("Mul", ["p", "k"], ["y"]),
        ],
        [tensor("x", [1, 4])],
        [tensor("y", [1, 3])],
    )
    source = loaded(made, folder)
    graph = graph_of(source)
    assert "Constant" not in [n.op_type for n in graph.node]
    assert {tuple(constant.dims) for constant in graph.initializer} >= {(4, 3)}
    assert_same_outputs(folder.parent / "model.onnx", source)


def test_functions_of_the_model_are_inlined(folder):
    body = [node("MatMul", ["a", "b"], ["p"]), node("Relu", ["p"], ["c"])]
    function = helper.make_function(
        "my.own", "Layer", ["a", "b"], ["c"], body, [helper.make_opsetid("", 17)]
    )
    made = model(
        [node("Layer", ["x", "w"], ["y"], domain="my.own")],
        [tensor("x", [1, 4])],
        [tensor("y", [1, 3])],
        {"w": weights(4, 3)},
        custom=["my.own"],
    )
    made.functions.append(function)
    source = loaded(made, folder)
    assert [n.op_type for n in graph_of(source).node] == ["MatMul", "Relu"]
    assert_same_outputs(folder.parent / "model.onnx", source)


def test_the_bias_of_a_gemm_is_flattened(folder):
    source = loaded(models.dense_net(bias=(1, 7)), folder)
    biases = [c.dims for c in graph_of(source).initializer if 7 in c.dims and 6 not in c.dims]
    assert [7] in biases
    assert [1, 7] not in biases
    assert_same_outputs(folder.parent / "model.onnx", source)


def test_a_bias_that_others_read_is_left_alone(folder):
    made = model(
        [node("Gemm", ["x", "w", "b"], ["g"]), node("Concat", ["g", "b"], ["y"], axis=0)],
        [tensor("x", [1, 4])],
        [tensor("y", [2, 3])],
        {"w": weights(4, 3), "b": weights(1, 3)},
    )
    assert_same_outputs(models.save(made, folder.parent / "model.onnx"), loaded(made, folder))


def test_two_loads_give_equal_bytes(tmp_path):
    path = models.save(models.conv_net(batch="N"), tmp_path / "model.onnx")
    graphs = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        source = sources.load(path, tmp_path / name)
        assert source.graph.parent == tmp_path / name
        graphs.append(source.graph.read_bytes())
    assert graphs[0] == graphs[1]


@pytest.mark.parametrize("odd", [np.inf, np.nan])
def test_agreement_is_judged_by_the_finite_values(odd):
    expected, near, far = (np.array([odd, value], np.float32) for value in (1, 1.00001, 1.1))
    assert reference.agree({"y": near}, {"y": expected})
    assert not reference.agree({"y": far}, {"y": expected})
    assert not reference.agree({"y": np.array([1, 1], np.float32)}, {"y": expected})


# What is refused


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("missing.onnx", None, "no such file"),
        ("model.pkl", b"x", "is a Python pickle"),
        ("model.xyz", b"x", "expected .onnx, "),
        ("model", b"x", "got no suffix"),
        ("half.onnx", models.conv_net().SerializeToString()[:600], "not an ONNX model"),
    ],
)
def test_what_is_no_model_is_refused(name, content, says, folder):
    path = folder.parent / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelError) as caught:
        sources.load(path, folder)
    assert says in caught.value.message
    assert not list(folder.iterdir())


@pytest.mark.parametrize("content", [b"", b"\0" * 100, b"# a readme, not a network\n" * 20])
def test_a_file_of_something_else_is_refused(content, folder):
    path = folder.parent / "model.onnx"
    path.write_bytes(content)
    assert "not an ONNX model" in refusal(path, folder).message


@pytest.mark.parametrize("made", [models.conv_net, models.old_net, models.qdq_net])
def test_a_truncated_file_is_refused(made, folder):
    whole = made().SerializeToString()
    for tenth in range(1, 10):
        path = folder.parent / "cut.onnx"
        path.write_bytes(whole[: len(whole) * tenth // 10])
        refusal(path, folder)


def test_a_custom_operator_is_refused(folder):
    made = model(
        [node("Magic", ["x"], ["y"], domain="my.own")],
        [tensor("x", [1, 4])],
        [tensor("y", [1, 4])],
        custom=["my.own"],
    )
    error = refusal(made, folder)
    assert "Magic" in error.message
    assert "custom operators" in error.hint


@pytest.mark.parametrize("kind", [TensorProto.STRING, TensorProto.BFLOAT16, TensorProto.UNDEFINED])
def test_an_input_that_holds_no_numbers_is_refused(kind, folder):
    made = model(
        [node("Identity", ["x"], ["y"])], [tensor("x", [1], kind)], [tensor("y", [1], kind)]
    )
    assert "input 'x'" in refusal(made, folder).message


def test_an_output_that_is_no_tensor_is_refused(folder):
    made = model(
        [node("SplitToSequence", ["x"], ["y"], axis=1)],
        [tensor("x", [1, 4])],
        [helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, None)],
    )
    assert "output 'y'" in refusal(made, folder).message


def test_a_model_without_inputs_is_refused(folder):
    made = model([node("Neg", ["c"], ["y"])], [], [tensor("y", [4])], {"c": weights(4)})
    assert "no inputs" in refusal(made, folder).message


# External data


def test_external_data_beside_the_model_are_read_and_counted(folder):
    path = models.save_external(models.dense_net(), folder.parent / "model.onnx")
    source = loaded(path, folder)
    assert_same_outputs(path, source)
    assert not any(c.external_data for c in graph_of(source).initializer)
    data = path.with_name("weights.bin")
    data.write_bytes(bytes([data.read_bytes()[0] ^ 1]) + data.read_bytes()[1:])
    assert loaded(path, folder).sha256 != source.sha256


def test_without_external_data_the_digest_is_the_files(folder):
    source = loaded(models.dense_net(), folder)
    content = (folder.parent / "model.onnx").read_bytes()
    assert source.sha256 == hashlib.sha256(content).hexdigest()


def test_external_data_in_a_folder_below_are_read(folder):
    path = models.save_external(models.dense_net(), folder.parent / "model.onnx", "data/w.bin")
    (folder.parent / "data").mkdir()
    path.with_name("weights.bin").rename(folder.parent / "data" / "w.bin")
    assert_same_outputs(path, loaded(path, folder))


def leave(how, inside, outside):
    """Put the weights of ``inside/model.onnx`` where it should not reach; what it calls them."""
    weights_file = outside / "w.bin"
    shutil.move(inside / "weights.bin", weights_file)
    if how == "symlink":
        (inside / "link.bin").symlink_to(weights_file)
    elif how == "symlinked folder":
        (inside / "sub").symlink_to(outside, target_is_directory=True)
    elif how == "hard link":
        (inside / "hard.bin").hardlink_to(weights_file)
    return {
        "parent": f"../{outside.name}/w.bin",
        "roundabout": f"sub/../../{outside.name}/w.bin",
        "absolute": str(weights_file),
        "symlink": "link.bin",
        "symlinked folder": "sub/w.bin",
        "hard link": "hard.bin",
    }[how]


@pytest.mark.parametrize(
    "how", ["parent", "roundabout", "absolute", "symlink", "symlinked folder", "hard link"]
)
def test_external_data_that_leave_the_folder_are_refused(how, folder):
    inside, outside = folder.parent / "inside", folder.parent / "outside"
    inside.mkdir()
    outside.mkdir()
    path = models.save_external(models.dense_net(), inside / "model.onnx")
    stored = onnx.load(path, load_external_data=False)
    location = leave(how, inside, outside)
    for constant in stored.graph.initializer:
        constant.external_data[0].value = location
    error = refusal(models.save(stored, path), folder)
    assert ("is a hard link" if how == "hard link" else "outside its own folder") in error.message


def outsider(name, dims):
    """A tensor kept in ``secret.bin``."""
    made = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=dims)
    made.data_location = TensorProto.EXTERNAL
    made.external_data.add(key="location", value="secret.bin")
    return made


def sparse_model():
    made = model([node("Add", ["x", "s"], ["y"])], [tensor("x", [1, 4])], [tensor("y", [1, 4])])
    indices = numpy_helper.from_array(models.integers(0, 2))
    made.graph.sparse_initializer.add(values=outsider("s", [2]), indices=indices, dims=[4])
    return made


def function_model():
    """A function with a branch that has a constant of its own."""
    own = helper.make_graph([node("Identity", ["k"], ["p"])], "own", [], [tensor("p", [4])])
    own.initializer.append(outsider("k", [4]))
    plain = helper.make_graph([node("Identity", ["a"], ["q"])], "plain", [], [tensor("q", [1, 4])])
    body = [node("If", ["c"], ["b"], then_branch=own, else_branch=plain)]
    opsets = [helper.make_opsetid("", 17)]
    made = model(
        [node("F", ["x", "c"], ["y"], domain="my.own")],
        [tensor("x", [1, 4]), tensor("c", [], TensorProto.BOOL)],
        [tensor("y", None)],
        custom=["my.own"],
    )
    made.functions.append(helper.make_function("my.own", "F", ["a", "c"], ["b"], body, opsets))
    return made


@pytest.mark.parametrize("made", [sparse_model, function_model])
def test_external_data_are_found_wherever_a_model_hides_them(made, folder, monkeypatch):
    """ONNX Runtime would read them from the current folder."""
    elsewhere = folder.parent / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "secret.bin").write_bytes(weights(4).tobytes())
    monkeypatch.chdir(elsewhere)
    assert "'secret.bin', which is not beside it" in refusal(made(), folder).message


@pytest.mark.parametrize("location", ["", ".", "missing.bin", "a" * 300, "w\0.bin"])
def test_external_data_that_are_no_file_are_refused(location, folder):
    path = models.save_external(models.dense_net(), folder.parent / "model.onnx", location)
    refusal(path, folder)


@pytest.mark.parametrize(("key", "value"), [("offset", "-4"), ("offset", "x"), ("length", "9" * 9)])
def test_external_data_outside_their_file_are_refused(key, value, folder):
    path = models.save_external(models.dense_net(), folder.parent / "model.onnx")
    stored = onnx.load(path, load_external_data=False)
    for constant in stored.graph.initializer:
        (entry,) = [e for e in constant.external_data if e.key == key]
        entry.value = value
    assert "cannot be read" in refusal(models.save(stored, path), folder).message


def test_the_users_files_are_never_changed(folder):
    own = folder.parent / "own"
    own.mkdir()
    for name, made in (("a", models.old_net()), ("b", models.conv_net(batch="N"))):
        models.save(made, own / f"{name}.onnx")
    models.save_external(models.dense_net(bias=(1, 7)), own / "c.onnx")
    (own / "d.onnx").write_bytes(b"nonsense")
    before = digests(own)
    for name in "abc":
        loaded(own / f"{name}.onnx", folder)
    with pytest.raises(ModelError):
        loaded(own / "d.onnx", folder)
    assert digests(own) == before
