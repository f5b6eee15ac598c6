"""What each format takes, as it was found: onnx's own node tests put through it.

``tables/<format>.json`` is written by ``benchmarks/conformance.py --write`` and says which
versions it was found with. An operator counts as taken, in a type, when a case of it went
through conversion and proof and gave what onnx says; nothing is known beyond the cases.
"""

from __future__ import annotations

import functools
from operator import attrgetter
from pathlib import Path

import msgspec

from edgekit import fingerprint
from edgekit.domain import Format
from edgekit.toolchain.environments import ONNX2TF

_FOLDER = Path(__file__).with_name("tables")
_bodies = attrgetter("all_function_opset_versions")
"""Of an operator's schema; onnx's stubs do not name it."""

_TOOLS = ("ai-edge-litert", "coremltools", "onnx", "onnxruntime", "onnxsim")


class Tried(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An operator in one type.

    Attributes:
        tried: cases of it that were put through the format.
        passed: those that gave what onnx says.
        reason: what most of the others failed with.
    """

    tried: int
    passed: int
    reason: str = ""


Operators = dict[str, dict[str, Tried]]
"""Operator -> NumPy's name of its first input's type -> what was found."""


class Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What was found of one format, and the versions it was found with."""

    tools: dict[str, str]
    operators: Operators


KNOWN = (Format.LITERT, Format.ONNXRUNTIME, Format.COREML)
"""The formats that were put to the test."""


@functools.cache
def table(format_: Format) -> Table:
    """What is known of a format."""
    return msgspec.json.decode(_path(format_).read_bytes(), type=Table)


def write(format_: Format, operators: Operators) -> None:
    """Keep what was found, with the versions that are installed here."""
    tools = fingerprint.versions(_TOOLS) | {ONNX2TF.name: ONNX2TF.version}
    made = Table(tools=dict(sorted(tools.items())), operators=operators)
    _path(format_).parent.mkdir(exist_ok=True)
    encoded = msgspec.json.encode(made, order="deterministic")
    _path(format_).write_bytes(msgspec.json.format(encoded, indent=1) + b"\n")


def writable(operator: str, format_: Format) -> bool:
    """Whether ONNX defines an operator by smaller ones, and not all its tests pass in a format."""
    import onnx

    if not onnx.defs.has(operator) or not _bodies(onnx.defs.get_schema(operator)):
        return False
    rows = table(format_).operators.get(operator, {})
    return not rows or any(row.passed < row.tried for row in rows.values())


def _path(format_: Format) -> Path:
    return _FOLDER / f"{format_.value}.json"
