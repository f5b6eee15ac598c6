#!/usr/bin/env python3
"""Installs a runtime on a device without network: ``ARCHIVE STAGING FINAL MODULE``.

Python 3.8 or newer, the standard library only. ``ARCHIVE`` is a zip of what belongs into
``site-packages``. An environment of this very interpreter is made in ``STAGING``, the module is
imported there once, and only then ``STAGING`` becomes ``FINAL``, in one step and for good: who
finds ``FINAL`` finds all of it. One that is whole stays as it is, for it may be in use. One
installation at a time, and none beside a benchmark, which it would disturb. A failure is one line
on standard error and exit status 1.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

IMPORT_S = 300  # from an SD card, the first time
PATIENCE_S = 900
POLL_S = 0.2
DEVICE_LOCK = "/tmp/edgekit.lock"  # noqa: S108 - the runner has the same


class Failure(Exception):
    """Something to report."""


def install(archive: Path, staging: Path, final: Path, module: str) -> None:
    final.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as held:
        lock = final.parent.with_suffix(".lock")
        hold(held, os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600))
        with contextlib.suppress(OSError):  # where there is none, nobody is kept out
            hold(held, open_to_all(os.environ.get("EDGEKIT_DEVICE_LOCK", DEVICE_LOCK)))
        if final.exists():
            if is_whole(final, archive, module):
                return
            final.rename(staging)
            shutil.rmtree(staging)
        make_environment(archive, staging)
        check_import(staging / "bin" / "python3", module)
        os.sync()
        staging.rename(final)
        sync(final.parent)


def open_to_all(path: str) -> int:
    """Open a lock that every user of this device can hold, as the runner does."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
    with contextlib.suppress(FileNotFoundError):
        return os.open(path, flags)
    file = os.open(path, flags | os.O_CREAT)
    os.fchmod(file, 0o444)
    return file


def hold(held: contextlib.ExitStack, file: int) -> None:
    """Lock an open file once others let go of it; it falls with the process."""
    held.callback(os.close, file)
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() > deadline:
                raise Failure("a benchmark or another installation does not end there") from error
            time.sleep(POLL_S)
        else:
            return


def is_whole(folder: Path, archive: Path, module: str) -> bool:
    """Whether an environment works and lacks nothing."""
    try:
        check_import(folder / "bin" / "python3", module)
        with zipfile.ZipFile(archive) as packed:
            names = packed.namelist()
    except FileNotFoundError as missing:
        # Whoever has just made the environment has tidied the archive up.
        return str(missing.filename) == str(archive)
    except (Failure, OSError):
        return False
    return all((packages_of(folder) / name).exists() for name in names)


def make_environment(archive: Path, folder: Path) -> None:
    try:
        import venv
    except ImportError as error:
        raise Failure(
            "this Python has no module venv (Debian: apt install python3-venv)"
        ) from error
    venv.create(folder, symlinks=True, with_pip=False)
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(packages_of(folder))


def packages_of(folder: Path) -> Path:
    (packages,) = folder.glob("lib/python3*/site-packages")
    return packages


def check_import(python: Path, module: str) -> None:
    """Whether the libraries load here: the C library, the processor and the disk allow it."""
    command = [str(python), "-I", "-c", "import numpy, " + module]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=IMPORT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise Failure(f"importing {module} took more than {IMPORT_S} s") from error
    if done.returncode < 0:
        raise Failure(f"importing {module} ended with signal {-done.returncode}")
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["it said nothing"]
        raise Failure(f"{module} cannot be imported there: {said[-1]}")


def sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def main(argv: list[str]) -> int:
    archive, staging, final, module = argv
    try:
        install(Path(archive), Path(staging), Path(final), module)
    except (Failure, OSError, zipfile.BadZipFile) as error:
        shutil.rmtree(staging, ignore_errors=True)
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
