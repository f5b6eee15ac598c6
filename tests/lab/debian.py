"""Debian systems to be devices: made once by debootstrap, and kept in the user's cache folder."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from msgspec import Struct
from platformdirs import user_cache_path

_HOME = user_cache_path("edgekit-tests")
"""Found out before a test moves HOME."""


class Debian(Struct, frozen=True, kw_only=True):
    """A system.

    Attributes:
        packages: beside those that every system has.
    """

    release: str
    architecture: str
    packages: tuple[str, ...]

    @property
    def _folder(self) -> Path:
        return _HOME / "-".join((self.architecture, self.release, *self.packages))

    def root(self) -> Path:
        """Where its files lie; skips the test where it cannot be made or run."""
        if os.geteuid() != 0:
            pytest.skip("needs root, to mount and to chroot")
        folder = self._folder
        folder.parent.mkdir(parents=True, exist_ok=True)
        with folder.with_name(f"{folder.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not folder.is_dir():
                self._make(folder)
        ran = subprocess.run(["chroot", folder, "/bin/true"], capture_output=True, check=False)
        if ran.returncode:
            pytest.skip(f"cannot run its programs here: {ran.stderr.decode().strip()}")
        return folder

    def _make(self, folder: Path) -> None:
        if shutil.which("debootstrap") is None:
            pytest.skip("needs debootstrap (apt install debootstrap)")
        partial = folder.with_name(f"{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        options = [f"--arch={self.architecture}", "--variant=minbase"]
        options += [f"--include={','.join(self.packages)}"]
        made = subprocess.run(
            ["debootstrap", *options, self.release, partial], capture_output=True, check=False
        )
        if made.returncode:
            pytest.skip(f"debootstrap failed: {made.stdout.decode()[-300:].strip()}")
        partial.rename(folder)
