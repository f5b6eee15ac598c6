"""A second architecture: a Debian for 64-bit Arm with an SSH server of its own, under qemu.

Making it takes about four minutes, once. Every process in it is emulated: right, and slow.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.lab.debian import Debian
from tests.sshd import Sshd

# With the Python 3.11 that is the last one of tflite-runtime.
_SYSTEM = Debian(release="bookworm", architecture="arm64", packages=("openssh-server", "python3"))
_BINFMT = Path("/proc/sys/fs/binfmt_misc")

# Seen by the server and its children only, and gone with them: the root stays as it was made.
_ENTER = """
root=$1 folder=$2
mount --make-rprivate /
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
for scratch in tmp run root; do mount -t tmpfs tmpfs "$root/$scratch"; done
mkdir -p "$root/run/sshd" "$root$folder"
chmod 0755 "$root/run/sshd"
mount --bind "$folder" "$root$folder"
mount --bind "$folder/cpuinfo" "$root/proc/cpuinfo"
shift 2
exec chroot "$root" "$@"
"""


# qemu shows the host's own.
_CPUINFO = """processor\t: {number}
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm crc32 cpuid
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: 0xd08
CPU revision\t: 3

"""


def server(folder: Path, home: Path) -> Sshd:
    """The board: its Python has nothing beside the standard library."""
    folder.mkdir(parents=True, exist_ok=True)
    cpuinfo = "".join(_CPUINFO.format(number=number) for number in range(os.cpu_count() or 1))
    (folder / "cpuinfo").write_text(cpuinfo)
    within = ("unshare", "--mount", "sh", "-ec", _ENTER, "sh", str(_root()), str(folder))
    return Sshd(folder, home, path_env="/usr/bin:/bin", within=within)


def _root() -> Path:
    """Where its files lie; skips the test where its programs cannot be run."""
    if shutil.which("qemu-aarch64-static") is None:
        pytest.skip("needs qemu-aarch64-static (apt install qemu-user-static)")
    # Have the kernel give programs for Arm to qemu, where it does not yet.
    if not (_BINFMT / "register").exists():
        subprocess.run(["mount", "-t", "binfmt_misc", "none", _BINFMT], check=False)
    if not (_BINFMT / "qemu-aarch64").exists():
        subprocess.run(["update-binfmts", "--enable", "qemu-aarch64"], check=False)
    return _SYSTEM.root()
