"""Builds of a project that are ended at a random moment, in whatever way a build is ended."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests import projects

ENDINGS = ("SIGKILL", "SIGINT", "SIGTERM", "all killed")
_GENTLE = ("SIGINT", "SIGTERM")


def project(folder: Path) -> Path:
    """Two bundles."""
    return projects.make(folder, "first", "second").parent


def build(folder: Path) -> subprocess.Popen[bytes]:
    """``edgekit build`` with a cache of its own, which tells its processes from all others."""
    argv = [sys.executable, "-m", "edgekit", "build", "--jobs", "2"]
    environment = {**os.environ, "EDGEKIT_CACHE": str(folder / "cache")}
    return subprocess.Popen(
        argv, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )


def built(folder: Path) -> float:
    """Build to the end; how many seconds it took."""
    started = time.monotonic()
    with build(folder) as process:
        _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said.decode()
    return time.monotonic() - started


def killed(folder: Path, ending: str, after_s: float) -> int:
    """End a build in some way after a while; its exit status.

    On Ctrl-C and its like nothing may be left running once the command has ended, else soon.
    """
    with build(folder) as process:
        time.sleep(after_s)
        if ending == "all killed":
            for pid in running(folder):
                _send(pid, signal.SIGKILL)
        else:
            process.send_signal(getattr(signal, ending))
        process.communicate(timeout=60)
    patience_s = 1 if ending in _GENTLE else 30
    deadline = time.monotonic() + patience_s
    while left := list(running(folder)):
        assert time.monotonic() < deadline, f"{ending} left {len(left)} running"
        time.sleep(0.02)
    return process.returncode


def running(folder: Path) -> Iterator[int]:
    """The processes of a build."""
    mark = f"EDGEKIT_CACHE={folder / 'cache'}\0".encode()
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark in path.read_bytes():
                yield int(path.parent.name)
        except OSError:
            continue


def _send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def product(folder: Path) -> dict[str, bytes]:
    """The bundles and the lock."""
    files = [*(folder / "build").glob("*.edgekit"), folder / "edgekit.lock"]
    return {path.name: path.read_bytes() for path in files}


def check(folder: Path, clean: Path, times: int, seed: int) -> list[int]:
    """Kill so many builds, each begun from nothing; what is built next is what a clean build is.

    Args:
        folder: to work in.
        clean: a ``project`` that was built.
        times: how many.
        seed: of when.

    Returns:
        How the builds ended.
    """
    chance, statuses, took_s = random.Random(seed), [], 4.0
    for index in range(times):
        ending, after_s = ENDINGS[index % len(ENDINGS)], chance.uniform(0.1, 1) * took_s
        one = project(folder / str(index))
        statuses.append(killed(one, ending, after_s))
        took_s = built(one)
        odd = {name for name, _ in product(one).items() ^ product(clean).items()}
        assert not odd, f"{ending} after {after_s:.2f} s of {took_s:.2f}"
    return statuses
