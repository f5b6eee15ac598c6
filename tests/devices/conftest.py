"""Homes, servers and connections for the tests of the devices."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgekit import devices
from edgekit.devices.transport import Transport
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
def device_python(tmp_path: Path) -> str:
    """A PATH without any python, to which a test adds its own."""
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    return str(bin_folder) + os.pathsep
