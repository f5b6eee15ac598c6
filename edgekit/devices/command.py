"""A command that runs on a device: its pipes, its deadline, and how it ended.

A transport only provides the :class:`Pipes`; feeding, draining, bounding and ending are
the same for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from threading import Event, Thread, Timer
from typing import Protocol, Self

import msgspec

from edgekit.devices.output import Tail, lines
from edgekit.devices.transport import Completed
from edgekit.errors import ConnectionFailed, EdgekitError, UsageError

_BEAT_S = 1.0
# After the kill nothing should block; a process that escaped it must not hold us up either.
_JOIN_S = 5.0


class Pipes(Protocol):
    """A started command, as a transport provides it. Every method blocks; ``kill`` frees all."""

    def read(self) -> bytes:
        """Some of its standard output; empty at the end."""
        ...

    def read_error(self) -> bytes:
        """Some of its standard error; empty at the end."""
        ...

    def write(self, data: bytes) -> None:
        """All of ``data`` to its standard input.

        Raises:
            OSError: it does not read any more.
        """
        ...

    def close_input(self) -> None: ...

    def ended(self) -> tuple[int | None, str | None]:
        """Its exit status or else its signal; to be asked once both outputs have ended.

        Raises:
            ConnectionFailed: the connection was lost first.
        """
        ...

    def kill(self) -> None:
        """End the command, or at least what ties us to it; nothing happens when it has ended."""
        ...

    def close(self) -> None:
        """Release the pipes, once nobody uses them any more."""
        ...


class Command:
    """A command under a deadline, with its standard error drained; leaving the context ends it.

    Args:
        pipes: the command.
        what: how messages name it.
        timeout_s: seconds it may take altogether.
    """

    def __init__(self, pipes: Pipes, what: str, timeout_s: float) -> None:
        self._pipes = pipes
        self._what = what
        self._timeout_s = timeout_s
        self._error = Tail()
        self._expired = Event()
        self._left = Event()
        self._completed: Completed | None = None
        self._threads = [Thread(target=self._drain_error, daemon=True)]
        self._timer = Timer(timeout_s, self._expire)
        self._timer.daemon = True

    def __enter__(self) -> Self:
        self._threads[0].start()
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._left.set()
        self._timer.cancel()
        self._pipes.kill()
        for thread in self._threads:
            thread.join(_JOIN_S)
        self._pipes.close()

    def feed(self, data: bytes) -> None:
        """Write its standard input from a thread of its own, and close it."""
        self._start(partial(self._write, data))

    def beat(self) -> None:
        """Write an empty line to its standard input every second, from a thread of its own."""
        self._start(self._write_beats)

    def chunks(self) -> Iterator[bytes]:
        """Its standard output as it comes.

        Raises:
            ConnectionFailed: the connection was lost or the deadline passed.
        """
        while chunk := self._pipes.read():
            yield chunk
        self._settle()

    def lines(self) -> Iterator[str]:
        return lines(self.chunks())

    def completed(self) -> Completed:
        if self._completed is None:
            raise EdgekitError(f"{self._what} was asked how it ended before its output had ended")
        return self._completed

    def _settle(self) -> None:
        self._threads[0].join()
        status, signal = (None, None) if self._expired.is_set() else self._pipes.ended()
        if self._expired.is_set():
            raise ConnectionFailed(
                f"{self._what} did not end within {self._timeout_s:g} s and was abandoned"
            )
        self._timer.cancel()
        self._completed = Completed(exit_status=status, signal=signal, stderr=self._error.bytes())

    def _drain_error(self) -> None:
        while chunk := self._pipes.read_error():
            self._error.add(chunk)

    def _start(self, work: Callable[[], None]) -> None:
        self._threads.append(Thread(target=work, daemon=True))
        self._threads[-1].start()

    def _write_beats(self) -> None:
        with suppress(OSError):
            self._pipes.write(b"\n")
            while not self._left.wait(_BEAT_S):
                self._pipes.write(b"\n")

    def _write(self, data: bytes) -> None:
        # A command need not read its input to the end, and its outcome tells more than this does.
        with suppress(OSError):
            self._pipes.write(data)
        with suppress(OSError):
            self._pipes.close_input()

    def _expire(self) -> None:
        self._expired.set()
        self._pipes.kill()


def run(command: Command, stdin: bytes) -> Completed:
    """Take a command that has not been entered yet to its end."""
    output = Tail()
    with command:
        command.feed(stdin)
        for chunk in command.chunks():
            output.add(chunk)
        return msgspec.structs.replace(command.completed(), stdout=output.bytes())


def check_argv(argv: tuple[str, ...]) -> None:
    """Refuse what no operating system can run.

    Raises:
        UsageError: no command at all, or a NUL character in it.
    """
    if not argv or any("\0" in argument for argument in argv):
        raise UsageError(f"not a command: {argv!r}")
