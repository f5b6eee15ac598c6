"""Calling several of edgekit's own functions side by side, each in a process of its own.

A call crosses the border as in ``isolation``; what it is working on comes back while it works.
A worker whose standard input closes has lost whoever started it, however that happened: it ends,
and tidies up as on Ctrl-C.
"""

from __future__ import annotations

import json
import logging
import os
import selectors
import signal
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Any, NoReturn

from msgspec import Struct

from edgekit.errors import EdgekitError, ToolCrashed, ToolError
from edgekit.observer import OnRow
from edgekit.toolchain import isolation, process

_MODULE = "edgekit.toolchain.workers"
_LOG = logging.getLogger(__name__)
_ENDED = 143
_TIDYING_S = 20.0
_CHUNK = 65536


class Call[T](Struct, frozen=True):
    """A function of a module of edgekit's, and its arguments but for ``on_stage``.

    Attributes:
        name: how its progress is named.
    """

    name: str
    function: Callable[..., T]
    arguments: dict[str, Any]


def each[T](
    calls: Iterable[Call[T]],
    at_once: int,
    on_row: OnRow,
    ended: Callable[[Call[T], T | EdgekitError], None],
) -> None:
    """Do all the calls; one that fails stops no other, what interrupts this ends all.

    Args:
        calls: begun in this order.
        at_once: how many run at a time.
        on_row: told the stages of each as they begin.
        ended: told what each returned, or the error that kept it from that: the very error
            that it raised, or ``ToolError`` when it ended otherwise.
    """
    waiting, running = deque(calls), selectors.DefaultSelector()
    try:
        while waiting or running.get_map():
            while waiting and len(running.get_map()) < at_once:
                worker = _Worker(waiting.popleft())
                running.register(worker.said, selectors.EVENT_READ, worker)
            for key, _ in running.select():
                if not key.data.tell(on_row):
                    running.unregister(key.fileobj)
                    ended(key.data.call, key.data.result())
    finally:
        _end_all([key.data for key in running.get_map().values()])
        running.close()


class _Worker[T]:
    """One call, from its start."""

    def __init__(self, call: Call[T]) -> None:
        self.call = call
        self._folder = tempfile.TemporaryDirectory(prefix="edgekit-worker-")
        folder = Path(self._folder.name)
        asked, self._answered, self._stderr = (folder / n for n in ("call", "answer", "stderr"))
        asked.write_bytes(isolation.encoded(call.arguments))
        level = str(logging.getLogger().getEffectiveLevel())
        argv = [sys.executable, "-P", "-m", _MODULE, level, isolation.name_of(call.function)]
        with self._stderr.open("wb") as stderr:
            # A session of its own: Ctrl-C reaches it once, through us.
            self._process = subprocess.Popen(
                [*argv, str(asked), str(self._answered)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                start_new_session=True,
            )
        self._unread = b""

    @property
    def said(self) -> int:
        """The descriptor that its stages come from."""
        assert self._process.stdout is not None  # noqa: S101 - it was asked for above
        return self._process.stdout.fileno()

    def tell(self, on_row: OnRow) -> bool:
        """Pass on what it has said; ``False``: it has ended."""
        chunk = os.read(self.said, _CHUNK)
        *lines, self._unread = (self._unread + chunk).split(b"\n")
        for line in lines:
            stage, detail = json.loads(line)
            on_row(self.call.name, stage, detail)
        return bool(chunk)

    def result(self) -> T | EdgekitError:
        """What it returned or raised, once it has ended."""
        with self._process, self._folder:
            status = self._process.wait()
            _LOG.debug("%s said:\n%s", self.call.name, process.tail(self._stderr))
            try:
                if self._answered.is_file():
                    return isolation.answered(self.call.function, self._answered)
                raise self._crashed(status)
            except EdgekitError as error:
                return error

    def _crashed(self, status: int) -> ToolError:
        said = process.tail(self._stderr)
        if status >= 0:
            return ToolError(f"{self.call.name} ended without an answer", said)
        hint = "where memory is short, do fewer at a time (--jobs 1)"
        name = process.signal_name(-status)
        return ToolCrashed(f"{self.call.name} crashed ({name})", said or hint)

    def leave(self) -> None:
        """Have it end and tidy up."""
        assert self._process.stdin is not None  # noqa: S101
        self._process.stdin.close()

    def wait(self) -> None:
        """Until it has ended; by force where it does not."""
        with self._process, self._folder:
            try:
                self._process.wait(_TIDYING_S)
            except subprocess.TimeoutExpired:
                self._process.kill()


def _end_all(workers: list[_Worker[Any]]) -> None:
    for worker in workers:
        worker.leave()
    for worker in workers:
        worker.wait()


# ------------------------------------------------------------------------------ in the worker


def _main() -> None:
    level, name, asked, answered = sys.argv[1:]
    logging.basicConfig(level=int(level), stream=sys.stderr)
    say = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)  # what libraries print is no stage
    signal.signal(signal.SIGTERM, _leave)
    Thread(target=_leave_when_alone, daemon=True).start()

    def on_stage(stage: str, detail: str) -> None:
        with suppress(BrokenPipeError):
            say.write(json.dumps([stage, detail]) + "\n")
            say.flush()

    isolation.answer(name, Path(asked), Path(answered), on_stage=on_stage)


def _leave(*_: object) -> NoReturn:
    sys.exit(_ENDED)


def _leave_when_alone() -> None:
    while os.read(0, _CHUNK):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    _main()
