"""The system's ssh as the connection, against a real server: the contract, trust and loss."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgekit import devices
from edgekit.devices.transport import Transport
from edgekit.errors import ConnectionFailed, ConnectionLost, DeviceError, HostKeyError
from tests.devices.contract import TransportContract
from tests.devices.fault_proxy import FaultProxy, Link, Way
from tests.sshd import Sshd, make_key

NOTICED_S = 5.0
SLACK_S = 5.0


@pytest.fixture(autouse=True)
def ssh_of_the_home(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real ssh, told that the test's home is the user's: it does not ask HOME."""
    real = shutil.which("ssh")
    if real is None:
        pytest.skip("needs OpenSSH's client")
    (home / ".ssh").mkdir(mode=0o700, exist_ok=True)
    (home / ".ssh/config").touch()
    wrapper = tmp_path / "client" / "ssh"
    wrapper.parent.mkdir()
    files = f"-oUserKnownHostsFile={home}/.ssh/known_hosts -oIdentityFile={home}/.ssh/id_ed25519"
    wrapper.write_text(f'#!/bin/sh\nexec {real} -F {home}/.ssh/config {files} "$@"\n')
    wrapper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{wrapper.parent}{os.pathsep}{os.environ['PATH']}")


def url(server: Sshd) -> str:
    return server.url.replace("ssh://", "openssh://")


def connects(target: str, *, accept_new: bool = False, timeout_s: float = 10) -> bool:
    parsed = devices.parse(target)
    with devices.connect(parsed, accept_new=accept_new, timeout_s=timeout_s) as device:
        return device.run(["echo", "hello"]).stdout.endswith(b"hello\n")


def configure(home: Path, text: str) -> None:
    (home / ".ssh/config").write_text(text)


def fingerprint(key: Path) -> str:
    command = ["ssh-keygen", "-lf", f"{key}.pub"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[1]


class TestOpenssh(TransportContract):
    @pytest.fixture
    def device(self, tmp_path: Path, sshd: Sshd) -> Iterator[Transport]:
        sshd.accept()
        with devices.connect(devices.parse(f"{url(sshd)}{tmp_path / 'work'}")) as transport:
            yield transport


class TestHostKeys:
    def test_an_unknown_key_is_refused_with_its_fingerprint(self, sshd: Sshd) -> None:
        with pytest.raises(HostKeyError, match="is not known") as caught:
            connects(url(sshd))
        assert fingerprint(sshd.host_key) in caught.value.message
        assert "--accept-new" in caught.value.hint
        assert not sshd.known_hosts.exists()

    def test_accept_new_records_the_key(self, sshd: Sshd) -> None:
        assert connects(url(sshd), accept_new=True)
        assert sshd.known_hosts_line() in sshd.known_hosts.read_text()
        assert connects(url(sshd))

    @pytest.mark.parametrize("accept_new", [False, True])
    def test_a_changed_key_is_a_hard_stop(
        self, sshd: Sshd, tmp_path: Path, accept_new: bool
    ) -> None:
        make_key(tmp_path / "other")
        kind, blob = (tmp_path / "other.pub").read_text().split()[:2]
        before = f"[127.0.0.1]:{sshd.port} {kind} {blob}\n"
        sshd.known_hosts.write_text(before)
        with pytest.raises(HostKeyError, match="has changed") as caught:
            connects(url(sshd), accept_new=accept_new)
        assert fingerprint(sshd.host_key) in caught.value.message
        assert sshd.known_hosts.read_text() == before

    def test_a_revoked_key_is_refused(self, sshd: Sshd) -> None:
        sshd.known_hosts.write_text(sshd.known_hosts_line() + sshd.known_hosts_line("@revoked"))
        with pytest.raises(HostKeyError, match="is revoked"):
            connects(url(sshd), accept_new=True)

    def test_an_authority_vouches(self, tmp_path: Path, home: Path) -> None:
        authority, key = tmp_path / "authority", tmp_path / "host"
        make_key(authority)
        make_key(key)
        sign(authority, key, "-h", "-n", "127.0.0.1")
        extra = (f"HostKey {key}", f"HostCertificate {key}-cert.pub")
        with Sshd(tmp_path / "sshd", home, extra=extra) as server:
            server.known_hosts.write_text(
                f"@cert-authority * {authority.with_suffix('.pub').read_text()}"
            )
            assert connects(url(server))


class TestWhatOnlyTheSystemFollows:
    def test_a_proxy_command(self, sshd: Sshd, home: Path) -> None:
        sshd.accept()
        relay = f"/usr/bin/python3 {home}/relay.py {sshd.port}"
        (home / "relay.py").write_text(RELAY)
        text = f"Host board\n  ProxyCommand {relay}\n  HostKeyAlias [127.0.0.1]:{sshd.port}\n"
        configure(home, text)
        assert connects("openssh://board")
        with pytest.raises(ConnectionFailed, match="ProxyCommand"):
            connects("ssh://board")

    def test_a_match_that_runs_something(self, sshd: Sshd, home: Path) -> None:
        sshd.accept()
        text = f'Match originalhost board exec "true"\n  HostName 127.0.0.1\n  Port {sshd.port}\n'
        configure(home, text)
        assert connects("openssh://board")
        with pytest.raises(ConnectionFailed, match="Match exec"):
            connects("ssh://board")

    def test_a_user_certificate(self, tmp_path: Path, home: Path) -> None:
        make_key(tmp_path / "authority")
        extra = (f"TrustedUserCAKeys {tmp_path}/authority.pub",)
        with Sshd(tmp_path / "sshd", home, extra=extra) as server:
            server.accept()
            (server.folder / "authorized_keys").write_text("")
            with pytest.raises(ConnectionFailed, match="does not let the user in"):
                connects(url(server))
            sign(tmp_path / "authority", server.user_key, "-n", server.user)
            assert connects(url(server))

    def test_what_would_ask_or_forward_is_overruled(self, sshd: Sshd, home: Path) -> None:
        sshd.accept()
        configure(
            home,
            "Host *\n  BatchMode no\n  RemoteCommand echo never\n  RequestTTY force\n"
            "  LogLevel QUIET\n  LocalForward 127.0.0.1:1 127.0.0.1:1\n  ExitOnForwardFailure yes\n"
            "  ControlMaster auto\n  ControlPath ~/shared\n  StrictHostKeyChecking no\n",
        )
        assert connects(url(sshd))
        sshd.known_hosts.unlink()
        with pytest.raises(HostKeyError):
            connects(url(sshd))


class TestReaching:
    def test_a_refused_connection(self) -> None:
        with socket.socket() as unheard:
            unheard.bind(("127.0.0.1", 0))
            with pytest.raises(ConnectionFailed, match="refused"):
                connects(f"openssh://pi@127.0.0.1:{unheard.getsockname()[1]}")

    def test_a_name_that_does_not_resolve(self) -> None:
        with pytest.raises(ConnectionFailed, match="cannot be resolved"):
            connects("openssh://edgekit.invalid")

    @pytest.mark.parametrize("greeting", [b"", b"SSH-2.0-stalls\r\n"])
    def test_a_server_that_stalls(self, greeting: bytes) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            started = time.monotonic()
            port = listener.getsockname()[1]
            with pytest.raises(ConnectionFailed, match=r"did not answer in time|not logged in"):
                connects(f"openssh://pi@127.0.0.1:{port}", timeout_s=1)
            assert time.monotonic() - started < 2 + SLACK_S

    def test_a_key_the_server_does_not_take(self, sshd: Sshd) -> None:
        sshd.accept()
        (sshd.folder / "authorized_keys").write_text("")
        with pytest.raises(ConnectionFailed, match=r"tried: .*id_ed25519") as caught:
            connects(url(sshd))
        assert "ssh-copy-id" in caught.value.hint

    def test_no_ssh_here(self, sshd: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", "/nowhere")
        with pytest.raises(ConnectionFailed, match="no `ssh` on this machine"):
            connects(url(sshd))

    def test_a_server_without_sftp(self, tmp_path: Path, home: Path) -> None:
        with Sshd(tmp_path / "sshd", home, extra=("#Subsystem",)) as server:
            server.accept()
            with pytest.raises(DeviceError, match="no SFTP"):
                connects(url(server))

    def test_nothing_stays_behind(
        self, sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sshd.accept()
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "t"))
        (tmp_path / "t").mkdir(mode=0o700)
        assert connects(url(sshd))
        assert not any((tmp_path / "t").iterdir())
        deadline = time.monotonic() + SLACK_S
        while sshd.sessions() and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not sshd.sessions()

    @pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGINT])
    def test_nobody_stays_logged_in_when_edgekit_is_ended(
        self, sshd: Sshd, ending: signal.Signals
    ) -> None:
        sshd.accept()
        program = [sys.executable, "-c", CONNECTED_IN_A_THREAD, url(sshd)]
        with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as ours:
            assert ours.stdout
            assert ours.stdout.readline() == b"up\n"
            assert sshd.sessions()
            ours.send_signal(ending)
        deadline = time.monotonic() + SLACK_S
        while sshd.sessions() and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not sshd.sessions()


class TestLoss:
    @pytest.fixture
    def device(self, sshd: Sshd, proxy: FaultProxy, tmp_path: Path) -> Iterator[Transport]:
        target = f"openssh://{sshd.user}@127.0.0.1:{proxy.port}{tmp_path / 'work'}"
        with devices.connect(devices.parse(target)) as device:
            yield device

    def test_a_frozen_server_is_noticed_while_a_command_runs(
        self, device: Transport, sshd: Sshd
    ) -> None:
        with device.stream(["sh", "-c", "echo up; sleep 30"], timeout_s=60) as stream:
            lines = stream.lines()
            next(lines)
            started = time.monotonic()
            for pid in sshd.sessions():
                os.kill(pid, signal.SIGSTOP)
            with pytest.raises(ConnectionLost, match="did not answer for 4 s"):
                next(lines)
        assert time.monotonic() - started < NOTICED_S + SLACK_S

    def test_a_frozen_server_is_noticed_during_a_transfer(
        self, device: Transport, sshd: Sshd, tmp_path: Path
    ) -> None:
        source = tmp_path / "source"
        with source.open("wb") as file:
            file.truncate(1 << 30)
        device.mkdir(device.workdir)

        def freeze(sent: int) -> None:
            for pid in sshd.sessions():
                os.kill(pid, signal.SIGSTOP)

        started = time.monotonic()
        with pytest.raises(ConnectionLost, match="did not answer for 4 s while writing"):
            device.put(source, f"{device.workdir}/file", progress=freeze)
        assert time.monotonic() - started < NOTICED_S + SLACK_S

    def test_a_killed_session_is_a_loss_not_a_status(self, device: Transport, sshd: Sshd) -> None:
        with device.stream(["sh", "-c", "echo up; sleep 30"], timeout_s=60) as stream:
            lines = stream.lines()
            next(lines)
            for pid in sshd.sessions():
                os.kill(pid, signal.SIGKILL)
            with pytest.raises(ConnectionLost, match="connection was lost"):
                next(lines)
        with pytest.raises(ConnectionLost, match="connection was lost"):
            device.stat("/")

    def test_a_slow_line_is_not_taken_for_a_dead_one(
        self, sshd: Sshd, proxy: FaultProxy, tmp_path: Path
    ) -> None:
        slow = Way(delay_s=0.15, bytes_per_s=125_000)
        proxy.next(Link(up=slow, down=slow))
        target = f"openssh://{sshd.user}@127.0.0.1:{proxy.port}{tmp_path / 'work'}"
        source = tmp_path / "source"
        # For longer on its way than a dead peer is waited for.
        source.write_bytes(os.urandom(650_000))
        with devices.connect(devices.parse(target)) as device:
            device.mkdir(device.workdir)
            device.put(source, f"{device.workdir}/file")
        assert (tmp_path / "work/file").read_bytes() == source.read_bytes()


def sign(authority: Path, key: Path, *options: str) -> None:
    command = ["ssh-keygen", "-q", "-s", authority, "-I", "edgekit-test", *options, f"{key}.pub"]
    subprocess.run(command, check=True, capture_output=True)


CONNECTED_IN_A_THREAD = """
import sys, threading, time
from edgekit import devices
def stay():
    with devices.connect(devices.parse(sys.argv[1])):
        print("up", flush=True)
        time.sleep(60)
threading.Thread(target=stay, daemon=True).start()
time.sleep(60)
"""
RELAY = """
import socket, sys, threading
wire = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
def up():
    while data := sys.stdin.buffer.raw.read(65536):
        wire.sendall(data)
threading.Thread(target=up, daemon=True).start()
while data := wire.recv(65536):
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
"""
