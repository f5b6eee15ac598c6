"""Where TFLite's tables point: the fields of its schema that are offsets, by table and slot.

From ``tensorflow/lite/schema/schema.fbs`` (TensorFlow 2.21); what a table has no row for
holds numbers only.
"""

from __future__ import annotations

from msgspec import Struct


class Vector(Struct, frozen=True):
    """Numbers of that many bytes each."""

    item_bytes: int


class Table(Struct, frozen=True):
    """One table of that kind."""

    kind: str


class Tables(Struct, frozen=True):
    """A vector of tables of that kind."""

    kind: str


class Union(Struct, frozen=True):
    """A table of the kind that the number in the slot before says."""

    kinds: dict[int, str]


class Text(Struct, frozen=True):
    """A string."""


Field = Vector | Table | Tables | Union | Text
NUMBERS = "numbers"
"""A table without offsets, whatever its name."""

ROOT, IDENTIFIER = "Model", b"TFL3"

_BYTES, _SHORTS, _INTS, _LONGS = Vector(1), Vector(2), Vector(4), Vector(8)
_SPARSE = Union({1: "Int32Vector", 2: "Uint16Vector", 3: "Uint8Vector"})
_OPTIONS = Union(
    {3: "ConcatEmbeddings", 17: "Reshape", 30: "Squeeze", 111: "VarHandle", 115: "Bucketize"}
)
_STABLEHLO = Union(
    {2: "BroadcastInDim", 3: "Slice", 4: "Convolution", 5: "CustomCall", 6: "Reduce", 7: "Scatter"}
    | {9: "DynamicSlice", 10: "Pad", 12: "DotGeneral", 13: "ReduceWindow", 16: "Gather"}
    | {17: "Transpose", 21: "Composite", 23: "Case"}
)

SCHEMA: dict[str, dict[int, Field]] = {
    "Model": {
        1: Tables("OperatorCode"),
        2: Tables("SubGraph"),
        3: Text(),
        4: Tables("Buffer"),
        5: _INTS,
        6: Tables("Metadata"),
        7: Tables("SignatureDef"),
        8: Tables("ExternalBufferGroup"),
        9: Tables("ExternalBuffer"),
    },
    "OperatorCode": {1: Text()},
    "SubGraph": {0: Tables("Tensor"), 1: _INTS, 2: _INTS, 3: Tables("Operator"), 4: Text()},
    "Tensor": {
        0: _INTS,
        3: Text(),
        4: Table("QuantizationParameters"),
        6: Table("SparsityParameters"),
        7: _INTS,
        9: Tables("VariantSubType"),
    },
    "VariantSubType": {0: _INTS},
    "QuantizationParameters": {
        0: _INTS,
        1: _INTS,
        2: _INTS,
        3: _LONGS,
        5: Union({1: "CustomQuantization"}),
    },
    "CustomQuantization": {0: _BYTES},
    "SparsityParameters": {0: _INTS, 1: _INTS, 2: Tables("DimensionMetadata")},
    "DimensionMetadata": {3: _SPARSE, 5: _SPARSE},
    "Int32Vector": {0: _INTS},
    "Uint16Vector": {0: _SHORTS},
    "Uint8Vector": {0: _BYTES},
    "Operator": {1: _INTS, 2: _INTS, 4: _OPTIONS, 5: _BYTES, 7: _BYTES, 8: _INTS, 12: _STABLEHLO},
    "Buffer": {0: _BYTES},
    "ExternalBufferGroup": {0: Text()},
    "ExternalBuffer": {4: Text()},
    "Metadata": {0: Text()},
    "SignatureDef": {0: Tables("TensorMap"), 1: Tables("TensorMap"), 2: Text()},
    "TensorMap": {0: Text()},
    "ConcatEmbeddings": {1: _INTS, 2: _INTS},
    "Reshape": {0: _INTS},
    "Squeeze": {0: _INTS},
    "VarHandle": {0: Text(), 1: Text()},
    "Bucketize": {0: _INTS},
    "BroadcastInDim": {0: _LONGS},
    "Slice": {0: _LONGS, 1: _LONGS, 2: _LONGS},
    "Convolution": {
        **dict.fromkeys((0, 1, 2, 3, 7, 10, 13), _LONGS),
        4: _BYTES,
        16: _INTS,
    },
    "CustomCall": {0: Text(), 2: Text(), 4: _INTS, 5: _BYTES},
    "Reduce": {0: _LONGS},
    "Scatter": {1: _LONGS, 2: _LONGS, 3: _LONGS},
    "DynamicSlice": {0: _LONGS},
    "Pad": {0: _LONGS, 1: _LONGS, 2: _LONGS},
    "DotGeneral": {0: _LONGS, 1: _LONGS, 2: _LONGS, 3: _LONGS, 4: _INTS},
    "ReduceWindow": dict.fromkeys(range(5), _LONGS),
    "Gather": {0: _LONGS, 1: _LONGS, 2: _LONGS, 4: _LONGS},
    "Transpose": {0: _LONGS},
    "Composite": {0: Text(), 2: _BYTES},
    "Case": {0: _INTS},
    NUMBERS: {},
}
