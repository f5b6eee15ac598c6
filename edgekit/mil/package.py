"""Reading an .mlpackage: its manifest, its model and its weights, without trusting any of them.

Only coremltools' protobuf classes are used: its own reader rebuilds the program through its
builder, which computes values and checks types as the converter that wrote it did. This reader
takes the file as it is. Nothing outside the folder is opened, and no link is followed.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Sequence
from functools import cache
from math import prod
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import Any

import numpy as np
from msgspec import Struct

from edgekit.errors import ModelError, ToolMissing
from edgekit.mil.types import (
    Array,
    Block,
    ElementType,
    Feature,
    Image,
    Operation,
    Program,
    Reference,
    TensorType,
    Value,
    Variable,
)
from edgekit.mil.weights_file import WeightsFile, unpacked

_HINT = "make the package again; a copy may have been cut short"
_MODEL_PATH = "@model_path"
_MAX_ELEMENTS = 2**31
_MAX_MANIFEST_BYTES = 2**20
_ELEMENTS = {
    element.name: element
    for element in (
        ElementType("bool", 8, "bool"),
        ElementType("string", 0, "str"),
        ElementType("float16", 16, "float16"),
        ElementType("float32", 32, "float32"),
        ElementType("float64", 64, "float64"),
        ElementType("int4", 4, "int8"),
        ElementType("int8", 8, "int8"),
        ElementType("int16", 16, "int16"),
        ElementType("int32", 32, "int32"),
        ElementType("int64", 64, "int64"),
        ElementType("uint1", 1, "uint8"),
        ElementType("uint2", 2, "uint8"),
        ElementType("uint3", 3, "uint8"),
        ElementType("uint4", 4, "uint8"),
        ElementType("uint6", 6, "uint8"),
        ElementType("uint8", 8, "uint8"),
        ElementType("uint16", 16, "uint16"),
        ElementType("uint32", 32, "uint32"),
        ElementType("uint64", 64, "uint64"),
    )
}
_ARRAY_TYPES = {
    "FLOAT16": "float16",
    "FLOAT32": "float32",
    "DOUBLE": "float64",
    "INT32": "int32",
    "INT8": "int8",
}
_LABEL_TYPES = {"stringType": "str", "int64Type": "int64", "dictionaryType": "float32"}


def read(package: Path) -> Program:
    """The default function of a package, its compressed weights still as they are stored.

    Raises:
        ModelError: no package, not an ML Program, damaged, or it keeps states.
        ToolMissing: coremltools is not installed.
    """
    try:
        return _Reader(package).program()
    except OSError as error:
        raise ModelError(f"{package.name}: {error.strerror or error}", _HINT) from error
    # Numbers that no type or enumeration has, names that lead nowhere.
    except (ValueError, OverflowError, KeyError) as error:
        raise ModelError(f"{package.name} contradicts itself: {error!r}", _HINT) from error


@cache
def protos() -> ModuleType:
    """coremltools' protobuf classes alone: importing all of it takes seconds and prints."""
    found = importlib.util.find_spec("coremltools")
    if found is None or not found.submodule_search_locations:
        raise ToolMissing("coremltools is not installed", "pip install 'edgekit[coreml]'")
    folder = Path(found.submodule_search_locations[0]) / "proto"
    name = "edgekit_coremltools_proto"
    spec = importlib.util.spec_from_file_location(
        name, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    if spec is None or spec.loader is None:
        raise ToolMissing("coremltools has no protobuf classes", "install coremltools 9")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


class _Interface(Struct, frozen=True):
    """What the description says of the default function."""

    function: str
    inputs: Any
    outputs: Any


class _Reader:
    """One package being read; it knows where the model's files lie."""

    def __init__(self, package: Path) -> None:
        self._package = package
        self._name = package.name
        self._model = self._inside(package / "Data", self._model_file())
        self._weights: dict[str, WeightsFile] = {}

    def program(self) -> Program:
        from google.protobuf.message import DecodeError

        model = protos().Model_pb2.Model()
        try:
            model.ParseFromString(self._model.read_bytes())
        except DecodeError as error:
            raise self._bad(f"{self._model.name} cannot be read: {error}") from error
        if model.WhichOneof("Type") != "mlProgram":
            kind = model.WhichOneof("Type") or "nothing"
            raise self._bad(f"expected an ML Program, it holds {kind}", "convert to mlprogram")
        interface = self._interface(model.description)
        return self._function(model.mlProgram, interface)

    def _function(self, program: Any, interface: _Interface) -> Program:
        if interface.function not in program.functions:
            known = ", ".join(sorted(program.functions)) or "none"
            raise self._bad(f"it has no function {interface.function!r}; it has {known}")
        function = program.functions[interface.function]
        if function.opset not in function.block_specializations:
            raise self._bad(f"its function has no block for its operation set {function.opset}")
        body = self._block(function.block_specializations[function.opset])
        classes = _classes(body)
        return Program(
            package=self._name,
            opset=function.opset,
            inputs=tuple(map(self._feature, interface.inputs)),
            outputs=tuple(self._feature(each, classes) for each in interface.outputs),
            parameters=tuple(map(self._variable, function.inputs)),
            body=body,
            constants={},
            classes=classes,
        )

    def _interface(self, description: Any) -> _Interface:
        """The default function's inputs and outputs: at the top, or under its name."""
        if not description.functions:
            if description.state:
                raise self._stateful(description.state)
            return _Interface("main", description.input, description.output)
        name = description.defaultFunctionName or "main"
        for function in description.functions:
            if function.name == name:
                if function.state:
                    raise self._stateful(function.state)
                return _Interface(name, function.input, function.output)
        raise self._bad(f"its description has no default function {name!r}")

    def _stateful(self, states: Any) -> ModelError:
        names = ", ".join(state.name for state in states)
        return self._bad(
            f"it keeps states ({names}), which the evaluator does not run",
            "convert it without states: what it keeps as inputs and outputs",
        )

    def _feature(self, feature: Any, classes: Sequence[Value] = ()) -> Feature:
        kind = feature.type.WhichOneof("Type")
        if kind == "multiArrayType":
            array = feature.type.multiArrayType
            name = protos().FeatureTypes_pb2.ArrayFeatureType.ArrayDataType.Name(array.dataType)
            dtype = self._known(_ARRAY_TYPES, name, f"the type of {feature.name!r}")
            return Feature(name=feature.name, shape=tuple(array.shape), dtype=dtype)
        if kind == "imageType":
            image = feature.type.imageType
            layout = protos().FeatureTypes_pb2.ImageFeatureType.ColorSpace.Name(image.colorSpace)
            picture = Image(layout=layout, height=image.height, width=image.width)
            dtype = "float16" if layout.endswith("FLOAT16") else "uint8"
            return Feature(name=feature.name, shape=picture.shape, dtype=dtype, image=picture)
        dtype = self._known(_LABEL_TYPES, kind, f"the kind of {feature.name!r}")
        # A classifier's dictionary: a probability for each class.
        shape = (len(classes),) if kind == "dictionaryType" else ()
        return Feature(name=feature.name, shape=shape, dtype=dtype)

    def _block(self, block: Any) -> Block:
        return Block(
            inputs=tuple(map(self._variable, block.inputs)),
            operations=tuple(map(self._operation, block.operations)),
            outputs=tuple(block.outputs),
        )

    def _operation(self, operation: Any) -> Operation:
        inputs = {
            name: tuple(map(self._binding, argument.arguments))
            for name, argument in operation.inputs.items()
        }
        # Constants, and compressed weights before iOS 18, carry theirs as attributes.
        for name, value in operation.attributes.items():
            if name != "name":
                inputs[name] = (self._value(value),)
        return Operation(
            type=operation.type,
            inputs=inputs,
            outputs=tuple(map(self._variable, operation.outputs)),
            blocks=tuple(map(self._block, operation.blocks)),
        )

    def _binding(self, binding: Any) -> Reference | Value:
        if binding.WhichOneof("binding") == "name":
            return Reference(binding.name)
        return self._value(binding.value)

    def _variable(self, variable: Any) -> Variable:
        kind = variable.type.WhichOneof("type")
        if kind == "stateType":
            raise self._stateful([variable])
        tensor = self._tensor_type(variable.type.tensorType) if kind == "tensorType" else None
        return Variable(variable.name, tensor)

    def _tensor_type(self, tensor: Any) -> TensorType:
        name = protos().MIL_pb2.DataType.Name(tensor.dataType).lower()
        element = self._known(_ELEMENTS, name, "an element type")
        if tensor.rank != len(tensor.dimensions):
            raise self._bad("a tensor without a fixed rank cannot be evaluated")
        shape = tuple(
            dimension.constant.size if dimension.WhichOneof("dimension") == "constant" else None
            for dimension in tensor.dimensions
        )
        if prod(size or 1 for size in shape) > _MAX_ELEMENTS:
            raise self._bad(f"a tensor of shape {shape} has more than 2**31 elements")
        return TensorType(element, shape)

    def _value(self, value: Any) -> Value:
        if value.WhichOneof("value") == "blobFileValue":
            return self._from_file(value)
        immediate = value.immediateValue
        kind = immediate.WhichOneof("value")
        if kind == "tensor":
            return self._tensor(immediate.tensor, self._tensor_type(value.type.tensorType))
        if kind in {"list", "tuple"}:
            return [self._value(item) for item in getattr(immediate, kind).values]
        raise self._bad(f"a constant of the kind {kind or 'nothing'} cannot be evaluated")

    def _tensor(self, tensor: Any, kind: TensorType) -> Value:
        shape = self._fixed(kind)
        field = tensor.WhichOneof("value")
        values = getattr(tensor, field).values if field else []
        if kind.element.name == "string":
            return values[0] if shape == () and values else list(values)
        if field == "bytes":
            flat = unpacked(np.frombuffer(bytes(values), np.uint8), kind.element, prod(shape))
        else:
            flat = np.asarray(values).astype(kind.element.storage)
            if flat.dtype.kind in "iu" and not np.array_equal(flat, values):
                raise self._bad(f"a constant of {kind.element.name} holds other numbers")
        return self._shaped(flat, shape)

    def _from_file(self, value: Any) -> Array:
        kind = self._tensor_type(value.type.tensorType)
        name, shape = value.blobFileValue.fileName, self._fixed(kind)
        if kind.element.name == "string":
            raise self._bad("a file of weights holds no strings")
        if name not in self._weights:
            self._weights[name] = WeightsFile(self._weights_path(name))
        flat = self._weights[name].read(value.blobFileValue.offset, kind.element, prod(shape))
        return self._shaped(flat, shape)

    def _shaped(self, flat: Array, shape: tuple[int, ...]) -> Array:
        if flat.size != prod(shape):
            raise self._bad(f"a constant of shape {shape} holds {flat.size} elements")
        return flat.reshape(shape)

    def _fixed(self, kind: TensorType) -> tuple[int, ...]:
        shape = tuple(size for size in kind.shape if size is not None)
        if len(shape) != len(kind.shape):
            raise self._bad(f"a constant has a shape that is not fixed: {kind.shape}")
        return shape

    def _weights_path(self, name: str) -> Path:
        root, _, rest = name.partition("/")
        if root != _MODEL_PATH:
            raise self._bad(f"weights are named from {_MODEL_PATH}/, got {name!r}")
        return self._inside(self._model.parent, rest)

    def _model_file(self) -> str:
        """The path of the root model below ``Data``, by the manifest."""
        path = self._inside(self._package, "Manifest.json")
        if path.stat().st_size > _MAX_MANIFEST_BYTES:
            raise self._bad("its Manifest.json is larger than a mebibyte")
        try:
            manifest = json.loads(path.read_bytes())
            return str(manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]["path"])
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise self._bad(f"its Manifest.json names no model: {error!r}") from error

    def _inside(self, folder: Path, relative: str) -> Path:
        """A regular file below ``folder``.

        Raises:
            ModelError: the path leads outside, through a link, or to no file.
        """
        pure = PurePosixPath(relative)
        if pure.is_absolute() or ".." in pure.parts or not pure.parts:
            raise self._bad(f"{relative!r} leads out of the package")
        path = folder.joinpath(*pure.parts)
        # The package itself may be a link: that is the caller's.
        within = [path, *path.parents][: len(path.parts) - len(self._package.parts)]
        if any(step.is_symlink() for step in within):
            raise self._bad(f"{relative!r} is a link or lies behind one")
        if not path.is_file():
            raise self._bad(f"it has no file {relative!r}")
        return path

    def _known[T](self, table: dict[str, T], name: str, what: str) -> T:
        if name not in table:
            raise self._bad(f"{what} is {name}, which the evaluator does not know")
        return table[name]

    def _bad(self, message: str, hint: str = _HINT) -> ModelError:
        return ModelError(f"{self._name}: {message}", hint)


def _classes(body: Block) -> tuple[str, ...] | tuple[int, ...]:
    """A classifier's labels, of its ``classify`` operation."""
    constants = {op.name: op.inputs["val"][0] for op in body.operations if op.type == "const"}
    for operation in body.operations:
        if operation.type == "classify":
            (classes,) = operation.inputs["classes"]
            items: Value = constants[classes.name] if isinstance(classes, Reference) else classes
            return tuple(item.item() if isinstance(item, np.ndarray) else item for item in items)
    return ()
