"""``--on`` given several times, and ``--fleet``: the same command on many devices."""

from __future__ import annotations

import re
from argparse import Namespace
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct, structs

from edgekit import bundle, fleet
from edgekit.cli.progress import rows as rows_on_the_terminal
from edgekit.errors import UsageError
from edgekit.fleet import Member, Row
from edgekit.report import documents

if TYPE_CHECKING:
    from rich.console import RenderableType

Document = dict[str, Any]


class Told(Struct, frozen=True):
    """A row, and its document."""

    row: Row[Any]
    document: Document


def is_one(arguments: Namespace) -> bool:
    """Whether there is a single target: what is said then is about it alone."""
    return arguments.fleet is None and len(arguments.on or ["local"]) == 1


def members(arguments: Namespace) -> tuple[Member, ...]:
    """The devices that were asked for.

    Raises:
        UsageError: two ways of naming them at once, or a name that is nobody's.
        InputError: a fleet that cannot be read.
    """
    if arguments.fleet is None:
        if arguments.only:
            raise UsageError("--only chooses from a fleet, and there is none", "give --fleet, too")
        return fleet.of_targets(arguments.on or ["local"])
    if arguments.on:
        raise UsageError("--on and --fleet both say where", "give one of them")
    return fleet.chosen(fleet.read(arguments.fleet), arguments.only)


def each(
    arguments: Namespace,
    work: Callable[..., Any],
    document: Callable[[Any], Document],
    *,
    in_turns: bool = False,
) -> tuple[Told, ...]:
    """Do ``work`` with the bundle, opened once, on every device; a document for each.

    ``in_turns``: where several targets are one machine, one after the other.
    """
    asked = members(arguments)
    with (
        bundle.opened(arguments.bundle) as opened,
        rows_on_the_terminal("device", [member.name for member in asked]) as tell,
    ):

        def one(member: Member) -> Any:
            return work(opened, member.target, on_stage=partial(tell, member.name))

        def ended(row: Row[Any]) -> None:
            tell(row.member.name, "failed" if row.error else "done", str(row.error or ""))

        each_one = fleet.in_turns(asked, one) if in_turns else one
        found = fleet.each(asked, each_one, arguments.at_once, ended)
    return told(found, document)


def told(rows: Sequence[Row[Any]], document: Callable[[Any], Document]) -> tuple[Told, ...]:
    """A document for each row; a result that cannot be told is the error of its row alone."""
    return tuple(_told(row, document) for row in rows)


def saved(
    rows: tuple[Told, ...], folder: Path, save: Callable[[Any, Path], Document]
) -> tuple[Told, ...]:
    """Save every result in a folder, in a file of the device's name."""
    folder.mkdir(parents=True, exist_ok=True)
    return tuple(
        Told(one.row, one.document | save(one.row.result, folder / _file_name(one.row.member)))
        if one.row.result is not None
        else one
        for one in rows
    )


def output(
    rows: tuple[Told, ...], table: Callable[[list[Document]], RenderableType]
) -> tuple[Document, Callable[[], RenderableType]]:
    """The document of all, which ends with the worst exit code, and its table."""
    documents = [one.document for one in rows]
    worst = max(int(row["exit_code"]) for row in documents)
    return {"devices": documents, "exit_code": worst}, partial(table, documents)


def _told(row: Row[Any], document: Callable[[Any], Document]) -> Told:
    said, error = (None, row.error) if row.error else fleet.outcome(lambda: document(row.result))
    row = structs.replace(row, error=error)
    told = documents.error(error) if error else said or {}
    who = {"name": row.member.name, "target": row.member.target, "exit_code": row.exit_code}
    return Told(row, {**told, **who, "elapsed_s": round(row.elapsed_s, 3)})


def _file_name(member: Member) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "_", member.name).lstrip(".") + ".json"
