"""What the tests call in processes of its own; they must lie in a module that can be imported."""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from enum import Enum
from pathlib import Path
from typing import Any

from msgspec import Struct

from edgekit import errors
from edgekit.errors import EdgekitError
from edgekit.observer import OnStage
from edgekit.toolchain import process
from edgekit.toolchain.environments import Tool


class Color(Enum):
    RED = "red"


class Inner(Struct, frozen=True):
    path: Path | None
    shape: tuple[int, ...] = ()


class Outer(Struct, frozen=True, kw_only=True):
    name: str
    color: Color
    inner: tuple[Inner, ...]
    score: float
    table: dict[str, tuple[int, ...]]
    by_index: dict[int, str]
    raw: bytes


class PrivateError(EdgekitError):
    """One that ``edgekit.errors`` does not know."""


class FakeTool(Tool, frozen=True, kw_only=True):
    """A tool whose pins lie where a test put them."""

    pins: Path

    @property
    def requirements(self) -> Path:
        return self.pins


def echo(value: Outer) -> Outer:
    return value


def folder_of(path: Path, *, nothing: int | None = 1) -> Path:
    assert isinstance(path, Path)
    assert nothing is None
    return path.parent


def paths(first: Path, second: Path) -> tuple[Path, ...]:
    return first, second


def pid() -> int:
    return os.getpid()


def nothing() -> None:
    print("noise", "x" * 100_000)  # noqa: T201 - tools do


def number(value: float) -> float:
    return value


def fails_knowingly(kind: str) -> None:
    raise getattr(errors, kind)("what was wrong", "what to do")


def fails_privately() -> None:
    raise PrivateError("what was wrong", "what to do")


def fails() -> None:
    raise ZeroDivisionError("by nothing")


def aborts() -> None:
    print("last words", file=sys.stderr, flush=True)  # noqa: T201
    os.abort()


def segfaults() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def leaves(status: int) -> None:
    os._exit(status)


def leaves_politely() -> None:
    sys.exit(0)


def hangs() -> None:
    time.sleep(60)


def grabs(size: int) -> int:
    return len(bytearray(size))


def unspeakable() -> Any:
    return object()


def meet(folder: Path, name: str, others: int, on_stage: OnStage) -> int:
    """Wait until so many others are here, too."""
    (folder / name).touch()
    deadline = time.monotonic() + 30
    while len(list(folder.iterdir())) <= others:
        if time.monotonic() > deadline:
            raise EdgekitError(f"{name} was alone")
        time.sleep(0.01)
    on_stage("met", name)
    sys.stdout.write("this is no stage\n")
    return os.getpid()


def in_and_out(folder: Path, name: str, on_stage: OnStage) -> int:
    """How many are here at the most while this one is."""
    (folder / name).touch()
    seen = 0
    for _ in range(20):
        seen = max(seen, len(list(folder.iterdir())))
        time.sleep(0.005)
    (folder / name).unlink()
    return seen


def use_a_tool(folder: Path, name: str, on_stage: OnStage) -> None:
    """Run what never ends, having said who this is."""
    (folder / name).write_text(str(os.getpid()))
    on_stage("waiting", name)
    process.run(["sleep", "600"], what="sleep")


def log(word: str, on_stage: OnStage) -> None:
    logging.getLogger("edgekit.test").debug("the word is %s", word)


def fall(how: str, on_stage: OnStage) -> None:
    if how == "crash":
        sys.stderr.write("the last words")
        sys.stderr.flush()
        os.kill(os.getpid(), signal.SIGSEGV)
    if how == "system":
        raise errors.SystemRefused(OSError(28, "No space left on device", "/some/file"))
    raise errors.DataError("odd data", "give others")
