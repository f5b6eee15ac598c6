"""What a format is not known to take of a model, and what could be done, before any build.

It rests on the tables of ``formats.support``: what was found, not what is claimed.
"""

from __future__ import annotations

import onnx
from msgspec import Struct

from edgekit.domain import Format, ModelSummary, NodeSummary
from edgekit.formats import support
from edgekit.sources import MIN_OPSET

_WRITTEN_OUT = (Format.LITERT,)
"""The formats to which a way leads by smaller operators (``formats.writing_out``)."""


class Obstacle(Struct, frozen=True, kw_only=True):
    """A node that a format is not known to take.

    Attributes:
        operator: of ONNX; ``type``: NumPy's name of its first input's.
        node: its name, which is the layer's in the user's model where the exporter kept it.
        certain: cases of it were tried and none passed; else none was there to be tried.
        why: what was found.
        remedies: what could be done, the nearest first.
    """

    operator: str
    type: str
    node: str
    certain: bool
    why: str
    remedies: tuple[str, ...]


def obstacles(summary: ModelSummary, format_: Format) -> tuple[Obstacle, ...]:
    """The nodes of a model that a format is not known to take, in their order."""
    return tuple(
        _obstacle(node, format_, summary.opset)
        for node in summary.nodes
        if not _passed(node.op, node.input_type, format_)
    )


def _passed(operator: str, type_: str, format_: Format) -> bool:
    row = support.table(format_).operators.get(operator, {})
    return type_ in row and row[type_].passed > 0


def _obstacle(node: NodeSummary, format_: Format, opset: int) -> Obstacle:
    row = support.table(format_).operators.get(node.op, {})
    found = row.get(node.input_type)
    if found is None:
        why = f"onnx has no test of {node.op} in {node.input_type}: it may work or not"
    else:
        why = f"none of {found.tried} tests of {node.op} in {node.input_type} passes"
        why += f" ({found.reason})" if found.reason else ""
    return Obstacle(
        operator=node.op,
        type=node.input_type,
        node=node.name,
        certain=found is not None,
        why=why,
        remedies=_remedies(node, format_, opset),
    )


def _remedies(node: NodeSummary, format_: Format, opset: int) -> tuple[str, ...]:
    row = support.table(format_).operators.get(node.op, {})
    types = [name for name, found in row.items() if found.passed and name != node.input_type]
    said = [f"another type: {format_.value} takes it in {', '.join(types)}"] if types else []
    if format_ in _WRITTEN_OUT and support.writable(node.op, format_):
        said.insert(
            0, "a rewrite: a build writes it out in ONNX's smaller operators, and proves that"
        )
    said += [
        f"another format: {other.value} takes it"
        for other in support.KNOWN
        if other is not format_ and _passed(node.op, node.input_type, other)
    ]
    first = _since(node.op)
    if node.input_type not in row:
        said.append("a build: it is proven against the source, and what does not agree is refused")
    if MIN_OPSET < first <= opset:
        said.append(f"another opset: exported in {first - 1} or lower it is written out")
    return tuple(said) or ("another layer in its place: nothing edgekit makes takes this one",)


def _since(operator: str) -> int:
    """The opset an operator came with; 0 for one that is not ONNX's own."""
    versions = [
        s.since_version
        for s in onnx.defs.get_all_schemas_with_history()
        if s.name == operator and s.domain == ""
    ]
    return min(versions, default=0)
