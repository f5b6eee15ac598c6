"""What a saved ML Program is to edgekit: frozen values, read from a package and never written.

The names are those of MIL, the language of ML Programs (``MIL.proto`` of coremltools):
a program has blocks, a block has operations, an operation has named inputs and outputs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import Struct
from numpy.typing import NDArray

from edgekit.domain import TensorSpec

type Array = NDArray[Any]
# What an operation takes and gives: an array, a string, a list, or several of them.
type Value = Any
# A scalar that may be left to its default.
type Number = Array | float


class ElementType(Struct, frozen=True):
    """One of MIL's element types.

    Attributes:
        bits: as stored in a weight file; fewer than eight are packed, least significant first.
        storage: NumPy's name of the type that holds an element in memory.
    """

    name: str
    bits: int
    storage: str


class TensorType(Struct, frozen=True):
    """The type of a tensor; a dimension of ``None`` is known only when the program runs."""

    element: ElementType
    shape: tuple[int | None, ...]


class Variable(Struct, frozen=True):
    """A named value; ``type`` is ``None`` for what is no tensor (a list, a dictionary)."""

    name: str
    type: TensorType | None


class Reference(Struct, frozen=True):
    """An operation's input that an earlier operation, or the caller, provides."""

    name: str


class Operation(Struct, frozen=True, kw_only=True):
    """One operation.

    Attributes:
        inputs: parameter -> its bindings: a ``Reference``, or the constant itself. Most
            parameters have one; ``concat`` and its like have several.
    """

    type: str
    inputs: Mapping[str, tuple[Reference | Value, ...]]
    outputs: tuple[Variable, ...]
    blocks: tuple[Block, ...] = ()

    @property
    def name(self) -> str:
        return self.outputs[0].name if self.outputs else ""


class Block(Struct, frozen=True):
    """Operations in order of execution."""

    inputs: tuple[Variable, ...]
    operations: tuple[Operation, ...]
    outputs: tuple[str, ...]


class Image(Struct, frozen=True):
    """Pixels of 8 bits (or float16): ``layout`` is RGB, BGR, GRAYSCALE or GRAYSCALE_FLOAT16."""

    layout: str
    height: int
    width: int

    @property
    def shape(self) -> tuple[int, ...]:
        """As the caller sees it: ``[height, width, 3]``, or ``[height, width]`` of gray."""
        size = (self.height, self.width)
        return size if self.layout.startswith("GRAYSCALE") else (*size, 3)


class Feature(Struct, frozen=True, kw_only=True):
    """An input or output of the package, as its description declares it.

    Attributes:
        shape: of the array that the caller gives or gets; the default of a flexible one.
        dtype: NumPy's name of its type.
        image: set when the feature is a picture.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    image: Image | None = None

    @property
    def spec(self) -> TensorSpec:
        return TensorSpec(self.name, self.shape, self.dtype)


class Program(Struct, frozen=True, kw_only=True):
    """The default function of a package.

    Attributes:
        package: the name of the folder it was read from.
        opset: the operation set it is written in, such as ``CoreML7``.
        body: every operation as saved, those on constants included.
        constants: name -> value of all that is known before the program runs: plain
            constants, and compressed weights expanded.
        classes: of a classifier: its labels, in the order of the probabilities.
    """

    package: str
    opset: str
    inputs: tuple[Feature, ...]
    outputs: tuple[Feature, ...]
    parameters: tuple[Variable, ...]
    body: Block
    constants: Mapping[str, Value]
    classes: tuple[str, ...] | tuple[int, ...] = ()

    @property
    def operations(self) -> tuple[Operation, ...]:
        """Every operation, those of nested blocks included."""
        return tuple(walk(self.body))


def walk(block: Block) -> Iterator[Operation]:
    """The block's operations and those of the blocks inside them."""
    for operation in block.operations:
        yield operation
        for inner in operation.blocks:
            yield from walk(inner)
