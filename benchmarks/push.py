"""How fast a file gets onto a device, and what a second or a broken push sends.

Goals: on loopback and with 20 ms of delay each way, writing a file takes no longer than `scp`
takes, connecting included, in turn on the same server (ours is on the disk then, scp's need not
be); a whole push, which also verifies, is shown beside it. A repeated push sends under 1 % of
the bytes, one that was cut in the middle at most one chunk again: OpenSSH's window.

    python benchmarks/push.py [--megabytes 100] [--rounds 5]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from _common import ROOT, Goal, finish, interleaved

sys.path.insert(0, str(ROOT))
from edgekit import devices, field
from edgekit.bundle import Bundle
from edgekit.devices.ssh import WINDOW_BYTES
from edgekit.errors import ConnectionLost
from tests.devices.fault_proxy import FaultProxy, Link, Way
from tests.factories import make_bundle
from tests.sshd import Sshd

DELAY_S = 0.02


class Device:
    """A server on loopback, and fresh folders on it."""

    def __init__(self, server: Sshd, folder: Path) -> None:
        self._server = server
        self._folder = folder
        self._count = 0

    def fresh(self) -> Path:
        self._count += 1
        path = self._folder / f"work-{self._count}"
        path.mkdir()
        return path

    def know(self, port: int) -> None:
        """Have the client know the server's key on another port, too."""
        line = self._server.known_hosts_line().split(maxsplit=1)[1]
        with self._server.known_hosts.open("a") as file:
            file.write(f"[127.0.0.1]:{port} {line}")

    def url(self, port: int, work: Path) -> str:
        return f"ssh://{self._server.user}@127.0.0.1:{port}{work}"

    def scp(self, source: Path, port: int) -> float:
        """Seconds that OpenSSH takes for one file, as it comes."""
        home = self._server.home / ".ssh"
        options = (
            *("-q", "-F", "none", "-P", str(port), "-i", str(home / "id_ed25519")),
            *("-o", f"UserKnownHostsFile={home / 'known_hosts'}", "-o", "IdentitiesOnly=yes"),
        )
        target = f"{self._server.user}@127.0.0.1:{self.fresh() / 'file'}"
        started = time.perf_counter()
        subprocess.run(["scp", *options, str(source), target], check=True)
        return time.perf_counter() - started

    def put(self, source: Path, port: int) -> float:
        """Seconds that edgekit takes for the same file."""
        target = devices.parse(self.url(port, self.fresh()))
        started = time.perf_counter()
        with devices.connect(target) as device:
            device.put(source, f"{device.workdir}/file")
        return time.perf_counter() - started

    def push(self, bundle: Bundle, port: int) -> float:
        """Seconds for a whole push: sent, verified, made durable and visible."""
        url = self.url(port, self.fresh())
        started = time.perf_counter()
        field.push(bundle.root, url)
        return time.perf_counter() - started


def main() -> int:
    """Measure, print, and say by the status whether the goals hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, home_of_our_own(Path(name)) as home:
        folder = Path(name)
        bundle = make_bundle(folder / "bundle", os.urandom(arguments.megabytes * 1_000_000))
        with Sshd(folder / "sshd", home) as server:
            server.accept()
            device = Device(server, folder)
            speeds = {"loopback": speed(device, bundle, server.port, arguments.rounds)}
            with delayed(server.port) as port:
                device.know(port)
                speeds["delayed"] = speed(device, bundle, port, arguments.rounds)
            figures = {"megabytes": arguments.megabytes, **speeds, **resent(server, device, bundle)}
    return finish("push", figures, goals(figures))


def goals(figures: dict[str, Any]) -> list[Goal]:
    """No slower than scp, and nothing sent that need not be."""
    return [
        *(Goal(f"{way}: time over scp's", figures[way]["ratio"], 1.0) for way in WAYS),
        Goal("sent by a repeated push", figures["repeated_share"], 0.01),
        Goal("bytes sent again after a cut", figures["resent_bytes"], WINDOW_BYTES),
    ]


WAYS = ("loopback", "delayed")


def speed(device: Device, bundle: Bundle, port: int, rounds: int) -> dict[str, Any]:
    """edgekit and scp in turn."""
    source = bundle.root / "model.onnx"
    megabytes = source.stat().st_size / 1e6
    ways: tuple[Callable[[], float], ...] = (
        partial(device.put, source, port),
        partial(device.scp, source, port),
        partial(device.push, bundle, port),
    )
    measured = interleaved(rounds, *ways)
    put, scp, push = (median(times) for times in zip(*measured, strict=True))
    return {
        "edgekit_mb_per_s": round(megabytes / put, 1),
        "scp_mb_per_s": round(megabytes / scp, 1),
        "whole_push_mb_per_s": round(megabytes / push, 1),
        "ratio_per_round": [round(ours / theirs, 3) for ours, theirs, _ in measured],
        "ratio": median(ours / theirs for ours, theirs, _ in measured),
        "whole_push_ratio": median(whole / theirs for _, theirs, whole in measured),
    }


def resent(server: Sshd, device: Device, bundle: Bundle) -> dict[str, Any]:
    """What goes over the wire for a push, the same again, and one that is cut in the middle."""
    size = sum((bundle.root / name).stat().st_size for name in bundle.files)
    with FaultProxy(server.port) as proxy:
        device.know(proxy.port)
        url = device.url(proxy.port, device.fresh())
        clean, again = (passed(proxy, bundle, url) for _ in range(2))
        proxy.next(Link(up=Way(cut_at=size // 2)))
        url = device.url(proxy.port, device.fresh())
        cut = passed(proxy, bundle, url)
        resumed = passed(proxy, bundle, url)
    return {
        "repeated_share": again / size,
        "repeated_bytes": again,
        "resent_bytes": max(0, cut + resumed - clean - again),
    }


def passed(proxy: FaultProxy, bundle: Bundle, url: str) -> int:
    """Bytes in both directions that one connection takes, whether it is cut or not."""
    before = sum(proxy.passed)
    with suppress(ConnectionLost):
        field.push(bundle.root, url, retries=0)
    return sum(proxy.passed) - before


@contextmanager
def home_of_our_own(folder: Path) -> Iterator[Path]:
    """A home folder with keys of its own."""
    home = folder / "home"
    home.mkdir()
    os.environ.pop("SSH_AUTH_SOCK", None)
    os.environ["HOME"] = str(home)
    yield home


@contextmanager
def delayed(port: int) -> Iterator[int]:
    """A proxy that delays, in a process of its own; its port."""
    argv = [sys.executable, "-m", "tests.devices.fault_proxy", str(port), str(DELAY_S)]
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as proxy:
        try:
            yield int(proxy.stdout.readline()) if proxy.stdout else 0
        finally:
            proxy.terminate()


if __name__ == "__main__":
    sys.exit(main())
