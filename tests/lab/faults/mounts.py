"""Disks to be filled, frozen and cut off from power: tmpfs, and ext4 in an image."""

from __future__ import annotations

import fcntl
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_SHUTDOWN = 0x8004587D
"""EXT4_IOC_SHUTDOWN of the kernel's fs/ext4/ext4.h."""

_WITHOUT_FLUSHING_THE_LOG = 2


def mount(*words: str | Path) -> None:
    """Mount, or skip the test: it takes root, and a kernel that lets us."""
    done = subprocess.run(["mount", *map(str, words)], capture_output=True, check=False)
    if os.geteuid() != 0 or done.returncode:
        pytest.skip(f"cannot mount here: {done.stderr.decode().strip()}")


@contextmanager
def tmpfs(folder: Path, options: str) -> Iterator[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    mount("-t", "tmpfs", "-o", options, "tmpfs", folder)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


class Ext4:
    """An ext4 filesystem in an image file; its power can be cut.

    Args:
        folder: takes the image, and the mount point ``disk``.
        size_mib: of the filesystem.
    """

    def __init__(self, folder: Path, size_mib: int = 64) -> None:
        self._image = folder / "image"
        self.root = folder / "disk"
        self.root.mkdir()
        with self._image.open("wb") as image:
            image.truncate(size_mib << 20)
        subprocess.run(["mkfs.ext4", "-q", "-F", self._image], check=True)
        self.on()

    def on(self) -> None:
        """Mount it; the journal is replayed."""
        mount("-o", "loop", self._image, self.root)

    def cut(self) -> None:
        """What is not on the disk now is lost, as it is when the power fails."""
        descriptor = os.open(self.root, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, _SHUTDOWN, _WITHOUT_FLUSHING_THE_LOG.to_bytes(4, "little"))
        finally:
            os.close(descriptor)

    def off(self) -> None:
        subprocess.run(["umount", self.root], check=True)

    def cycle(self) -> None:
        """Off and on again, after a cut."""
        self.off()
        self.on()
