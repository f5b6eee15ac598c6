"""A real adbd: Debian's, which serves a Debian instead of an Android, in a network of its own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Self

import pytest

from tests.lab.debian import Debian

_SYSTEM = Debian(release="trixie", architecture="amd64", packages=("adbd", "python3"))
_PORT = 5555
_HOST, _DEVICE = "10.213.77.1", "10.213.77.2"
_LINK, _PEER = "edgekit-adb0", "edgekit-adb1"

# It lets in whoever reaches it: nobody but this machine may.
_ENTER = """
root=$1 folder=$2
mount --make-rprivate /
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/tmp"
mkdir -p "$root$folder"
mount --bind "$folder" "$root$folder"
exec chroot "$root" /usr/sbin/adbd
"""


class Adbd:
    """A device that an adb server of its own knows, while the context lasts.

    Args:
        folder: the device sees it under the same path.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.serial = f"{_DEVICE}:{_PORT}"

    def __enter__(self) -> Self:
        if missing := [tool for tool in ("adb", "ip", "nsenter") if shutil.which(tool) is None]:
            pytest.skip(f"needs {' and '.join(missing)} (apt: adb, iproute2, util-linux)")
        root = str(_SYSTEM.root())
        self._process = subprocess.Popen(
            ["unshare", "--mount", "--net", "sh", "-ec", _ENTER, "sh", root, str(self._folder)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            self._link()
            self._connect()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run(["adb", "kill-server"], check=False, capture_output=True)
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        subprocess.run(["ip", "link", "delete", _LINK], check=False, capture_output=True)

    def stop(self) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)

    def _link(self) -> None:
        """A cable between its network and this one."""
        pid = self._process.pid
        own = Path("/proc/self/ns/net").readlink()
        deadline = time.monotonic() + 10
        while Path(f"/proc/{pid}/ns/net").readlink() == own and time.monotonic() < deadline:
            time.sleep(0.01)
        inside = ["nsenter", "-t", str(pid), "-n"]
        for command in (
            ["ip", "link", "add", _LINK, "type", "veth", "peer", "name", _PEER],
            ["ip", "link", "set", _PEER, "netns", str(pid)],
            ["ip", "address", "add", f"{_HOST}/30", "dev", _LINK],
            ["ip", "link", "set", _LINK, "up"],
            [*inside, "ip", "address", "add", f"{_DEVICE}/30", "dev", _PEER],
            [*inside, "ip", "link", "set", _PEER, "up"],
        ):
            done = subprocess.run(command, capture_output=True, check=False)
            if done.returncode:
                pytest.skip(f"cannot make a network here: {done.stderr.decode().strip()}")

    def _connect(self) -> None:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                socket.create_connection((_DEVICE, _PORT), 1).close()
            except OSError:
                time.sleep(0.05)
                continue
            said = subprocess.run(["adb", "connect", self.serial], capture_output=True, check=True)
            if b"connected to" in said.stdout:
                return
        raise RuntimeError("adbd did not start")
