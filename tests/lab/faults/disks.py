"""Disks that are full, foreign, read-only or lose their power: the old or the new is there."""

from __future__ import annotations

import os
import random
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgekit import devices, field
from edgekit.bundle import Bundle
from edgekit.devices.push import push
from edgekit.devices.transport import Transport
from edgekit.errors import DeviceError
from tests.cli.conftest import Edgekit, edgekit
from tests.devices.test_bad_network import is_whole
from tests.factories import make_bundle
from tests.lab.faults.mounts import Ext4, tmpfs
from tests.lab.faults.network import Counted
from tests.sshd import Sshd

__all__ = ["edgekit"]

CUTS = 100


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return make_bundle(tmp_path / "bundle", os.urandom(3_000_000))


def refused(device: Transport, bundle: Bundle) -> str:
    with pytest.raises(DeviceError) as caught:
        push(device, bundle)
    assert str(device.target) in caught.value.message
    assert not is_whole(Path(device.workdir), bundle)
    return caught.value.message


def test_no_inodes_read_only_and_noexec(sshd: Sshd, tmp_path: Path, bundle: Bundle) -> None:
    """Two errors that say what it is; and nothing that is pushed is executed."""
    sshd.accept()
    cases = {"nr_inodes=7": "inodes", "ro": "Read-only", "noexec": None}
    for number, (options, said) in enumerate(cases.items()):
        folder = tmp_path / f"{number}"
        with (
            tmpfs(folder, f"size=64m,{options}"),
            devices.connect(devices.parse(f"{sshd.url}{folder}")) as device,
        ):
            if said:
                assert said in refused(device, bundle)
            else:
                push(device, bundle)
                assert is_whole(folder, bundle)


def test_staging_on_another_disk(sshd: Sshd, tmp_path: Path, bundle: Bundle) -> None:
    sshd.accept()
    work = tmp_path / "work"
    with (
        tmpfs(work / "staging", "size=64m"),
        devices.connect(devices.parse(f"{sshd.url}{work}")) as device,
    ):
        with pytest.raises(DeviceError) as caught:
            push(device, bundle)
        assert "on the same disk" in caught.value.hint
    with devices.connect(devices.parse(f"{sshd.url}{work}")) as device:
        push(device, bundle)
    assert is_whole(work, bundle)


def test_a_result_that_cannot_be_saved_is_shown(
    edgekit: Edgekit, tmp_path: Path, home: Path
) -> None:
    from tests.benchmarking.deployed import deploy

    bundle = deploy(tmp_path / "made").bundle
    quick = ("--runs", 5, "--seconds", 0.05, "--processes", 1)
    with tmpfs(tmp_path / "full", "size=4k") as full:
        (full / "filler").write_bytes(bytes(4096))
        words = ("bench", bundle.root, "--on", f"local:{tmp_path / 'work'}", *quick)
        ran = edgekit(*words, "-o", full / "result.json", "--json")
        assert (ran.code, ran.error["kind"]) == (2, "input")
        assert ran.json["latency_ms"]["n"] >= 5
        assert not (full / "result.json").exists()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Ext4]:
    disk = Ext4(tmp_path)
    yield disk
    disk.off()


@pytest.fixture
def old(tmp_path: Path) -> Bundle:
    return make_bundle(tmp_path / "old", b"old" * 1000)


def local(disk: Ext4) -> Transport:
    from edgekit.devices.local import LocalTransport

    return LocalTransport(devices.parse(f"local:{disk.root / 'work'}"))


def has_succeeded(device: Transport, bundle: Bundle) -> bool:
    try:
        push(device, bundle)
    except DeviceError:
        return False
    return True


def prepared(disk: Ext4, old: Bundle) -> Path:
    """A disk that durably holds the old bundle, and not yet the new one."""
    work = disk.root / "work"
    subprocess.run(["rm", "-rf", work], check=True)
    push(local(disk), old)
    os.sync()
    return work


def test_the_power_fails_before_every_request(disk: Ext4, old: Bundle, bundle: Bundle) -> None:
    prepared(disk, old)
    counted = Counted(local(disk), -1, lambda: None)
    push(counted, bundle)
    for number in range(len(counted.names)):
        work = prepared(disk, old)
        done = has_succeeded(Counted(local(disk), number, disk.cut), bundle)
        disk.cycle()
        assert is_whole(work, old)
        assert is_whole(work, bundle) or not done
        push(local(disk), bundle)
        assert is_whole(work, bundle), counted.names[number]


def test_the_power_fails_at_any_time(disk: Ext4, old: Bundle, bundle: Bundle) -> None:
    """A hundred times; what was reported as pushed is there afterwards."""
    chance = random.Random(11)
    prepared(disk, old)
    takes_s = push(local(disk), bundle).elapsed_s
    reported = 0
    for _ in range(CUTS):
        work = prepared(disk, old)
        timer = threading.Timer(chance.uniform(0, 1.5 * takes_s), disk.cut)
        timer.start()
        done = has_succeeded(local(disk), bundle)
        timer.cancel()
        timer.join()
        if done:
            reported += 1
            disk.cut()
        disk.cycle()
        assert is_whole(work, old)
        assert is_whole(work, bundle) or not done
        push(local(disk), bundle)
        assert is_whole(work, bundle)
    assert 0 < reported < CUTS


def test_the_power_fails_right_after_success(disk: Ext4, old: Bundle, bundle: Bundle) -> None:
    for _ in range(CUTS):
        work = prepared(disk, old)
        push(local(disk), bundle)
        disk.cut()
        disk.cycle()
        assert is_whole(work, bundle)
        assert is_whole(work, old)


def test_over_ssh_success_is_durable_too(
    sshd: Sshd, disk: Ext4, old: Bundle, bundle: Bundle
) -> None:
    sshd.accept()
    for _ in range(10):
        work = prepared(disk, old)
        field.push(bundle.root, f"{sshd.url}{work}")
        disk.cut()
        disk.cycle()
        assert is_whole(work, bundle)
