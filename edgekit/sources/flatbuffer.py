"""Flatbuffers read with every offset checked: what leaves the file is an error, not a read."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import assert_never

from edgekit.errors import ModelError
from edgekit.sources.tflite_schema import (
    IDENTIFIER,
    NUMBERS,
    ROOT,
    SCHEMA,
    Table,
    Tables,
    Text,
    Union,
    Vector,
)

_MOST_TABLES = 2_000_000
_OFFSET = 4
"""Bytes of an offset, and of a vtable's own two numbers."""


class Flatbuffer:
    """A file's bytes; a table is known by its position.

    Raises:
        ModelError: any of its reads would leave the file.
    """

    def __init__(self, content: bytes) -> None:
        self.content = content
        if len(content) < 2 * _OFFSET or content[4:8] != IDENTIFIER:
            raise ModelError("it is not a TFLite file")
        self.root = self.number("<I", 0)

    def number(self, form: str, at: int) -> int:
        """The number at a position."""
        self._within(at, struct.calcsize(form))
        return int(struct.unpack_from(form, self.content, at)[0])

    def field(self, table: int, slot: int) -> int | None:
        """Where a field of a table lies; ``None``: it is not there."""
        vtable = table - self.number("<i", table)
        size = self.number("<H", vtable)
        entry = 4 + 2 * slot
        if entry + 2 > size:
            return None
        offset = self.number("<H", vtable + entry)
        return table + offset if offset else None

    def value(self, table: int, slot: int, form: str, default: int = 0) -> int:
        """A number that a table holds itself."""
        at = self.field(table, slot)
        return default if at is None else self.number(form, at)

    def target(self, at: int) -> int:
        """Where the offset at a position leads: forward, always."""
        offset = self.number("<I", at)
        if offset == 0:
            raise ModelError(f"an offset at byte {at} leads nowhere")
        self._within(at + offset, 4)
        return at + offset

    def vector(self, table: int, slot: int, item_bytes: int) -> tuple[int, int]:
        """Where a vector's items begin, and how many there are."""
        at = self.field(table, slot)
        if at is None:
            return 0, 0
        start = self.target(at)
        count = self.number("<I", start)
        self._within(start + 4, count * item_bytes)
        return start + 4, count

    def numbers(self, table: int, slot: int, form: str = "i") -> tuple[int, ...]:
        """A vector of numbers."""
        start, count = self.vector(table, slot, struct.calcsize(form))
        return struct.unpack_from(f"<{count}{form}", self.content, start)

    def tables(self, table: int, slot: int) -> list[int]:
        """A vector of tables."""
        start, count = self.vector(table, slot, 4)
        return [self.target(start + 4 * index) for index in range(count)]

    def text(self, table: int, slot: int) -> str:
        """A string."""
        start, count = self.vector(table, slot, 1)
        return self.content[start : start + count].decode("utf-8", "replace")

    def verify(self) -> None:
        """Walk every table that can be reached.

        Raises:
            ModelError: one leaves the file, or there are more than a network has.
        """
        waiting, seen = [(ROOT, self.root)], set[tuple[str, int]]()
        while waiting:
            one = waiting.pop()
            if one in seen:
                continue
            seen.add(one)
            if len(seen) > _MOST_TABLES:
                raise ModelError("it holds more tables than any network has")
            waiting += self._children(*one)

    def _children(self, kind: str, table: int) -> Iterator[tuple[str, int]]:
        self._check_table(table)
        for slot, field in SCHEMA[kind].items():
            at = self.field(table, slot)
            if at is None:
                continue
            match field:
                case Vector(size):
                    self.vector(table, slot, size)
                case Text():
                    start, count = self.vector(table, slot, 1)
                    self._within(start + count, 1)
                case Table(child):
                    yield child, self.target(at)
                case Tables(child):
                    yield from ((child, each) for each in self.tables(table, slot))
                case Union(kinds):
                    chosen = self.value(table, slot - 1, "<B")
                    yield kinds.get(chosen, NUMBERS), self.target(at)
                case _:
                    assert_never(field)

    def _check_table(self, table: int) -> None:
        """Its own fields lie within it, and it within the file."""
        vtable = table - self.number("<i", table)
        size, extent = self.number("<H", vtable), self.number("<H", vtable + 2)
        if size < _OFFSET or size % 2 or extent < _OFFSET:
            raise ModelError(f"the table at byte {table} is malformed")
        self._within(vtable, size)
        self._within(table, extent)
        for entry in range(vtable + 4, vtable + size, 2):
            offset = self.number("<H", entry)
            if offset and not _OFFSET <= offset < extent:
                raise ModelError(f"a field of the table at byte {table} leaves it")

    def _within(self, at: int, size: int) -> None:
        if at < 0 or at + size > len(self.content):
            raise ModelError(f"an offset leads to byte {at}, the file has {len(self.content)}")
