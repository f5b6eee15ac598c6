"""Starting the runner as a device would, and the interpreters to start it with."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgekit import resources

RUNNER = str(resources.runner())
QUICK = (
    *("--runs", "5", "--seconds", "0.02", "--processes", "2"),
    *("--warmup-runs", "1", "--warmup-seconds", "0"),
)
TIMEOUT_S = 60.0

Event = dict[str, Any]


def ask(*arguments: str | Path, python: str = sys.executable) -> tuple[int, list[Event]]:
    """Run a command of the runner to its end: its status, and every line it wrote."""
    done = subprocess.run(
        [python, RUNNER, *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    return done.returncode, parsed(done.stdout)


def bench(
    bundle: Path, *options: str, env: Mapping[str, str] | None = None, python: str = sys.executable
) -> tuple[int, list[Event]]:
    """Run a whole bench with its standard input open."""
    with benching(bundle, *(options or QUICK), env=env, python=python) as process:
        stdout = process.stdout.read() if process.stdout else b""
        return process.wait(TIMEOUT_S), parsed(stdout)


@contextmanager
def benching(
    bundle: Path,
    *options: str,
    env: Mapping[str, str] | None = None,
    python: str = sys.executable,
    command: str = "bench",
) -> Iterator[subprocess.Popen[bytes]]:
    """A bench that is running; ended with the context."""
    process = subprocess.Popen(
        [python, RUNNER, command, str(bundle), *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **(env or {})},
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def next_event(process: subprocess.Popen[bytes]) -> Event:
    """The next line of a running bench."""
    line = process.stdout.readline() if process.stdout else b""
    event: Event = json.loads(line)
    return event


def parsed(stdout: bytes) -> list[Event]:
    """Every line is an event; whatever else is on standard output fails here."""
    events = [json.loads(line) for line in stdout.splitlines()]
    assert all(isinstance(event["event"], str) for event in events)
    return events


def kinds(events: list[Event]) -> list[str]:
    """What was said in which order, but for what is only about to happen."""
    return [event["event"] for event in events if event["event"] != "phase"]


def only(events: list[Event], kind: str) -> Event:
    """The one event of a kind."""
    (found,) = [event for event in events if event["event"] == kind]
    return found


def processes_of(bundle: Path) -> list[int]:
    """Every living process that was started on this bundle."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and str(bundle).encode() in _command_line(folder):
            found.append(int(folder.name))
    return found


def _command_line(folder: Path) -> bytes:
    try:
        return (folder / "cmdline").read_bytes()
    except OSError:
        return b""


def interpreters() -> list[str]:
    """An interpreter of every other minor version from 3.8 on that this machine has."""
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    found = []
    for minor in range(8, 15):
        if minor != sys.version_info.minor:
            found += [str(p) for p in sorted(root.glob(f"versions/3.{minor}.*/bin/python"))[:1]]
    return found
