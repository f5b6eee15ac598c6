"""The protocol every way to a device speaks: run a command, stream one, move files.

Paths on the device are POSIX strings. Arguments are lists: the transport quotes them.
Everything has a deadline. A transport raises :class:`DeviceError` and its kinds, never
the errors of the library beneath it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from msgspec import Struct

from edgekit.domain import Target

Progress = Callable[[int], None]
"""Called with the number of bytes that have just been sent."""


class Completed(Struct, frozen=True, kw_only=True):
    """A command that ended on the device.

    Attributes:
        exit_status: its status; ``None`` when a signal ended it.
        signal: the signal's name (``SIGSEGV``); ``None`` otherwise.
        stdout: bounded; the end is kept.
        stderr: bounded; the end is kept.
    """

    exit_status: int | None
    signal: str | None = None
    stdout: bytes = b""
    stderr: bytes = b""

    @property
    def ok(self) -> bool:
        return self.exit_status == 0


class Stream(Protocol):
    """A command that is running on the device; leaving the context ends it."""

    def lines(self) -> Iterator[str]:
        """Its standard output, line by line, as it comes; ends when the command ends.

        Raises:
            ConnectionFailed: the connection was lost or the deadline passed.
        """
        ...

    def beat(self) -> None:
        """Write an empty line to its standard input every second, as long as it is open.

        A command that looks for them ends when they stop coming: a network that fails
        does not tell the device.
        """
        ...

    def completed(self) -> Completed:
        """How it ended; to be asked after ``lines`` is exhausted (``stdout`` stays empty)."""
        ...


class FileFacts(Struct, frozen=True, kw_only=True):
    """A file or folder on the device; links are not followed."""

    size_bytes: int
    is_dir: bool
    is_link: bool
    modified_s: float


class Transport(Protocol):
    """A connection to one device, open until ``close``."""

    @property
    def target(self) -> Target: ...

    @property
    def workdir(self) -> str:
        """edgekit's folder on the device, absolute."""
        ...

    @property
    def pythons(self) -> tuple[str, ...]:
        """Interpreters known to be there without looking, to be asked first."""
        ...

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float = 30.0) -> Completed:
        """Run a command to its end; its standard input is ``stdin``, then closed.

        Raises:
            ConnectionFailed: the connection was lost or ``timeout_s`` passed.
        """
        ...

    def stream(self, argv: Sequence[str], *, timeout_s: float) -> AbstractContextManager[Stream]:
        """Start a command whose standard input stays open until the context is left."""
        ...

    def put(
        self, source: Path, path: str, *, offset: int = 0, progress: Progress | None = None
    ) -> None:
        """Write ``source`` from byte ``offset`` on to ``path``, and fsync it.

        The file is created, or cut at ``offset`` and extended; what lies beyond is dropped.
        """
        ...

    def get(self, path: str, destination: Path) -> None:
        """Fetch a file."""
        ...

    def stat(self, path: str) -> FileFacts | None:
        """What lies at ``path``; ``None`` when nothing does."""
        ...

    def listdir(self, path: str) -> tuple[str, ...]:
        """The names in a folder, sorted; empty when there is no such folder."""
        ...

    def mkdir(self, path: str, *, mode: int = 0o755) -> None:
        """Make a folder and what is missing above it (those with the default mode)."""
        ...

    def rename(self, old: str, new: str) -> None:
        """Rename atomically; a folder onto a folder that holds anything fails."""
        ...

    def remove(self, path: str) -> None:
        """Remove a file or a whole folder; nothing happens when it is not there."""
        ...

    def sync(self, path: str) -> None:
        """Make a file's content, or a folder's entries, durable."""
        ...

    def free_bytes(self, path: str) -> int | None:
        """Free space where ``path`` lies; ``None`` when the device does not tell."""
        ...

    def close(self) -> None: ...
