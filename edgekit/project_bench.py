"""Measuring what ``edgekit.toml`` declares: every bundle where its target says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from msgspec import Struct

from edgekit import fleet, lock, strict_toml
from edgekit.content import digest
from edgekit.domain import BenchmarkResult
from edgekit.errors import EdgekitError, LockError, ProjectError, UsageError
from edgekit.fleet import Member, Row
from edgekit.observer import OnRow, OnStage
from edgekit.project import Pair, Project, is_target
from edgekit.project_build import bundle_path

Work = Callable[[Path, str, OnStage], BenchmarkResult]
"""Measures a bundle on a target."""


class Place(Struct, frozen=True):
    """A bundle, and where it is measured; ``member`` bears the bundle's name."""

    bundle: Path
    member: Member


def places(project: Project, only: Sequence[str] = ()) -> tuple[Place, ...]:
    """Every bundle of a project whose target says where it is measured.

    Args:
        project: as ``load_project`` gave it.
        only: the models and targets that count; empty: all.

    Raises:
        ProjectError: no target says where, or one names nobody; the message names the line.
        UsageError: ``only`` names nothing that is measured.
        InputError: the fleet cannot be read.
        LockError: a bundle is not built, or is not the lock's.
    """
    measured = [pair for pair in project.pairs if project.declared.targets[pair.target].on]
    if not measured:
        raise ProjectError(
            f"no target of {project.path.name} says where it is measured",
            'write on = "ssh://pi@raspberry" into it, or the name of a device of the fleet',
        )
    chosen = [p for p in measured if not only or {p.model, p.target, p.name} & set(only)]
    if not chosen:
        raise UsageError(f"nothing that is measured is named {', '.join(only)}")
    known = lock.read(lock.path_of(project))
    targets = {pair.target: _target(project, pair.target) for pair in chosen}
    return tuple(
        Place(_built(project, pair, known), Member(pair.name, targets[pair.target]))
        for pair in chosen
    )


def each(
    found: Sequence[Place], work: Work, at_once: int, on_row: OnRow
) -> tuple[Row[BenchmarkResult], ...]:
    """Measure all, on every device one after the other; one that fails stops no other.

    Args:
        found: as ``places`` gave them.
        work: measures one.
        at_once: on how many devices at a time.
        on_row: told the stages of each bundle as they begin.
    """
    bundles = {place.member.name: place.bundle for place in found}

    def one(member: Member) -> BenchmarkResult:
        return work(bundles[member.name], member.target, partial(on_row, member.name))

    def ended(row: Row[BenchmarkResult]) -> None:
        on_row(row.member.name, "failed" if row.error else "done", str(row.error or ""))

    members = [place.member for place in found]
    return fleet.each(members, fleet.in_turns(members, one), at_once, ended)


def _built(project: Project, pair: Pair, known: lock.Lock | None) -> Path:
    path, locked = bundle_path(project, pair), known and known.bundles.get(pair.name)
    if not locked or not path.is_file() or digest(path) != locked.file:
        raise LockError(
            f"{path} is not the bundle that {lock.FILE} knows", "`edgekit build` builds it"
        )
    return path


def _target(project: Project, name: str) -> str:
    """The device of a target, or of the fleet by its name."""
    on = project.declared.targets[name].on or ""
    if project.declared.fleet is None or is_target(on):
        return on
    path = project.folder / project.declared.fleet
    try:
        devices = fleet.chosen(fleet.read(path), [on])
    except UsageError as error:
        raise _fault(project, name, error.message, error.hint) from error
    if len(devices) > 1:
        among = ", ".join(device.name for device in devices)
        raise _fault(project, name, f"{on!r} is {len(devices)} devices", f"name one of {among}")
    return devices[0].target


def _fault(project: Project, name: str, message: str, hint: str) -> EdgekitError:
    where = f"targets.{name}.on"
    document = strict_toml.read(project.path, ProjectError)
    return document.fault(where, f"{where}: {message}", hint)
