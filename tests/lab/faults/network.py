"""What a bad network does to pushes and benchmarks, at every position and for long."""

from __future__ import annotations

import os
import random
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgekit import devices, field
from edgekit.benchmarking import Settings
from edgekit.bundle import Bundle
from edgekit.devices.push import push
from edgekit.devices.ssh import WINDOW_BYTES
from edgekit.domain import Target
from edgekit.errors import ConnectionFailed, ConnectionLost
from tests.benchmarking.deployed import deploy
from tests.devices.fault_proxy import FaultProxy, Link, Way
from tests.devices.test_bad_network import NOTICED_S, SLACK_S, cut_and_resume, is_whole, total
from tests.factories import make_bundle
from tests.runtime_stubs.harness import processes_of
from tests.sshd import Sshd

_BYTES = 4_000_000
_SETTINGS = Settings(runs=1, seconds=20, warmup_seconds=0, processes=1)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return make_bundle(tmp_path / "bundle", os.urandom(_BYTES))


@pytest.mark.parametrize("part", [0.0, 1e-6, 0.01, *(0.1 * i for i in range(1, 10)), 0.99, 0.9999])
def test_a_cut_on_the_way_up(
    proxy: FaultProxy, target: Target, bundle: Bundle, work: Path, part: float
) -> None:
    up = cut_and_resume(proxy, target, bundle, work, Link(up=Way(cut_at=int(part * _BYTES) + 1)))
    assert up <= total(bundle) + WINDOW_BYTES + 160_000


@pytest.mark.parametrize("at", [1, 40, *range(500, 9_500, 500)])
def test_a_cut_on_the_way_down(
    proxy: FaultProxy, target: Target, bundle: Bundle, work: Path, at: int
) -> None:
    cut_and_resume(proxy, target, bundle, work, Link(down=Way(cut_at=at)))


@pytest.mark.parametrize("at", [0, 21, 40, *range(300, 6_000, 300), 1_000_000, 3_999_999])
def test_a_flipped_bit_on_the_way_up(
    proxy: FaultProxy, target: Target, bundle: Bundle, work: Path, at: int
) -> None:
    never_wrong(proxy, target, bundle, work, Link(up=Way(flip_at=at)))


@pytest.mark.parametrize("at", [0, 21, 40, *range(300, 9_000, 300)])
def test_a_flipped_bit_on_the_way_down(
    proxy: FaultProxy, target: Target, bundle: Bundle, work: Path, at: int
) -> None:
    never_wrong(proxy, target, bundle, work, Link(down=Way(flip_at=at)))


def never_wrong(proxy: FaultProxy, target: Target, bundle: Bundle, work: Path, link: Link) -> None:
    """An error of its kind over the bad link, never another file; all is well over a good one."""
    proxy.next(link)
    with pytest.raises(ConnectionFailed), devices.connect(target, timeout_s=4) as device:
        push(device, bundle)
    is_whole(work, bundle)
    field.push(bundle.root, str(target))
    assert is_whole(work, bundle)


class Counted:
    """A transport that does ``act`` before the request of a number."""

    def __init__(self, device: Any, number: int, act: Callable[[], None]) -> None:
        self._device, self._number, self._act = device, number, act
        self.names: list[str] = []

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._device, name)
        if callable(value):
            self.names.append(name)
            if len(self.names) - 1 == self._number:
                self._act()
        return value


def test_a_reset_before_every_request(
    proxy: FaultProxy, target: Target, bundle: Bundle, work: Path
) -> None:
    """While files are looked at, sent, verified, made read-only, renamed and swept."""
    with devices.connect(target) as device:
        counted = Counted(device, -1, lambda: None)
        push(counted, bundle)
        device.remove(f"{device.workdir}/bundles")
    assert {"put", "rename", "run", "stat", "free_bytes"} <= set(counted.names)
    for number in range(len(counted.names)):
        with pytest.raises(ConnectionLost), devices.connect(target) as device:
            push(Counted(device, number, proxy.cut), bundle)
        is_whole(work, bundle)
        with devices.connect(target) as device:
            push(device, bundle)
            assert is_whole(work, bundle), counted.names[number]
            device.remove(f"{device.workdir}/bundles")


def test_a_black_hole_in_a_push(
    proxy: FaultProxy, target: Target, bundle: Bundle, work: Path
) -> None:
    proxy.next(Link(up=Way(stall_at=_BYTES // 2)))
    started = time.monotonic()
    with pytest.raises(ConnectionLost, match="did not answer"), devices.connect(target) as device:
        push(device, bundle)
    assert time.monotonic() - started < NOTICED_S + 2 * SLACK_S
    field.push(bundle.root, str(target))
    assert is_whole(work, bundle)


def test_a_black_hole_in_a_benchmark(
    proxy: FaultProxy, target: Target, tmp_path: Path, work: Path
) -> None:
    """It is noticed here and there: the runner ends, too, and the next try succeeds."""
    bundle = deploy(tmp_path / "made").bundle
    stages: list[str] = []

    def on_stage(stage: str, detail: str) -> None:
        stages.append(f"{stage}: {detail}")
        if "golden" in detail and proxy.connections == 1:
            proxy.freeze_open()

    quick = Settings(runs=1, seconds=0.2, warmup_seconds=0, processes=1)
    with pytest.raises(ConnectionLost, match="did not answer"):
        field.measure(bundle.root, str(target), _SETTINGS, retries=0, on_stage=on_stage)
    assert field.measure(bundle.root, str(target), quick).golden.passed
    assert not processes_of(work)


def test_a_link_that_is_down_for_five_seconds(
    proxy: FaultProxy, target: Target, bundle: Bundle, work: Path
) -> None:
    def down(stage: str, detail: str) -> None:
        if " of " in detail and not timers:
            proxy.freeze()
            timers.append(threading.Timer(5, proxy.thaw))
            timers[0].start()

    timers: list[threading.Timer] = []
    field.push(bundle.root, str(target), on_stage=down)
    assert timers
    assert is_whole(work, bundle)


def test_a_slow_and_distant_device(
    proxy: FaultProxy, target: Target, tmp_path: Path, work: Path
) -> None:
    """300 ms each way and 1 Mbit/s: a push, a command that says nothing, a file back."""
    proxy.link = Link.both(delay_s=0.3, bytes_per_s=125_000)
    bundle = make_bundle(tmp_path / "bundle", os.urandom(1_500_000))
    with devices.connect(target) as device:
        push(device, bundle)
        assert is_whole(work, bundle)
        assert device.run(["sleep", "10"]).ok
        device.get(f"{work}/bundles/{bundle.sha256}/model.onnx", tmp_path / "back")
    assert (tmp_path / "back").stat().st_size == 1_500_000
    assert proxy.connections == 1


def test_one_connection_in_twenty_is_reset(
    proxy: FaultProxy, target: Target, tmp_path: Path, work: Path
) -> None:
    """Forty pushes; where none happens to be hit, the last one is."""
    chance = random.Random(7)
    hit = 0
    for number in range(40):
        if chance.random() < 0.05 or (number == 39 and not hit):
            proxy.next(Link(up=Way(cut_at=chance.randrange(100_000))))
            hit += 1
        bundle = make_bundle(tmp_path / f"bundle-{number}", os.urandom(100_000))
        field.push(bundle.root, str(target))
        assert is_whole(work, bundle)
    assert proxy.connections == 40 + hit


def test_rekeying_every_mebibyte(tmp_path: Path, home: Path) -> None:
    with Sshd(tmp_path / "sshd", home, extra=("RekeyLimit 1M",)) as server:
        server.accept()
        bundle = make_bundle(tmp_path / "bundle", os.urandom(20_000_000))
        with devices.connect(devices.parse(f"{server.url}{tmp_path / 'work'}")) as device:
            push(device, bundle)
            assert is_whole(tmp_path / "work", bundle)
            device.get(f"{device.workdir}/bundles/{bundle.sha256}/model.onnx", tmp_path / "back")
        assert (tmp_path / "back").stat().st_size == 20_000_000


def test_a_server_that_takes_no_more_connections(
    tmp_path: Path, home: Path, bundle: Bundle
) -> None:
    """Who does not log in holds the only place; once it is free the push goes on by itself."""
    with Sshd(tmp_path / "sshd", home, extra=("MaxStartups 1",)) as server:
        server.accept()
        url = f"{server.url}{tmp_path / 'work'}"
        idle = the_only_one(server.port)
        with pytest.raises(ConnectionFailed, match="did not speak SSH") as caught:
            field.push(bundle.root, url, retries=0)
        assert "limit" in caught.value.hint
        threading.Timer(1.5, idle.close).start()
        field.push(bundle.root, url)
        assert is_whole(tmp_path / "work", bundle)


def the_only_one(port: int) -> socket.socket:
    """A connection that the server has greeted; the one that looked for it may yet be going."""
    while True:
        client = socket.create_connection(("127.0.0.1", port))
        if client.recv(4) == b"SSH-":
            return client
        client.close()
        time.sleep(0.05)
