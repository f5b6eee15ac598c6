"""Running a tool as a process of its own: with limits, bounded output, and its signal named."""

from __future__ import annotations

import atexit
import logging
import os
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Container, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from msgspec import Struct

from edgekit.errors import ToolCrashed, ToolError, ToolTimeout

GIB = 1024**3
_LOG = logging.getLogger(__name__)
_KEPT_BYTES = 256 * 1024
_HINT_CHARACTERS = 2000
_running: set[subprocess.Popen[bytes]] = set()
"""At the exit nobody waits for those that threads in the background run."""


class Limits(Struct, frozen=True, kw_only=True):
    """What a tool may take.

    Attributes:
        seconds: wall time, after which its whole process group is killed.
        memory_bytes: private memory (``RLIMIT_DATA``), held on Linux only: macOS does
            not enforce it.
    """

    seconds: float = 1800.0
    memory_bytes: int = 16 * GIB


class Finished(Struct, frozen=True, kw_only=True):
    """A tool that ended by itself; of what it printed, the end is kept."""

    status: int
    stdout: str
    stderr: str

    @property
    def said(self) -> str:
        """What it most likely has to say about a failure."""
        return (self.stderr or self.stdout)[-_HINT_CHARACTERS:]


def run(
    argv: Sequence[str],
    *,
    what: str,
    limits: Limits | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    accept: Container[int] = (0,),
) -> Finished:
    """Run a tool to its end.

    Args:
        argv: the command, a list: no shell is involved.
        what: how the tool is named in messages.
        limits: time and memory.
        env: added to this process's environment.
        cwd: where it runs.
        accept: exit statuses that are no failure.

    Raises:
        ToolError: it could not be started, or ended with a status that is not accepted.
        ToolCrashed: a signal ended it.
        ToolTimeout: it ran past its time and was killed.
    """
    limits = limits or Limits()
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        process = _start(argv, what, stdout, stderr, env=env, cwd=cwd)
        _running.add(process)
        timed_out = False
        try:
            _limit_memory(process.pid, limits.memory_bytes)
            status = process.wait(timeout=limits.seconds)
        except subprocess.TimeoutExpired:
            timed_out = True
        finally:
            _kill_group(process)
            _running.discard(process)
        ended = Finished(status=process.returncode, stdout=_end(stdout), stderr=_end(stderr))
    _LOG.debug("%s ended with %d and said:\n%s", what, ended.status, ended.said)
    if timed_out:
        raise ToolTimeout(f"{what} was ended after its limit of {limits.seconds:g} s", ended.said)
    if status < 0:
        raise ToolCrashed(f"{what} crashed ({signal_name(-status)})", ended.said)
    if status not in accept:
        raise ToolError(f"{what} failed (exit status {status})", ended.said)
    return ended


def _start(
    argv: Sequence[str],
    what: str,
    stdout: IO[bytes],
    stderr: IO[bytes],
    *,
    env: Mapping[str, str] | None,
    cwd: Path | None,
) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            env={**os.environ, **(env or {})},
            cwd=cwd,
            start_new_session=True,
        )
    except OSError as error:
        raise ToolError(f"{what} could not be started: {error.strerror}") from error


def _limit_memory(pid: int, memory_bytes: int) -> None:
    """Set the limit from outside: a ``preexec_fn`` is not safe beside threads."""
    if sys.platform == "linux":
        with suppress(ProcessLookupError):
            _, hard = resource.prlimit(pid, resource.RLIMIT_DATA)
            # Whoever lowered the hard limit may not raise it again.
            limit = memory_bytes if hard == resource.RLIM_INFINITY else min(memory_bytes, hard)
            resource.prlimit(pid, resource.RLIMIT_DATA, (limit, limit))


def signal_name(number: int) -> str:
    """A signal's name; most real-time signals have none."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """End what the tool may have left running, and the tool itself when we were interrupted."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@atexit.register
def _kill_all() -> None:
    for process in tuple(_running):
        _kill_group(process)


def tail(path: Path) -> str:
    """The end of what was printed into a file."""
    with path.open("rb") as file:
        return _end(file)[-_HINT_CHARACTERS:]


def _end(file: IO[bytes]) -> str:
    """The end of what was printed."""
    descriptor = file.fileno()
    size = os.fstat(descriptor).st_size
    tail = os.pread(descriptor, _KEPT_BYTES, max(0, size - _KEPT_BYTES))
    return tail.decode("utf-8", "replace").strip()
