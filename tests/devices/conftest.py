"""Homes, servers and connections for the tests of the devices."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgekit import devices
from edgekit.devices.transport import Transport
from edgekit.domain import Target
from tests.devices.fault_proxy import FaultProxy
from tests.sshd import Sshd, why_not


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder of the test's own, without an ssh-agent."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_DATA_HOME", str(home / "data"))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    return home


@pytest.fixture
def sshd(tmp_path: Path, home: Path) -> Iterator[Sshd]:
    """A server that the client does not know yet."""
    if reason := why_not():
        pytest.skip(reason)
    with Sshd(tmp_path / "sshd", home) as server:
        yield server


@pytest.fixture
def local(tmp_path: Path, home: Path) -> Iterator[Transport]:
    with devices.connect(devices.parse(f"local:{tmp_path / 'work'}")) as transport:
        yield transport


@pytest.fixture
def ssh(tmp_path: Path, sshd: Sshd) -> Iterator[Transport]:
    sshd.accept()
    with devices.connect(devices.parse(f"{sshd.url}{tmp_path / 'work'}")) as transport:
        yield transport


@pytest.fixture
def proxy(sshd: Sshd) -> Iterator[FaultProxy]:
    """A network in front of the server, healthy until told otherwise; its key is known there."""
    with FaultProxy(sshd.port) as proxy:
        name = sshd.known_hosts_line().split(maxsplit=1)[1]
        sshd.known_hosts.write_text(f"[127.0.0.1]:{proxy.port} {name}")
        yield proxy


@pytest.fixture
def work(tmp_path: Path) -> Path:
    return tmp_path / "work"


@pytest.fixture
def target(sshd: Sshd, proxy: FaultProxy, work: Path) -> Target:
    return devices.parse(f"ssh://{sshd.user}@127.0.0.1:{proxy.port}{work}")


@pytest.fixture
def device_python(tmp_path: Path) -> str:
    """A PATH without any python, to which a test adds its own."""
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    return str(bin_folder) + os.pathsep
