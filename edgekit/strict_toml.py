"""TOML read into types, strictly: an error names the file, the line and what would be right."""

from __future__ import annotations

import difflib
import math
import re
import tomllib
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import msgspec

from edgekit.errors import EdgekitError

Refuse = Callable[[str, str], EdgekitError]
"""The kind of error that a file's faults are."""

_AT = re.compile(r" - at `\$\.?(?P<path>[^`]*)`$")
_UNKNOWN = re.compile(r"unknown field `(?P<field>[^`]*)`")
_MISSING = re.compile(r"missing required field `(?P<field>[^`]*)`")
_SOME_KEY = "[...]"
"""What msgspec writes for any key of a table whose keys are the user's own."""


class Document(msgspec.Struct, frozen=True):
    """A file as it was written; faults are named by dotted path: ``models.digits.source``."""

    path: Path
    text: str
    raw: dict[str, Any]
    refuse: Refuse

    def fault(self, where: str, message: str, hint: str = "") -> EdgekitError:
        """The error that something at a dotted path is."""
        return self.refuse(f"{self.path}:{_line(self.text, where)}: {message}", hint)


def read(path: Path, refuse: Refuse) -> Document:
    """Read a file.

    Raises:
        EdgekitError: what ``refuse`` makes of a file that cannot be read or is not TOML.
    """
    try:
        text = path.read_text(encoding="utf-8")
        return Document(path, text, tomllib.loads(text), refuse)
    except OSError as error:
        raise refuse(f"cannot read {path}: {error.strerror}", "") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise refuse(f"{path} is not valid TOML: {error}", "") from error


def decoded[Kind](document: Document, kind: type[Kind]) -> Kind:
    """The file as a struct that forbids unknown fields.

    Raises:
        EdgekitError: an unknown or missing key, or a value that will not do.
    """
    for where, number in numbers(document.raw):
        if not math.isfinite(number):
            raise document.fault(where, f"{where}: expected a finite number, got {number}")
    try:
        return msgspec.convert(document.raw, kind)
    except msgspec.ValidationError as error:
        raise _explained(document, kind, *_located(document.raw, kind, error)) from error


def numbers(value: object, path: str = "") -> Iterator[tuple[str, float]]:
    """Every number, by its dotted path."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from numbers(inner, f"{path}.{key}".lstrip("."))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from numbers(inner, f"{path}[{index}]")
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield path, value


def _located(raw: Any, kind: Any, error: msgspec.ValidationError) -> tuple[str, str]:
    """The dotted path of what was refused, with every key that msgspec leaves out; and why."""
    said = str(error)
    at = _AT.search(said)
    where, what = (at["path"], said[: at.start()]) if at else ("", said)
    table, below, _ = where.partition(_SOME_KEY)
    if below:
        inner = _values(kind, table)
        for key, value in _found(raw, table).items():
            try:
                msgspec.convert(value, inner)
            except msgspec.ValidationError as narrower:
                rest, what = _located(value, inner, narrower)
                return f"{table}.{key}.{rest}".replace(".[", "[").rstrip("."), what
    return where, what


def _found(raw: Any, where: str) -> dict[str, Any]:
    for key in filter(None, where.split(".")):
        name, *indices = re.findall(r"[^\[\]]+", key)
        raw = raw[name]
        for index in indices:
            raw = raw[int(index)]
    return dict(raw)


def _values(kind: Any, where: str) -> Any:
    """The type of the values of the table at a dotted path of the schema."""
    table = _type_at(kind, where)
    if get_origin(table) is Annotated:
        table = get_args(table)[0]
    return get_args(table)[1]


def _type_at(kind: Any, where: str) -> Any:
    """The type at a dotted path of the schema; keys of the user's own are passed over."""
    for name in filter(None, re.sub(r"\[[^\]]*\]", "", where).split(".")):
        struct = next(_structs(kind), None)
        fields = get_type_hints(struct, include_extras=True) if struct else {}
        kind = fields.get(name, kind)
    return kind


def _structs(kind: Any) -> Iterator[type[msgspec.Struct]]:
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        yield kind
    for inner in get_args(kind):
        yield from _structs(inner)


def _explained(document: Document, kind: Any, where: str, what: str) -> EdgekitError:
    table = where or "top level"
    if unknown := _UNKNOWN.search(what):
        field = unknown["field"]
        hint = _nearest(field, _fields(kind, where))
        path = f"{where}.{field}".lstrip(".")
        return document.fault(path, f"unknown key {field!r} in [{table}]", hint)
    if missing := _MISSING.search(what):
        return document.fault(where, f"[{table}] lacks the key {missing['field']!r}")
    known = ", ".join(_choices(_type_at(kind, where)))
    hint = f"known: {known}" if what.startswith("Invalid enum") and known else ""
    return document.fault(where, f"{where}: {what[0].lower()}{what[1:]}", hint)


def _nearest(field: str, fields: list[str]) -> str:
    if unit := [name for name in fields if name.startswith(f"{field}_")]:
        return f"the unit is missing: write {unit[0]}"
    near = difflib.get_close_matches(field, fields, n=1)
    return (f"did you mean {near[0]}? " if near else "") + f"known: {', '.join(fields)}"


def _fields(kind: Any, where: str) -> list[str]:
    """The keys known at a dotted path of the schema."""
    struct = next(_structs(_type_at(kind, where)))
    return [field.encode_name for field in msgspec.structs.fields(struct)]


def _choices(kind: Any) -> Iterator[str]:
    """The values of a closed set, wherever in a type it is."""
    if isinstance(kind, type) and issubclass(kind, Enum):
        yield from (str(member.value) for member in kind)
    elif get_origin(kind) is Literal:
        yield from map(str, get_args(kind))
    else:
        for inner in get_args(kind):
            yield from _choices(inner)


def _line(text: str, path: str) -> int:
    """The line of a dotted path (``cpu.clusters[1].cores``); of the nearest table otherwise."""
    seen: dict[str, int] = {}
    table, found = "", {"": 1}
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*(\[\[?)\s*([^\]]+?)\s*\]", line):
            table = _indexed(header[2].replace('"', ""), seen, new=header[1] == "[[")
            found.setdefault(table, number)
        elif key := re.match(r'\s*"?([\w.-]+)"?\s*=', line):
            found.setdefault(f"{table}.{key[1]}".lstrip("."), number)
    while path not in found:
        shorter = re.sub(r"\[\d+\]$", "", path)
        path = shorter if shorter != path else path.rpartition(".")[0]
    return found[path]


def _indexed(header: str, seen: dict[str, int], *, new: bool) -> str:
    """``cpu.clusters`` as ``cpu.clusters[1]`` when it is the second of its array."""
    path = ""
    parts = header.split(".")
    for depth, part in enumerate(parts):
        path = f"{path}.{part}".lstrip(".")
        if new and depth == len(parts) - 1:
            seen[path] = seen.get(path, -1) + 1
        if path in seen:
            path = f"{path}[{seen[path]}]"
    return path
