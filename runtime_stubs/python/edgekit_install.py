#!/usr/bin/env python3
"""Installs a runtime on a device without network: ``ARCHIVE STAGING FINAL MODULE``.

Python 3.8 or newer, the standard library only. ``ARCHIVE`` is a zip of what belongs into
``site-packages``. An environment of this very interpreter is made in ``STAGING``, the module is
imported there once, and only then ``STAGING`` becomes ``FINAL``, in one step and for good: who
finds ``FINAL`` finds all of it. A failure is one line on standard error and exit status 1.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

IMPORT_S = 300  # from an SD card, the first time


class Failure(Exception):
    """Something to report."""


def install(archive: Path, staging: Path, final: Path, module: str) -> None:
    if final.exists():
        # One that will do would have been used.
        shutil.rmtree(final)
    make_environment(archive, staging)
    check_import(staging / "bin" / "python3", module)
    os.sync()
    final.parent.mkdir(parents=True, exist_ok=True)
    try:
        staging.rename(final)
    except OSError:
        # Another installation of the same was faster.
        if not (final / "bin" / "python3").exists():
            raise
        shutil.rmtree(staging)
    sync(final.parent)


def make_environment(archive: Path, folder: Path) -> None:
    try:
        import venv
    except ImportError as error:
        raise Failure(
            "this Python has no module venv (Debian: apt install python3-venv)"
        ) from error
    venv.create(folder, symlinks=True, with_pip=False)
    (packages,) = folder.glob("lib/python3*/site-packages")
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(packages)


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
