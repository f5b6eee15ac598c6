"""A ``.tflite`` file as tensors and operators: what an exporter has to know of it."""

from __future__ import annotations

from math import prod
from pathlib import Path

from msgspec import Struct

from edgekit.sources import tflite_check
from edgekit.sources.flatbuffer import Flatbuffer

_MODEL_CODES, _MODEL_GRAPHS, _MODEL_BUFFERS = 1, 2, 4
_TENSORS, _INPUTS, _OUTPUTS, _OPERATORS = 0, 1, 2, 3
_OPTIONAL = -1
"""Slots of the schema's tables, and the index that stands for a tensor left out."""

_BITS = {
    "float32": 32, "float16": 16, "int32": 32, "uint8": 8, "int64": 64, "bool": 8, "int16": 16,
    "int8": 8, "float64": 64, "uint64": 64, "uint32": 32, "uint16": 16, "int4": 4,
}  # fmt: skip
_TYPES = {
    0: "float32", 1: "float16", 2: "int32", 3: "uint8", 4: "int64", 5: "string", 6: "bool",
    7: "int16", 8: "complex64", 9: "int8", 10: "float64", 11: "complex128", 12: "uint64",
    13: "resource", 14: "variant", 15: "uint32", 16: "uint16", 17: "int4", 18: "bfloat16",
}  # fmt: skip
"""``TensorType`` of the schema."""


class Tensor(Struct, frozen=True, kw_only=True):
    """One tensor.

    Attributes:
        dtype: NumPy's name of its type where there is one.
        scales: how many scales its integers have: one, one for each channel, or none.
    """

    shape: tuple[int, ...]
    dtype: str
    constant: bool
    variable: bool
    scales: int = 0

    @property
    def size_bytes(self) -> int:
        """0 for a type without a fixed size."""
        return (prod(self.shape) * _BITS.get(self.dtype, 0) + 7) // 8


class Operator(Struct, frozen=True, kw_only=True):
    """One operator, by its name in the schema; tensors by their indices, none for one left out."""

    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


class Graph(Struct, frozen=True, kw_only=True):
    """One subgraph, in order of execution."""

    tensors: tuple[Tensor, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    operators: tuple[Operator, ...]


def graphs(path: Path) -> tuple[Graph, ...]:
    """The subgraphs of a file, the main one first.

    Raises:
        ModelError: the file is damaged, or has operators of its own.
    """
    tflite_check.check(path)
    file = Flatbuffer(path.read_bytes())
    codes = [_code(file, code) for code in file.tables(file.root, _MODEL_CODES)]
    held = [file.vector(b, 0, 1)[1] for b in file.tables(file.root, _MODEL_BUFFERS)]
    return tuple(_graph(file, g, codes, held) for g in file.tables(file.root, _MODEL_GRAPHS))


def _code(file: Flatbuffer, code: int) -> str:
    from ai_edge_litert.schema_py_generated import BuiltinOperator

    # Older files have the number in a field that holds no more than 127.
    number = max(file.value(code, 0, "<b"), file.value(code, 3, "<i"))
    names: dict[int, str] = {n: name for name, n in vars(BuiltinOperator).items()}
    return names.get(number, f"operator {number}")


def _graph(file: Flatbuffer, graph: int, codes: list[str], held: list[int]) -> Graph:
    return Graph(
        tensors=tuple(_tensor(file, each, held) for each in file.tables(graph, _TENSORS)),
        inputs=file.numbers(graph, _INPUTS),
        outputs=file.numbers(graph, _OUTPUTS),
        operators=tuple(_operator(file, each, codes) for each in file.tables(graph, _OPERATORS)),
    )


def _tensor(file: Flatbuffer, tensor: int, held: list[int]) -> Tensor:
    number, quantization = file.value(tensor, 1, "<b"), file.field(tensor, 4)
    return Tensor(
        shape=file.numbers(tensor, 0),
        dtype=_TYPES.get(number, f"type {number}"),
        constant=held[file.value(tensor, 2, "<I")] > 0,
        variable=bool(file.value(tensor, 5, "<B")),
        scales=0 if quantization is None else file.vector(file.target(quantization), 2, 4)[1],
    )


def _operator(file: Flatbuffer, operator: int, codes: list[str]) -> Operator:
    inputs, outputs = (file.numbers(operator, slot) for slot in (1, 2))
    return Operator(
        name=codes[file.value(operator, 0, "<I")],
        inputs=tuple(index for index in inputs if index != _OPTIONAL),
        outputs=outputs,
    )
