"""adb against a real adbd and a real adb server: the contract, pushes, and what goes wrong."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgekit import bundle as bundles
from edgekit import devices
from edgekit.devices.push import push
from edgekit.devices.survey import survey
from edgekit.devices.transport import Transport
from edgekit.errors import ConnectionFailed, ConnectionLost
from tests.devices.contract import TransportContract
from tests.factories import make_bundle
from tests.lab.adbd import Adbd

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that host and device have in common."""
    return tmp_path_factory.getbasetemp()


@pytest.fixture(scope="module")
def adbd(shared: Path) -> Iterator[Adbd]:
    with pytest.MonkeyPatch.context() as patch, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        patch.setenv("ANDROID_ADB_SERVER_PORT", str(free.getsockname()[1]))
        patch.setenv("HOME", str(shared))
        free.close()
        with Adbd(shared) as device:
            yield device


@pytest.fixture
def phone(adbd: Adbd, tmp_path: Path) -> Iterator[Transport]:
    with devices.connect(devices.parse(f"adb://{adbd.serial}{tmp_path / 'work'}")) as transport:
        yield transport


class TestAdb(TransportContract):
    @pytest.fixture
    def device(self, phone: Transport) -> Transport:
        return phone

    def test_a_status_above_128_is_a_status(self, device: Transport) -> None:
        """Over adb it is not: ``exit 139`` and SIGSEGV come as the same byte."""
        assert device.run(["sh", "-c", "exit 139"]).signal == "SIGSEGV"
        done = device.run(["sh", "-c", "exit 255"])
        assert (done.exit_status, done.signal) == (255, None)


def test_a_bundle_is_pushed_resumed_and_not_sent_again(phone: Transport, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle", os.urandom(3_000_000))
    first = push(phone, bundle)
    with bundles.opened(Path(first.path)) as opened:
        assert opened.sha256 == bundle.sha256
    assert push(phone, bundle).pushed_bytes == 0


def test_it_says_what_it_is(phone: Transport) -> None:
    found = survey(phone)
    assert found.cores >= 1
    assert found.os.startswith("Debian")
    assert found.pythons


def test_the_only_device_needs_no_name(adbd: Adbd) -> None:
    with devices.connect(devices.parse("adb://")) as transport:
        assert transport.workdir == "/data/local/tmp/edgekit"
        assert transport.run(["true"]).ok


def test_a_serial_that_nobody_has(adbd: Adbd) -> None:
    with (
        pytest.raises(ConnectionFailed, match="not found") as caught,
        devices.connect(devices.parse("adb://R58M000")),
    ):
        pass
    assert "adb devices" in caught.value.hint


def test_a_device_that_goes_is_a_loss_not_a_status(
    shared: Path, adbd: Adbd, phone: Transport
) -> None:
    """The last test here: it takes the device with it."""
    with phone.stream(["sh", "-c", "echo up; sleep 30"], timeout_s=60) as stream:
        lines = stream.lines()
        assert next(lines) == "up"
        started = time.monotonic()
        adbd.stop()
        with pytest.raises(ConnectionLost, match="connection was lost"):
            next(lines)
    assert time.monotonic() - started < 10
    with pytest.raises(ConnectionFailed):
        phone.stat("/")
