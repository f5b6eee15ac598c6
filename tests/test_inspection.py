"""What a graph costs, counted by hand on graphs small enough to do so."""

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto

from edgekit import inspection
from edgekit.domain import TensorSpec
from edgekit.errors import ModelError
from edgekit.sources import SourceModel, onnx_graph
from tests import models
from tests.models import model, node, tensor, weights

RESNET20 = Path(__file__).parents[2] / "shared/assets/models/resnet20_cifar10/resnet20_fp32.onnx"
INT8 = np.array(0, np.int8)
SCALE = np.array(0.1, np.float32)


@pytest.fixture
def summary(tmp_path):
    """Summarises a graph as it is, without normalising it."""

    def of(made):
        path = models.save(made, tmp_path / "graph.onnx")
        source = SourceModel(
            origin=path,
            name="graph",
            sha256="0" * 64,
            written=path,
            graph=path,
            probe=path,
            opset=17,
            inputs=(),
            outputs=(),
            channels_first=(),
            notes=(),
        )
        return inspection.inspect(source)

    return of


def one(op, inputs, output, constants=None, **attributes):
    """A graph of one node: its inputs' shapes in order, its output's, its constants."""
    names = [f"x{index}" for index in range(len(inputs))]
    return model(
        [node(op, [*names, *(constants or {})], ["y"], "it", **attributes)],
        [tensor(name, shape) for name, shape in zip(names, inputs, strict=True)],
        [tensor("y", output)],
        constants,
    )


@pytest.mark.parametrize(
    ("made", "macs"),
    [
        (one("Conv", [[1, 3, 8, 8]], [1, 4, 6, 6], {"w": weights(4, 3, 3, 3)}), 36 * 4 * 27),
        (
            one("Conv", [[1, 3, 9, 9]], [1, 4, 4, 4], {"w": weights(4, 3, 3, 3)}, strides=[2, 2]),
            16 * 4 * 27,
        ),
        (
            one("Conv", [[1, 6, 5, 5]], [1, 6, 3, 3], {"w": weights(6, 1, 3, 3)}, group=6),
            9 * 6 * 9,
        ),
        (
            one("Conv", [[1, 4, 5, 5]], [1, 6, 3, 3], {"w": weights(6, 2, 3, 3)}, group=2),
            9 * 6 * 2 * 9,
        ),
        (
            one("ConvTranspose", [[1, 3, 4, 4]], [1, 2, 6, 6], {"w": weights(3, 2, 3, 3)}),
            16 * 3 * 2 * 9,
        ),
        (one("Gemm", [[2, 6]], [2, 3], {"w": weights(6, 3)}), 2 * 3 * 6),
        (one("Gemm", [[6, 2]], [2, 3], {"w": weights(6, 3)}, transA=1), 2 * 3 * 6),
        (one("Gemm", [[2, 6]], [2, 3], {"w": weights(3, 6)}, transB=1), 2 * 3 * 6),
        (one("MatMul", [[2, 3, 4]], [2, 3, 5], {"w": weights(4, 5)}), 2 * 3 * 5 * 4),
        (one("MatMul", [[1, 2, 3, 4], [1, 2, 4, 3]], [1, 2, 3, 3]), 2 * 3 * 3 * 4),
        (models.lstm_net(), 5 * 4 * 4 * (3 + 4)),
        (
            one(
                "GRU",
                [[5, 1, 3]],
                [5, 2, 1, 4],
                {"w": weights(2, 12, 3), "r": weights(2, 12, 4)},
                hidden_size=4,
                direction="bidirectional",
            ),
            5 * 2 * 3 * 4 * (3 + 4),
        ),
        (one("Relu", [[1, 100]], [1, 100]), 0),
    ],
)
def test_macs(made, macs, summary):
    found = summary(made)
    assert found.macs == macs
    assert [n.macs for n in found.nodes] == [macs]


def integer(name, shape):
    return tensor(name, shape, TensorProto.INT8)


def test_macs_of_integer_operators(summary):
    wide = np.ones((4, 3, 3, 3), np.int8)
    made = model(
        [
            node("QLinearConv", ["x", "s", "z", "w", "s", "z", "s", "z"], ["c"], "conv"),
            node("Flatten", ["c"], ["f"], "flatten"),
            node("QLinearMatMul", ["f", "s", "z", "v", "s", "z", "s", "z"], ["m"], "matmul"),
            node("MatMulInteger", ["m", "k"], ["y"], "integer"),
        ],
        [integer("x", [1, 3, 4, 4])],
        [tensor("y", [1, 2], TensorProto.INT32)],
        {
            "s": SCALE,
            "z": INT8,
            "w": wide,
            "v": np.ones((16, 5), np.int8),
            "k": np.ones((5, 2), np.int8),
        },
    )
    found = summary(made)
    assert [n.macs for n in found.nodes] == [4 * 4 * 27, 0, 16 * 5, 5 * 2]
    assert found.quantized


def test_parameters_are_counted_once_and_in_their_own_type(summary):
    made = model(
        [
            node("MatMul", ["x", "w"], ["a"], "first"),
            node("MatMul", ["a", "w"], ["b"], "second"),
            node("Add", ["b", "k"], ["y"], "add"),
        ],
        [tensor("x", [1, 4], TensorProto.DOUBLE)],
        [tensor("y", [1, 4], TensorProto.DOUBLE)],
        {"w": np.ones((4, 4)), "k": np.ones(4)},
    )
    found = summary(made)
    assert [n.parameters for n in found.nodes] == [16, 0, 4]
    assert (found.parameters, found.parameter_bytes) == (20, 160)


def test_a_node_says_what_it_reads_and_writes(summary):
    conv, relu, pool, _, dense = summary(models.conv_net()).nodes
    assert (conv.name, conv.op, conv.group, conv.channelwise) == ("conv", "Conv", 1, False)
    assert (conv.input_elements, conv.output_elements) == (3 * 64, 4 * 64)
    assert conv.output_shape == (1, 4, 8, 8)
    assert (conv.parameters, conv.parameter_bytes) == (4 * 27 + 4, 4 * (4 * 27 + 4))
    assert (relu.input_elements, relu.output_elements) == (256, 256)
    assert pool.output_shape == (1, 4, 1, 1)
    assert (dense.input_elements, dense.output_elements, dense.parameters) == (4, 5, 25)


def test_depthwise_is_told_from_grouped(summary):
    (depthwise,) = summary(models.depthwise_net()).nodes
    assert (depthwise.group, depthwise.channelwise) == (6, True)
    made = one("Conv", [[1, 4, 5, 5]], [1, 6, 3, 3], {"w": weights(6, 2, 3, 3)}, group=2)
    (grouped,) = summary(made).nodes
    assert (grouped.group, grouped.channelwise) == (2, False)


def test_operators_the_most_frequent_first(summary):
    operators = summary(models.dense_net()).operators
    assert list(operators.items()) == [("Gemm", 2), ("Relu", 1)]


def test_what_the_source_knows_is_handed_on(tmp_path):
    path = models.save(models.two_by_two(), tmp_path / "net.onnx")
    source = onnx_graph.normalise(path, tmp_path, {})
    found = inspection.inspect(source)
    assert (found.sha256, found.name, found.opset) == (source.sha256, "net", 17)
    assert (found.inputs, found.outputs) == (source.inputs, source.outputs)


# The peak of activations: float32, four bytes an element


def peak(nodes, summary, size=16, constants=None):
    made = model(nodes, [tensor("x", [1, size])], [tensor("y", None)], constants)
    return summary(made).activation_peak_bytes / 4


def test_the_peak_of_a_chain_is_its_widest_pair(summary):
    nodes = [
        node("MatMul", ["x", "up"], ["h"]),
        node("Relu", ["h"], ["r"]),
        node("MatMul", ["r", "down"], ["y"]),
    ]
    constants = {"up": weights(16, 100), "down": weights(100, 30)}
    assert peak(nodes, summary, constants=constants) == 100 + 30


def test_a_residual_keeps_its_input_alive(summary):
    nodes = [
        node("MatMul", ["x", "up"], ["h"]),
        node("Relu", ["h"], ["r"]),
        node("MatMul", ["r", "down"], ["d"]),
        node("Add", ["d", "x"], ["y"]),
    ]
    constants = {"up": weights(16, 100), "down": weights(100, 16)}
    assert peak(nodes, summary, constants=constants) == 16 + 100 + 16


@pytest.mark.parametrize(("op", "expected"), [("Relu", 16), ("Clip", 16), ("Sin", 32)])
def test_some_operators_write_over_their_input(op, expected, summary):
    assert peak([node(op, ["x"], ["y"])], summary) == expected


def test_an_input_that_is_read_later_is_not_written_over(summary):
    nodes = [node("Relu", ["x"], ["r"]), node("Sub", ["x", "r"], ["y"])]
    assert peak(nodes, summary) == 3 * 16


def test_an_output_stays_to_the_end(summary):
    made = model(
        [node("Neg", ["x"], ["a"]), node("Abs", ["x"], ["b"]), node("Exp", ["b"], ["c"])],
        [tensor("x", [1, 16])],
        [tensor("a", [1, 16]), tensor("c", [1, 16])],
    )
    assert summary(made).activation_peak_bytes == 4 * 3 * 16


def test_what_nobody_reads_is_given_back(summary):
    nodes = [node("Neg", ["x"], ["unread"]), node("Neg", ["x"], ["a"]), node("Abs", ["a"], ["y"])]
    assert peak(nodes, summary) == 2 * 16


def test_what_comes_from_constants_alone_is_no_activation(summary):
    nodes = [
        node("Clip", ["k", "", "top"], ["clipped"]),
        node("Neg", ["clipped"], ["n"]),
        node("ReduceMax", ["n"], ["m"], keepdims=0),
        node("Mul", ["x", "m"], ["y"]),
    ]
    constants = {"k": weights(1000), "top": np.array(1, np.float32)}
    assert peak(nodes, summary, constants=constants) == 2 * 16


# What else a summary says


def test_quantized_graphs_are_recognised(summary):
    assert summary(models.qdq_net()).quantized
    assert not summary(models.dense_net()).quantized


def test_a_shape_known_only_at_run_time_is_refused(summary):
    made = model([node("NonZero", ["x"], ["y"], "find")], [tensor("x", [1, 4])], [tensor("y", [])])
    made.graph.output[0].CopyFrom(tensor("y", ["rank", "found"], TensorProto.INT64))
    with pytest.raises(ModelError) as caught:
        summary(made)
    assert "NonZero 'find'" in caught.value.message


def test_a_tensor_of_unknown_rank_is_no_scalar(summary):
    made = model(
        [node("Magic", ["x"], ["m"], "magic", domain="my.own"), node("Neg", ["m"], ["y"])],
        [tensor("x", [1, 4])],
        [tensor("y", [1, 4])],
        custom=["my.own"],
    )
    made.graph.value_info.append(tensor("m", None))
    with pytest.raises(ModelError, match="Magic 'magic'"):
        summary(made)


@pytest.mark.parametrize(("dtype", "expected"), [("float32", 24), ("int8", 6), ("float64", 48)])
def test_size_of_a_tensor(dtype, expected):
    assert inspection.size_bytes(TensorSpec("t", (1, 2, 3), dtype)) == expected


@pytest.mark.skipif(not RESNET20.is_file(), reason="the example models are not here")
def test_published_figures_of_resnet_20(tmp_path):
    """He et al., "Deep Residual Learning": 0.27 M parameters; 40.5 M multiply-accumulates."""
    found = inspection.inspect(onnx_graph.normalise(RESNET20.resolve(), tmp_path, {}))
    assert found.macs == pytest.approx(40.5e6, rel=0.005)
    assert found.parameters == pytest.approx(0.27e6, rel=0.01)
    assert found.parameter_bytes == pytest.approx(4 * found.parameters, rel=0.001)
    assert not found.quantized
