"""Clients that are killed, devices that are odd, servers that lie: nothing is left half done."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edgekit import devices, field
from edgekit.benchmarking import Settings
from edgekit.bundle import Bundle
from edgekit.devices.push import push
from edgekit.devices.transport import Transport
from edgekit.domain import Target
from edgekit.errors import ConnectionFailed, DeviceError
from tests.benchmarking.deployed import deploy
from tests.devices.fault_proxy import FaultProxy, Link, Way
from tests.devices.test_bad_network import is_whole
from tests.factories import make_bundle
from tests.runtime_stubs import bundles
from tests.runtime_stubs.conftest import contents, model
from tests.runtime_stubs.harness import QUICK, bench, processes_of
from tests.runtime_stubs.test_runner_bench import RUNNING, gone
from tests.sshd import Sshd

__all__ = ["contents", "model"]

_QUICK = Settings(runs=3, seconds=0.1, warmup_seconds=0, processes=1)
# Tests that run in the background inherit that Ctrl-C is ignored.
_CLIENT = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from edgekit.cli import main
sys.exit(main())
"""
_MEMORY = Path("/sys/fs/cgroup/memory")


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return make_bundle(tmp_path / "bundle", os.urandom(3_000_000))


def started(*words: object, before: str = "") -> subprocess.Popen[str]:
    """The command line as a person starts it."""
    argv = [sys.executable, "-c", _CLIENT, *map(str, words)]
    if before:
        argv = ["sh", "-c", f'{before}; exec "$@"', "sh", *argv]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_push_that_is_ended_at_each_step(
    proxy: FaultProxy, target: Target, bundle: Bundle, work: Path, number: signal.Signals
) -> None:
    """By the bytes that have passed: connecting, at the beginning, amid the file, at its end."""
    for part in (0.0, 0.001, 0.3, 0.7, 0.98, 1.0):
        proxy.link = Link(up=Way(bytes_per_s=3_000_000))
        before = proxy.passed[0]
        client = started("push", bundle.root, "--on", target)
        while proxy.passed[0] - before <= part * 3_000_000 and client.poll() is None:
            time.sleep(0.001)
        client.send_signal(number)
        _, said = client.communicate(timeout=20)
        assert "Traceback" not in said
        is_whole(work, bundle)
        proxy.link = Link()
        field.push(bundle.root, str(target))
        assert is_whole(work, bundle)
        with devices.connect(target) as device:
            device.remove(f"{work}/bundles/{bundle.sha256}")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_benchmark_whose_client_dies(
    target: Target, tmp_path: Path, work: Path, number: signal.Signals
) -> None:
    bundle = deploy(tmp_path / "made").bundle
    client = started("bench", bundle.root, "--on", target, "--seconds", 60)
    while client.stderr and "golden" not in client.stderr.readline():
        assert client.poll() is None
    assert processes_of(work)
    client.send_signal(number)
    client.communicate(timeout=20)
    assert gone(work, 5)
    assert field.measure(bundle.root, str(target), _QUICK).golden.passed


@contextmanager
def memory_limit(limit_bytes: int) -> Iterator[Path]:
    group = _MEMORY / f"edgekit-{os.getpid()}"
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(limit_bytes))
    except OSError as error:
        pytest.skip(f"needs a cgroup of its own (v1): {error.strerror}")
    try:
        yield group
    finally:
        time.sleep(0.2)
        group.rmdir()


def test_a_runner_that_is_killed_for_memory(contents: bundles.Contents, tmp_path: Path) -> None:
    hungry = RUNNING.format("self.all = bytearray(os.urandom(1) * (600 << 20))")
    (tmp_path / "broken_runtime.py").write_text(hungry)
    broken = bundles.write(tmp_path / "bundle", contents.but(modules=["broken_runtime"]))
    with memory_limit(300 << 20) as group:
        python = tmp_path / "python"
        python.write_text(
            f'#!/bin/sh\necho $$ > {group}/tasks\nexec {shlex.quote(sys.executable)} "$@"\n'
        )
        python.chmod(0o755)
        status, (error,) = bench(
            broken, *QUICK, env={"PYTHONPATH": str(tmp_path)}, python=str(python)
        )
    assert (status, error["kind"]) == (1, "crashed")
    assert "SIGKILL while running the golden inputs" in error["message"]
    assert "out of memory" in error["message"]


def test_few_open_files(target: Target, tmp_path: Path, work: Path) -> None:
    """32 are enough for a push and a benchmark."""
    bundle = deploy(tmp_path / "made").bundle
    words = ("bench", bundle.root, "--on", target, "--runs", 3, "--seconds", 0.1)
    client = started(*words, "--processes", 1, "--json", before="ulimit -n 32")
    out, said = client.communicate(timeout=120)
    assert client.returncode == 0, out + said


def test_odd_names(ssh: Transport, tmp_path: Path) -> None:
    """Whatever a bundle may call a file arrives under that name; 255 bytes are the longest."""
    names = ["a b", "it's", 'say "so"', "-rf", "$HOME `id`", "*?[a]", "~", "ünïcode", "x" * 255]
    bundle = make_bundle(tmp_path / "bundle", extra={name: name.encode() for name in names})
    push(ssh, bundle)
    assert is_whole(Path(ssh.workdir), bundle)


def test_a_staging_folder_that_was_open_to_the_world(ssh: Transport, bundle: Bundle) -> None:
    staging = Path(ssh.workdir) / "staging"
    staging.mkdir(parents=True)
    staging.chmod(0o777)
    left = staging / f"{bundle.sha256[:16]}-left"
    left.mkdir()
    (left / "model.onnx").write_bytes(b"theirs" * 100)
    push(ssh, bundle)
    assert is_whole(Path(ssh.workdir), bundle)
    assert staging.stat().st_mode & 0o777 == 0o700


ROGUE = """
import os, struct, sys
NAMES, ENDLESS = b"../../etc/passwd", {endless}
def read(count):
    data = sys.stdin.buffer.read(count)
    if len(data) < count: sys.exit()
    return data
def text(value): return struct.pack(">I", len(value)) + value
def answer(kind, body):
    sys.stdout.buffer.write(struct.pack(">IB", len(body) + 1, kind) + body)
    sys.stdout.buffer.flush()
while True:
    size = struct.unpack(">I", read(4))[0]
    packet = read(size)
    kind, number = packet[0], packet[1:5]
    if kind == 1: answer(2, struct.pack(">I", 3))
    elif kind == 11: answer(102, number + text(b"handle"))
    elif kind == 12:
        names = [b"%d" % i for i in range(1000)] if ENDLESS else [NAMES]
        entries = b"".join(text(n) + text(n) + struct.pack(">I", 0) for n in names)
        answer(104, number + struct.pack(">I", len(names)) + entries)
    elif kind in (7, 17): answer(105, number + struct.pack(">IIQ", 5, 0o40755, 0)[:4]
                                 + struct.pack(">I", 0o40755))
    else: answer(101, number + struct.pack(">I", 0) + text(b"") + text(b""))
"""


@pytest.mark.parametrize("endless", [True, False])
def test_a_rogue_listing(tmp_path: Path, home: Path, endless: bool) -> None:
    """A listing without an end, or with names that lead elsewhere, is refused."""
    rogue = tmp_path / "rogue.py"
    rogue.write_text(ROGUE.format(endless=endless))
    subsystem = f"Subsystem sftp {sys.executable} {rogue}"
    with Sshd(tmp_path / "sshd", home, extra=(subsystem,)) as server:
        server.accept()
        with (
            devices.connect(devices.parse(f"{server.url}/tmp/rogue")) as device,
            pytest.raises(DeviceError, match="makes no sense"),
        ):
            device.listdir("/tmp")


def test_a_rogue_server_takes_no_push(tmp_path: Path, home: Path, bundle: Bundle) -> None:
    rogue = tmp_path / "rogue.py"
    rogue.write_text(ROGUE.format(endless=False))
    subsystem = f"Subsystem sftp {sys.executable} {rogue}"
    with Sshd(tmp_path / "sshd", home, extra=(subsystem,)) as server:
        server.accept()
        with pytest.raises(DeviceError):
            field.push(bundle.root, f"{server.url}{tmp_path}/work", retries=0)


def test_a_push_during_a_benchmark(target: Target, tmp_path: Path, work: Path) -> None:
    """It neither waits nor disturbs what is being measured there."""
    measured, pushed = deploy(tmp_path / "made").bundle, make_bundle(tmp_path / "other")
    told = threading.Event()
    results: list[object] = []

    def measure() -> None:
        settings = Settings(runs=1, seconds=3, warmup_seconds=0, processes=1)
        results.append(
            field.measure(
                measured.root,
                str(target),
                settings,
                on_stage=lambda _, detail: "golden" in detail and told.set(),
            )
        )

    thread = threading.Thread(target=measure)
    thread.start()
    assert told.wait(60)
    field.push(pushed.root, str(target))
    assert not results
    assert is_whole(work, pushed)
    thread.join()
    assert results


def test_a_sweep_that_races_a_push(target: Target, bundle: Bundle, work: Path) -> None:
    """Whoever sweeps takes what another is writing: that one starts anew, and succeeds."""
    swept: list[str] = []

    def sweep(sent: int) -> None:
        if not swept and sent:
            swept.extend(path.name for path in (work / "staging").iterdir())
            with devices.connect(target) as other:
                other.remove(f"{work}/staging/{swept[0]}")

    with devices.connect(target) as device:
        push(device, bundle, sweep)
    assert swept
    assert is_whole(work, bundle)


@pytest.mark.parametrize("offset_s", [-(10**10), -86_400, 2 * 86_400])
def test_a_clock_that_is_wrong_or_jumps(
    tmp_path: Path, home: Path, bundle: Bundle, offset_s: int
) -> None:
    """In 1970, a day behind, or two days ahead: pushes go on, runs are timed by another clock."""
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "date").write_text(f"#!/bin/sh\necho {max(0, int(time.time()) + offset_s)}\n")
    (tools / "date").chmod(0o755)
    path = f"{tools}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    measured = deploy(tmp_path / "made").bundle
    with Sshd(tmp_path / "sshd", home, path_env=path) as server:
        server.accept()
        url = f"{server.url}{tmp_path / 'work'}"
        young = tmp_path / "work" / "staging" / "young"
        young.mkdir(parents=True)
        field.push(bundle.root, url)
        assert is_whole(tmp_path / "work", bundle)
        assert young.exists() == (offset_s < 86_400)
        result = field.measure(measured.root, url, _QUICK)
        assert all(0 < sample < 10**10 for sample in result.samples_ns)
        assert "CLOCK_MONOTONIC" in result.environment["clock"]


def test_no_server_at_all(home: Path, bundle: Bundle) -> None:
    with pytest.raises(ConnectionFailed, match="refused"):
        field.push(bundle.root, "ssh://pi@127.0.0.1:1")
