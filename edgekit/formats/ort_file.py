"""``.ort`` files whose bytes follow from their content alone.

ONNX Runtime writes the table of kernel types in the order of a hash table that is seeded by an
address, so two conversions of one model differ. That table and the root are the last things it
builds, and a flatbuffer is built from its end: all that the model refers to lies behind them and
is kept as it is. The layout is that of ``onnxruntime/core/flatbuffers/schema/ort.fbs``.
"""

from __future__ import annotations

import flatbuffers
from flatbuffers.number_types import Int8Flags, SOffsetTFlags, Uint32Flags
from flatbuffers.table import Table

_IDENTIFIER = b"ORTM"
_VERSION, _MODEL, _KERNEL_TYPES = 0, 1, 3
_MOST_ALIGNED = 64

Args = tuple[tuple[int, int], ...]
Kernels = dict[str, dict[str, Args]]
"""Operator -> name of a kernel's type -> the arguments that have it: kind and index."""


def sorted_bytes(encoded: bytes) -> bytes:
    """The same file with its table of kernel types in alphabetical order."""
    root = Table(encoded, int.from_bytes(encoded[:4], "little"))
    model = _table(root, _MODEL)
    start = min(model.Pos, model.Pos - model.Get(SOffsetTFlags, model.Pos))
    builder = flatbuffers.Builder(0)
    builder.Bytes, builder.head = bytearray(encoded[start:]), 0
    builder.minalign = _alignment(len(encoded))
    version = builder.CreateString(_string(root, _VERSION))
    kernels = _write_kernels(builder, _kernels(_table(root, _KERNEL_TYPES)))
    builder.StartObject(4)
    builder.PrependUOffsetTRelativeSlot(_VERSION, version, 0)
    builder.PrependUOffsetTRelativeSlot(_MODEL, len(encoded) - model.Pos, 0)
    builder.PrependUOffsetTRelativeSlot(_KERNEL_TYPES, kernels, 0)
    builder.Finish(builder.EndObject(), _IDENTIFIER)
    return bytes(builder.Output())


def _alignment(size: int) -> int:
    """What the file was padded to: kept, so that what lies at its end stays as aligned."""
    return min(size & -size, _MOST_ALIGNED)


def _kernels(resolver: Table) -> Kernels:
    return {
        _string(entry, 0): {
            _string(kind, 0): tuple(_argument(one) for one in _tables(kind, 1))
            for kind in _tables(entry, 1)
        }
        for entry in _tables(resolver, 0)
    }


def _argument(table: Table) -> tuple[int, int]:
    kind, index = _at(table, 0), _at(table, 1)
    return table.Get(Int8Flags, kind) if kind else 0, table.Get(Uint32Flags, index) if index else 0


def _write_kernels(builder: flatbuffers.Builder, kernels: Kernels) -> int:
    entries = [
        _pair(builder, name, [_write_kind(builder, *kind) for kind in sorted(kinds.items())])
        for name, kinds in sorted(kernels.items())
    ]
    return _object(builder, 1, {0: _vector(builder, entries)})


def _write_kind(builder: flatbuffers.Builder, name: str, args: Args) -> int:
    return _pair(builder, name, [_write_argument(builder, *one) for one in args])


def _write_argument(builder: flatbuffers.Builder, kind: int, index: int) -> int:
    builder.StartObject(2)
    builder.PrependUint32Slot(1, index, 0)
    builder.PrependInt8Slot(0, kind, 0)
    written: int = builder.EndObject()
    return written


def _pair(builder: flatbuffers.Builder, name: str, values: list[int]) -> int:
    return _object(builder, 2, {0: builder.CreateString(name), 1: _vector(builder, values)})


def _object(builder: flatbuffers.Builder, fields: int, offsets: dict[int, int]) -> int:
    builder.StartObject(fields)
    for slot, offset in offsets.items():
        builder.PrependUOffsetTRelativeSlot(slot, offset, 0)
    written: int = builder.EndObject()
    return written


def _vector(builder: flatbuffers.Builder, offsets: list[int]) -> int:
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    written: int = builder.EndVector()
    return written


def _at(table: Table, slot: int) -> int:
    """Where a field lies; 0: it is left out."""
    offset: int = table.Offset(4 + 2 * slot)
    return table.Pos + offset if offset else 0


def _string(table: Table, slot: int) -> str:
    text: bytes = table.String(_at(table, slot))
    return text.decode()


def _table(table: Table, slot: int) -> Table:
    return Table(table.Bytes, table.Indirect(_at(table, slot)))


def _tables(table: Table, slot: int) -> list[Table]:
    offset = table.Offset(4 + 2 * slot)
    if not offset:
        return []
    first, count = table.Vector(offset), table.VectorLen(offset)
    return [Table(table.Bytes, table.Indirect(first + 4 * index)) for index in range(count)]
