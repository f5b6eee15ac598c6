"""Nodes and outputs that nothing can be compared with: refused before anything is made of them.

Every change to a graph is proven against what ONNX Runtime gives for it as written. That
proves nothing where the node draws at random, where ONNX Runtime itself does otherwise than
ONNX says, and where the shape of an output is another one for other data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import onnx
from msgspec import Struct
from numpy.typing import NDArray
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

from edgekit.domain import TensorSpec
from edgekit.errors import ModelError
from edgekit.sources import reference
from edgekit.sources.feeds import Feeds, random_feeds

_OUTPUT_SHAPE, _RATIO, _TRAINING = 2, 1, 2
_SCORES = 3
_MASKED_SCORES = (1, 2)
"""Attention's ``qk_matmul_output_mode`` between the raw scores and the softmax."""

Constants = Mapping[str, TensorProto]


class Case(Struct, frozen=True, kw_only=True):
    """One kind of node.

    Attributes:
        operators: of ONNX's own domain.
        when: tells it, by a node and the constants it can see.
        why: what is wrong with it.
        hint: what to do.
    """

    operators: frozenset[str]
    when: Callable[[NodeProto, Constants], bool]
    why: str
    hint: str


def _drops(node: NodeProto, constants: Constants) -> bool:
    """Whether a Dropout is, or may be, in training mode."""
    ratio, training = _value(node, _RATIO, constants), _value(node, _TRAINING, constants)
    if len(node.input) <= _TRAINING or not node.input[_TRAINING]:
        return False
    return (training is None or bool(training.any())) and (ratio is None or bool(ratio.any()))


def _shaped(node: NodeProto, _constants: Constants) -> bool:
    return len(node.input) > _OUTPUT_SHAPE and bool(node.input[_OUTPUT_SHAPE])


def _masks_scores(node: NodeProto, _constants: Constants) -> bool:
    given = {one.name: helper.get_attribute_value(one) for one in node.attribute}
    shown = len(node.output) > _SCORES and bool(node.output[_SCORES])
    masked = given.get("qk_matmul_output_mode", 0) in _MASKED_SCORES
    return shown and masked and bool(given.get("is_causal", 0))


CASES = (
    Case(
        operators=frozenset(
            {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
            | {"Bernoulli", "Multinomial"}
        ),
        when=lambda _node, _constants: True,
        why="draws at random: nothing that is made of it can be compared with it",
        hint="export the model without it; what is random can be an input",
    ),
    Case(
        operators=frozenset({"Dropout"}),
        when=_drops,
        why="is in training mode and drops at random",
        hint="export the model in inference mode (model.eval(), training=False)",
    ),
    Case(
        operators=frozenset({"MaxUnpool"}),
        when=_shaped,
        why="is given an output shape, by which ONNX Runtime reads the indices otherwise than ONNX",
        hint="export it without the shape, and pad what it gives",
    ),
    Case(
        operators=frozenset({"Attention"}),
        when=_masks_scores,
        why="gives its causal scores after the mask, where ONNX Runtime writes the lowest number "
        "in place of minus infinity",
        hint="export it without the scores, or with those before the mask or after the softmax",
    ),
)


def check_nodes(model: onnx.ModelProto) -> None:
    """Refuse the nodes of ``CASES``.

    Raises:
        ModelError: there is one; it is named.
    """
    for node, constants in _nodes(model.graph, {}):
        for case in CASES:
            if node.op_type in case.operators and not node.domain and case.when(node, constants):
                raise ModelError(f"{node.op_type} {node.name!r} {case.why}", case.hint)


def check_shapes(
    model: onnx.ModelProto, inputs: tuple[TensorSpec, ...], expected: reference.Outputs
) -> None:
    """Refuse a graph whose outputs are of other shapes for other data.

    Only what shape inference leaves open is run, for zeros, ones and other made-up inputs.

    Raises:
        ModelError: an output's shape differs.
    """
    if _inferred(model):
        return
    for feeds in _others(inputs):
        try:
            got = reference.run(model, feeds)
        except ModelError:
            continue  # it takes no such values
        for name, array in expected.items():
            if got[name].shape != array.shape:
                raise ModelError(
                    f"the shape of output {name!r} depends on the data: {list(array.shape)} for "
                    f"some, {list(got[name].shape)} for others",
                    "edgekit needs fixed shapes: export the model without data-dependent shapes",
                )


def _nodes(graph: GraphProto, outer: Constants) -> Iterator[tuple[NodeProto, Constants]]:
    """Every node, within branches and loops too, with the constants in its sight."""
    constants = {**outer, **{tensor.name: tensor for tensor in graph.initializer}}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            constants[node.output[0]] = node.attribute[0].t
    for node in graph.node:
        yield node, constants
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _nodes(inner, constants)


def _value(node: NodeProto, index: int, constants: Constants) -> NDArray[np.generic] | None:
    """A constant input; ``None`` for what is not constant. One that is not given is true."""
    if len(node.input) <= index or not node.input[index]:
        return np.array(True)
    tensor = constants.get(node.input[index])
    return None if tensor is None else numpy_helper.to_array(tensor)


def _inferred(model: onnx.ModelProto) -> bool:
    """Whether the shapes of the outputs follow from those of the inputs."""
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    for value in bare.graph.output:
        value.type.tensor_type.ClearField("shape")
    inferred = onnx.shape_inference.infer_shapes(bare, data_prop=True)
    return all(
        value.type.tensor_type.HasField("shape")
        and all(dim.HasField("dim_value") for dim in value.type.tensor_type.shape.dim)
        for value in inferred.graph.output
    )


def _others(inputs: tuple[TensorSpec, ...]) -> Iterator[Feeds]:
    for make in (np.zeros, np.ones):
        yield {spec.name: make(spec.shape, spec.dtype) for spec in inputs}
    yield random_feeds(inputs, seed=1)
