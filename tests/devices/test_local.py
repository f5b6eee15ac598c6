"""The local transport: the contract, and what only it can promise."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from edgekit import devices
from edgekit.devices.transport import Transport
from edgekit.errors import ConnectionFailed
from tests.devices.contract import TransportContract


class TestLocal(TransportContract):
    @pytest.fixture
    def device(self, local: Transport) -> Transport:
        return local


def test_the_deadline_ends_the_whole_process_group(local: Transport, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    script = f"(sleep 2; touch '{mark}') & sleep 30"
    with pytest.raises(ConnectionFailed):
        local.run(["sh", "-c", script], timeout_s=0.3)
    time.sleep(2.2)
    assert not mark.exists()


def test_a_child_in_another_session_does_not_hold_the_deadline_up(local: Transport) -> None:
    started = time.monotonic()
    with pytest.raises(ConnectionFailed):
        local.run(["sh", "-c", "setsid sleep 8 & sleep 8"], timeout_s=0.3)
    assert time.monotonic() - started < 4


def test_leaving_a_stream_ends_the_command(local: Transport, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    script = f"echo up; sleep 1; touch '{mark}'"
    with local.stream(["sh", "-c", script], timeout_s=20) as stream:
        next(iter(stream.lines()))
    time.sleep(1.2)
    assert not mark.exists()


def test_the_default_workdir_is_the_users(home: Path) -> None:
    with devices.connect(devices.parse("local")) as transport:
        assert Path(transport.workdir).is_relative_to(home)
        assert Path(transport.workdir).parts[-2:] == ("edgekit", "device")
