"""Running a program, operation by operation: the reference that a package is judged by.

How numbers are rounded: an operation gets its float16 inputs as float32, computes and
accumulates in float32, and its result is rounded once to the type that the program declares
for it. A device that accumulates in float16 differs by more. Integers are computed as integers, a
cast to them truncates. Every result is checked against the shape that the program declares for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from msgspec.structs import replace

from edgekit.errors import DataError, EdgekitError, ModelError, ToolError, UnsupportedOperation
from edgekit.mil import package as packages
from edgekit.mil.ops import OPERATIONS
from edgekit.mil.types import (
    Array,
    Block,
    Feature,
    Operation,
    Program,
    Reference,
    TensorType,
    Value,
    Variable,
)

# The parameters that take several values, even where a program binds only one to them.
_SEVERAL = frozenset(
    {"values", "loop_vars", "ref_tensors", "begins", "ends", "end_masks", "elem_shape"}
)
_CONTROL = frozenset({"const", "cond", "while_loop"})
_MAX_ITERATIONS = 100_000


def load(package: Path) -> Program:
    """Read a saved .mlpackage and expand its compressed weights.

    Raises:
        ModelError: no package, not an ML Program, damaged, or it keeps states.
        ToolError: its compressed weights cannot be expanded.
        ToolMissing: coremltools, whose protobuf classes read it, is not installed.
    """
    program = packages.read(package)
    constants: dict[str, Value] = {}
    for operation in program.body.operations:
        foldable = operation.type.startswith("constexpr_") and operation.type in OPERATIONS
        if operation.type == "const" or foldable:
            _execute(program, operation, constants)
    return replace(program, constants=constants)


def unsupported(program: Program) -> tuple[Operation, ...]:
    """The operations that ``evaluate`` cannot run, in order."""
    return tuple(op for op in program.operations if op.type not in OPERATIONS.keys() | _CONTROL)


def evaluate(program: Program, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """The outputs, by name, of one inference.

    A picture is given and got as ``[height, width, 3]`` of RGB, or ``[height, width]``, in
    0..255. A classifier's label is an array without axes, its probabilities are in the order
    of ``program.classes``.

    Args:
        program: what ``load`` gave.
        inputs: name -> array of the declared shape; a type of the same kind is converted.

    Raises:
        DataError: an input is missing, unknown, or does not fit.
        UnsupportedOperation: the program has an operation that cannot be run.
        ToolError: an operation fails on its inputs, or gives another shape than declared.
    """
    if missing := unsupported(program):
        raise _cannot_run(program, missing[0])
    values = dict(program.constants)
    values.update(_given(program, inputs))
    _run(program, program.body, values)
    results = {name: values[name] for name in program.body.outputs}
    return {feature.name: _result(program, feature, results) for feature in program.outputs}


def _run(program: Program, block: Block, values: dict[str, Value]) -> list[Value]:
    """Execute a block; ``values`` gains what it defines and keeps what the program gives."""
    for operation in block.operations:
        if any(output.name not in program.constants for output in operation.outputs):
            _execute(program, operation, values)
    return [_looked_up(program, Reference(name), values) for name in block.outputs]


def _execute(program: Program, operation: Operation, values: dict[str, Value]) -> None:
    arguments = {
        name: _argument(program, name, bindings, values)
        for name, bindings in operation.inputs.items()
    }
    try:
        results = _results(program, operation, arguments, values)
        for output, result in zip(operation.outputs, results, strict=True):
            values[output.name] = _declared(output, result)
    except EdgekitError:
        raise
    # Whatever NumPy or ONNX Runtime says of inputs that do not fit.
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
        raise ToolError(
            f"{program.package}: {operation.type} {operation.name!r} cannot be evaluated: {said}"
        ) from error


def _results(
    program: Program, operation: Operation, arguments: dict[str, Value], values: dict[str, Value]
) -> list[Value]:
    if operation.type == "const":
        return [arguments["val"]]
    if operation.type == "cond":
        return _run(program, operation.blocks[0 if arguments["pred"] else 1], values)
    if operation.type == "while_loop":
        return _loop(program, operation, arguments["loop_vars"], values)
    if operation.type not in OPERATIONS:
        raise _cannot_run(program, operation)
    with np.errstate(all="ignore"):
        result = OPERATIONS[operation.type](**{k: _widened(v) for k, v in arguments.items()})
    return list(result) if isinstance(result, tuple) else [result]


def _loop(
    program: Program, operation: Operation, state: list[Value], values: dict[str, Value]
) -> list[Value]:
    condition, body = operation.blocks
    for _ in range(_MAX_ITERATIONS):
        values.update(zip((each.name for each in condition.inputs), state, strict=True))
        if not _run(program, condition, values)[0]:
            return state
        values.update(zip((each.name for each in body.inputs), state, strict=True))
        state = _run(program, body, values)
    raise ToolError(
        f"{program.package}: {operation.name!r} loops more than {_MAX_ITERATIONS} times"
    )


def _argument(
    program: Program, name: str, bindings: tuple[Value, ...], values: Mapping[str, Value]
) -> Value:
    resolved = [
        _looked_up(program, binding, values) if isinstance(binding, Reference) else binding
        for binding in bindings
    ]
    return resolved[0] if len(resolved) == 1 and name not in _SEVERAL else resolved


def _looked_up(program: Program, reference: Reference, values: Mapping[str, Value]) -> Value:
    if reference.name not in values:
        raise ModelError(f"{program.package}: nothing defines {reference.name!r} before its use")
    return values[reference.name]


def _widened(value: Value) -> Value:
    if isinstance(value, list):
        return [_widened(item) for item in value]
    half = isinstance(value, np.ndarray) and value.dtype == np.float16
    return value.astype(np.float32) if half else value


def _declared(output: Variable, result: Value) -> Value:
    """The result, rounded to its declared type.

    Raises:
        ValueError: it has another shape.
    """
    if output.type is None or not isinstance(result, np.ndarray | np.generic):
        return result
    array = np.asarray(result)
    if not _fits(array.shape, output.type):
        raise ValueError(f"{output.name} has shape {array.shape}, declared is {output.type.shape}")
    with np.errstate(all="ignore"):
        return array.astype(output.type.element.storage, copy=False)


def _fits(shape: tuple[int, ...], declared: TensorType) -> bool:
    return len(shape) == len(declared.shape) and all(
        wanted in (None, size) for size, wanted in zip(shape, declared.shape, strict=True)
    )


def _given(program: Program, inputs: Mapping[str, Array]) -> dict[str, Array]:
    features = {feature.name: feature for feature in program.inputs}
    if strangers := inputs.keys() - features.keys():
        known = ", ".join(features)
        raise DataError(f"{program.package} has no input {sorted(strangers)[0]!r}; it has {known}")
    for parameter in program.parameters:
        if parameter.name not in features:
            raise ModelError(f"{program.package}: its description lacks {parameter.name!r}")
    return {
        parameter.name: _bound(program, features[parameter.name], parameter, inputs)
        for parameter in program.parameters
    }


def _bound(
    program: Program, feature: Feature, parameter: Variable, inputs: Mapping[str, Array]
) -> Array:
    if feature.name not in inputs:
        raise DataError(f"{program.package} needs the input {feature.name!r}")
    array = _typed(feature, inputs[feature.name])
    if feature.image is not None:
        array = _planes(feature, array)
    if parameter.type is None or not _fits(array.shape, parameter.type):
        wanted = parameter.type and parameter.type.shape
        raise DataError(f"input {feature.name!r} has shape {wanted}, got {array.shape}")
    if feature.image is None and parameter.type.element.storage != feature.dtype:
        raise _misdescribed(program, feature, parameter.type.element.storage)
    return array.astype(parameter.type.element.storage)


def _typed(feature: Feature, given: Array) -> Array:
    """The array in the declared type, where that keeps its values but for rounding."""
    array = np.asarray(given)
    if not np.can_cast(array.dtype, feature.dtype, "same_kind"):
        raise DataError(f"input {feature.name!r} is of {feature.dtype}, got {array.dtype}")
    with np.errstate(over="ignore"):
        typed = array.astype(feature.dtype)
    if typed.dtype.kind in "iu" and not np.array_equal(typed, array):
        raise DataError(f"input {feature.name!r} has values outside of {feature.dtype}")
    return typed


def _planes(feature: Feature, pixels: Array) -> Array:
    """``[1, channels, height, width]`` in the order that the program was made for."""
    if pixels.shape != feature.shape:
        raise DataError(
            f"the picture {feature.name!r} has shape {feature.shape}, got {pixels.shape}"
        )
    if feature.image is not None and feature.image.layout == "BGR":
        pixels = pixels[..., ::-1]
    planes = pixels if pixels.ndim == 2 else pixels.transpose(2, 0, 1)  # noqa: PLR2004 - gray
    return planes.reshape(1, -1, *pixels.shape[:2])


def _result(program: Program, feature: Feature, results: Mapping[str, Value]) -> Array:
    if feature.name not in results:
        raise ModelError(f"{program.package}: the program does not give {feature.name!r}")
    value = np.asarray(results[feature.name])
    if feature.image is None:
        if value.dtype.kind != "U" and value.dtype != feature.dtype:
            raise _misdescribed(program, feature, value.dtype.name)
        return value
    pixels = value[0].transpose(1, 2, 0)
    if feature.image.layout == "BGR":
        pixels = pixels[..., ::-1]
    if feature.dtype == "uint8":
        pixels = np.clip(np.rint(pixels), 0, 255)
    return np.asarray(pixels.reshape(feature.shape), feature.dtype)


def _misdescribed(program: Program, feature: Feature, found: str) -> ToolError:
    return ToolError(
        f"{program.package}: its description says that {feature.name!r} is of {feature.dtype}, "
        f"its program says {found}"
    )


def _cannot_run(program: Program, operation: Operation) -> UnsupportedOperation:
    return UnsupportedOperation(
        f"{program.package}: the evaluator cannot run {operation.type} {operation.name!r}",
        "the package may still be right: try it on a Mac",
    )
