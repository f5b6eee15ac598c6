"""What an application sees of a package: pictures as inputs, labels for its classes.

Pictures are made part of the ONNX graph (``source = scale * pixel + bias``) before it is
converted; that they are pictures, and what the classes are called, is written into the saved
model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.domain import Interface, Picture, TensorSpec
from edgekit.errors import UsageError
from edgekit.interfaces import to_pixels

if TYPE_CHECKING:
    from onnx import ModelProto

LABEL, PROBABILITIES = "classLabel", "classLabel_probs"
"""As Xcode and the Vision framework know them."""

_CLASSIFY = "classify"
_COLOUR_SPACES = {"rgb": "RGB", "bgr": "BGR", "gray": "GRAYSCALE"}
_TO_LAST = (0, 2, 3, 1)


def check(inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> None:
    """No tensor of the model is called what labels come out as.

    Raises:
        UsageError: one is.
    """
    if taken := {LABEL, PROBABILITIES} & {spec.name for spec in (*inputs, *outputs)}:
        raise UsageError(f"{min(taken)!r} is a tensor of the model, and what labels come out as")


def pictured(
    model: ModelProto, pictures: Mapping[str, Picture], specs: tuple[TensorSpec, ...]
) -> None:
    """Have a graph take pixels, 0 to 255, where it took what a user makes of them; in place."""
    from onnx import helper

    by_name = {spec.name: spec for spec in specs}
    nodes: list[Any] = []
    for value in model.graph.input:
        if value.name not in pictures:
            continue
        spec, picture = by_name[value.name], pictures[value.name]
        constants, entering = _entrance(spec, picture, value.type.tensor_type.elem_type)
        inside = entering[-1].output[0]
        for node in model.graph.node:
            node.input[:] = [inside if name == spec.name else name for name in node.input]
        model.graph.initializer.extend(constants)
        nodes += entering
        _, height, width, channels = (spec.shape[axis] for axis in to_pixels(spec, picture))
        shape, kind = (1, channels, height, width), value.type.tensor_type.elem_type
        value.CopyFrom(helper.make_tensor_value_info(spec.name, kind, shape))
    kept = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*nodes, *kept])


def _entrance(spec: TensorSpec, picture: Picture, kind: int) -> tuple[list[Any], list[Any]]:
    """The constants and nodes that make the source's input of pixels."""
    from onnx import helper, numpy_helper

    dtype, name = helper.tensor_dtype_to_np_dtype(kind), spec.name
    constants = [
        numpy_helper.from_array(np.asarray(v, dtype).reshape(1, -1, 1, 1), f"{name}/{what}")
        for what, v in (("scale", picture.scale), ("bias", picture.bias))
    ]
    scaled, real, turned = (f"{name}/{what}" for what in ("scaled", "real", "turned"))
    nodes = [
        helper.make_node("Mul", [name, f"{name}/scale"], [scaled], scaled),
        helper.make_node("Add", [scaled, f"{name}/bias"], [real], real),
    ]
    if to_pixels(spec, picture) != _TO_LAST:
        nodes.append(helper.make_node("Transpose", [real], [turned], turned, perm=_TO_LAST))
    return constants, nodes


def inscribe(spec: Any, interface: Interface, names: Mapping[str, str]) -> None:
    """Write into a saved model (coremltools' protobuf) what is a picture, and what classes are.

    Args:
        spec: the model; changed in place.
        interface: what was asked for.
        names: the source's names of inputs and outputs -> the package's.
    """
    features = {feature.name: feature for feature in spec.description.input}
    for name, picture in interface.pictures.items():
        feature = features[names[name]]
        *_, height, width = feature.type.multiArrayType.shape
        image = feature.type.imageType  # a oneof: this clears what it was
        image.height, image.width = height, width
        image.colorSpace = image.ColorSpace.Value(_COLOUR_SPACES[picture.colours])
    if interface.labels:
        _classified(spec, interface.labels, next(iter(spec.description.output)).name)


def _classified(spec: Any, labels: tuple[str, ...], scores: str) -> None:
    """Have the program end in ``classify``, which names the likeliest class (iOS 15)."""
    function = spec.mlProgram.functions["main"]
    block = function.block_specializations[function.opset]
    operation = block.operations.add(type=_CLASSIFY)
    operation.inputs["probabilities"].arguments.add(name=scores)
    _list(operation.inputs["classes"].arguments.add().value, labels)
    _text(operation.attributes["name"], _CLASSIFY)
    label, probabilities = operation.outputs.add(name=LABEL), operation.outputs.add()
    text = _data_type(label, "STRING")
    label.type.tensorType.dataType = text
    probabilities.name = PROBABILITIES
    table = probabilities.type.dictionaryType
    table.keyType.tensorType.dataType = text
    table.valueType.tensorType.dataType = _data_type(label, "FLOAT64")
    others = [name for name in block.outputs if name != scores]
    block.outputs[:] = [LABEL, PROBABILITIES, *others]
    _describe(spec.description, scores)


def _describe(description: Any, scores: str) -> None:
    kept = [feature for feature in description.output if feature.name != scores]
    del description.output[:]
    description.output.add(name=LABEL).type.stringType.SetInParent()
    description.output.add(name=PROBABILITIES).type.dictionaryType.stringKeyType.SetInParent()
    description.output.extend(kept)
    description.predictedFeatureName = LABEL
    description.predictedProbabilitiesName = PROBABILITIES


def _list(value: Any, texts: tuple[str, ...]) -> None:
    value.type.listType.type.tensorType.dataType = _data_type(value, "STRING")
    value.type.listType.length.constant.size = len(texts)
    for text in texts:
        _text(value.immediateValue.list.values.add(), text)


def _text(value: Any, text: str) -> None:
    value.type.tensorType.dataType = _data_type(value, "STRING")
    value.immediateValue.tensor.strings.values.append(text)


def _data_type(message: Any, name: str) -> int:
    """The number of a type in MIL's protobuf."""
    types = message.DESCRIPTOR.file.enum_types_by_name["DataType"]
    number: int = types.values_by_name[name].number
    return number
