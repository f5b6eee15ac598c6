"""Many devices: who they are, and the same work on all of them side by side."""

from __future__ import annotations

import time
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import Empty, Queue
from threading import Lock, Thread

import msgspec
from msgspec import Struct

from edgekit.devices import parse
from edgekit.errors import EdgekitError, InputError, SystemRefused, Unexpected, UsageError

AT_ONCE = 32
"""Connections that are open at a time, unless told otherwise."""

_SSH_PORT = 22
_EXAMPLE = '[devices.kitchen] with target = "ssh://pi@kitchen", and perhaps tags = ["pi5"]'


class Member(Struct, frozen=True):
    """A device of a fleet.

    Attributes:
        groups: the names that stand for it among others: its tags, and the groups it is in.
    """

    name: str
    target: str
    groups: tuple[str, ...] = ()


class Row[Result](Struct, frozen=True, kw_only=True):
    """What came of one device: a result, or the error that kept it from one."""

    member: Member
    elapsed_s: float
    result: Result | None = None
    error: EdgekitError | None = None

    @property
    def exit_code(self) -> int:
        return self.error.exit_code if self.error else 0


class _Entry(Struct, frozen=True, forbid_unknown_fields=True):
    target: str
    tags: tuple[str, ...] = ()


class _File(Struct, frozen=True, forbid_unknown_fields=True):
    devices: dict[str, _Entry]
    groups: dict[str, tuple[str, ...]] = {}


def of_targets(targets: Sequence[str]) -> tuple[Member, ...]:
    """A fleet of targets that bear their own names.

    Raises:
        UsageError: a target that is none, or is given twice.
    """
    for target in targets:
        parse(target)
        if targets.count(target) > 1:
            raise UsageError(f"the target {target} is given twice", "leave one of them out")
    return tuple(Member(target, target) for target in targets)


def read(path: Path) -> tuple[Member, ...]:
    """The fleet of a TOML file: ``[devices.NAME]`` with a target and tags, and ``[groups]``.

    Raises:
        InputError: it cannot be read, holds what is not known, or a group of nobody.
        UsageError: a target that is none.
    """
    try:
        found = msgspec.convert(tomllib.loads(path.read_text("utf-8")), _File)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise InputError(f"{path} is no fleet: {error}", f"write {_EXAMPLE}") from error
    for group, names in found.groups.items():
        if unknown := sorted(set(names) - found.devices.keys()):
            raise InputError(
                f"{path}: the group {group!r} names {unknown[0]!r}, which is no device",
                f"the devices are {', '.join(found.devices)}",
            )
    for entry in found.devices.values():
        parse(entry.target)
    return tuple(
        Member(
            name,
            entry.target,
            (*entry.tags, *(group for group, names in found.groups.items() if name in names)),
        )
        for name, entry in found.devices.items()
    )


def chosen(members: Sequence[Member], only: Sequence[str]) -> tuple[Member, ...]:
    """Those that are named, or of a group or tag that is; all when nothing is.

    Raises:
        UsageError: a name that is nobody's, or a fleet of nobody.
    """
    known = {word for member in members for word in (member.name, *member.groups)}
    if unknown := [word for word in only if word not in known]:
        raise UsageError(
            f"no device, tag or group of the fleet is named {unknown[0]!r}",
            f"there are {', '.join(sorted(known))}",
        )
    found = tuple(m for m in members if not only or {m.name, *m.groups} & set(only))
    if not found:
        raise UsageError("the fleet has no devices", f"write {_EXAMPLE}")
    return found


def each[Result](
    members: Sequence[Member],
    work: Callable[[Member], Result],
    at_once: int = AT_ONCE,
    on_row: Callable[[Row[Result]], None] = lambda _: None,
) -> tuple[Row[Result], ...]:
    """Do the same on every device; one that fails stops no other.

    Args:
        members: in the order of the rows.
        work: connects to one device, in a thread of its own.
        at_once: how many are worked on at a time.
        on_row: told every row as it is ready.
    """
    if at_once < 1:
        raise UsageError(f"--at-once is {at_once}, expected 1 or more")
    todo: Queue[Member] = Queue()
    ready: Queue[Row[Result]] = Queue()
    for member in members:
        todo.put(member)

    def serve() -> None:
        try:
            while True:
                ready.put(_row(todo.get_nowait(), work))
        except Empty:
            return

    # Nobody waits for them when the command is interrupted: what they began can be resumed.
    for _ in range(min(at_once, len(members))):
        Thread(target=serve, daemon=True).start()
    rows = {}
    for _ in members:
        row = ready.get()
        rows[row.member.name] = row
        on_row(row)
    return tuple(rows[member.name] for member in members)


def in_turns[Result](
    members: Sequence[Member], work: Callable[[Member], Result]
) -> Callable[[Member], Result]:
    """The same work, on every machine by one at a time, by whatever names it is known here.

    What only the machine itself can tell to be the same is left to its own lock.
    """
    turns = {_machine(member): Lock() for member in members}

    def one(member: Member) -> Result:
        with turns[_machine(member)]:
            return work(member)

    return one


def _machine(member: Member) -> tuple[str, int]:
    """What tells a device from others, whoever logs in there, by what way and into which folder."""
    target = parse(member.target)
    return target.host, target.port or _SSH_PORT


def _row[Result](member: Member, work: Callable[[Member], Result]) -> Row[Result]:
    started = time.monotonic()
    result, error = outcome(lambda: work(member))
    elapsed_s = time.monotonic() - started
    return Row(member=member, elapsed_s=elapsed_s, result=result, error=error)


def outcome[Result](work: Callable[[], Result]) -> tuple[Result | None, EdgekitError | None]:
    """What comes of work on one device: a result, or the error; whatever is raised is one."""
    try:
        return work(), None
    except EdgekitError as raised:
        return None, raised
    except OSError as raised:
        return None, SystemRefused(raised)
    except Exception as raised:
        return None, Unexpected(raised)
