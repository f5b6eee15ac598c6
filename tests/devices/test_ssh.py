"""The SSH transport against a real OpenSSH server: the contract, trust, routes and loss."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgekit import devices
from edgekit.devices.ssh import SshTransport
from edgekit.devices.ssh_connection import Connection
from edgekit.devices.transport import Transport
from edgekit.domain import Target
from edgekit.errors import ConnectionFailed, DeviceError, HostKeyError
from tests.devices.contract import TransportContract
from tests.sshd import Sshd, make_key


class TestSsh(TransportContract):
    @pytest.fixture
    def device(self, ssh: Transport) -> Transport:
        return ssh


def connects(target: str, *, accept_new: bool = False) -> bool:
    with devices.connect(devices.parse(target), accept_new=accept_new, timeout_s=5) as transport:
        return transport.run(["echo", "hello"]).stdout.endswith(b"hello\n")


def fingerprint(key: Path) -> str:
    command = ["ssh-keygen", "-lf", f"{key}.pub"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[1]


def configure(home: Path, text: str) -> None:
    (home / ".ssh" / "config").write_text(text)


class TestHostKeys:
    def test_an_unknown_key_is_refused_with_its_fingerprint(self, sshd: Sshd) -> None:
        with pytest.raises(HostKeyError) as caught:
            connects(sshd.url)
        assert fingerprint(sshd.host_key) in caught.value.message
        assert "ssh-ed25519" in caught.value.message
        assert "--accept-new" in caught.value.hint
        assert not sshd.known_hosts.exists()

    def test_accept_new_records_the_key_as_ssh_would(self, sshd: Sshd) -> None:
        assert connects(sshd.url, accept_new=True)
        assert sshd.known_hosts.read_text() == sshd.known_hosts_line()
        assert sshd.known_hosts.stat().st_mode & 0o777 == 0o600
        assert connects(sshd.url)
        assert connects(sshd.url, accept_new=True)
        assert sshd.known_hosts.read_text() == sshd.known_hosts_line()

    def test_accept_new_keeps_what_is_recorded(self, sshd: Sshd) -> None:
        sshd.known_hosts.write_text("other.example ssh-ed25519 AAAA")
        assert connects(sshd.url, accept_new=True)
        assert sshd.known_hosts.read_text().splitlines() == [
            "other.example ssh-ed25519 AAAA",
            sshd.known_hosts_line().strip(),
        ]

    @pytest.mark.parametrize("accept_new", [False, True])
    def test_a_changed_key_is_a_hard_stop(
        self, sshd: Sshd, tmp_path: Path, accept_new: bool
    ) -> None:
        make_key(tmp_path / "other")
        kind, blob = (tmp_path / "other.pub").read_text().split()[:2]
        before = f"[127.0.0.1]:{sshd.port} {kind} {blob}\n"
        sshd.known_hosts.write_text(before)
        with pytest.raises(HostKeyError, match="has changed") as caught:
            connects(sshd.url, accept_new=accept_new)
        assert fingerprint(sshd.host_key) in caught.value.message
        assert fingerprint(tmp_path / "other") in caught.value.message
        assert sshd.known_hosts.read_text() == before

    def test_another_type_than_the_recorded_ones_is_a_change(
        self, sshd: Sshd, tmp_path: Path
    ) -> None:
        make_key(tmp_path / "other", "ecdsa")
        kind, blob = (tmp_path / "other.pub").read_text().split()[:2]
        sshd.known_hosts.write_text(f"[127.0.0.1]:{sshd.port} {kind} {blob}\n")
        with pytest.raises(HostKeyError, match="has changed"):
            connects(sshd.url, accept_new=True)

    def test_a_revoked_key_is_refused(self, sshd: Sshd) -> None:
        sshd.known_hosts.write_text(sshd.known_hosts_line() + sshd.known_hosts_line("@revoked"))
        with pytest.raises(HostKeyError, match="revoked"):
            connects(sshd.url, accept_new=True)

    def test_an_authority_alone_is_said_to_be_unsupported(self, sshd: Sshd) -> None:
        sshd.known_hosts.write_text(sshd.known_hosts_line("@cert-authority"))
        with pytest.raises(HostKeyError, match=r"@cert-authority.*not support"):
            connects(sshd.url)

    def test_hashed_names_are_recognised(self, sshd: Sshd) -> None:
        sshd.accept()
        command = ["ssh-keygen", "-H", "-f", str(sshd.known_hosts)]
        subprocess.run(command, check=True, capture_output=True)
        assert "127.0.0.1" not in sshd.known_hosts.read_text()
        assert connects(sshd.url)

    @pytest.mark.parametrize(
        ("names", "known"),
        [
            ("127.0.0.1", True),
            ("[127.0.0.*]:*", True),
            ("[127.0.0.*]:*,![127.0.0.1]:*", False),
            ("[127.0.0.1]:1", False),
        ],
    )
    def test_patterns_and_names_without_a_port(self, sshd: Sshd, names: str, known: bool) -> None:
        sshd.known_hosts.write_text(f"{names} {sshd.known_hosts_line().split(maxsplit=1)[1]}")
        if known:
            assert connects(sshd.url)
        else:
            with pytest.raises(HostKeyError):
                connects(sshd.url)

    @pytest.mark.parametrize("kind", ["rsa", "ecdsa", "ed25519"])
    def test_the_recorded_type_is_asked_for(self, tmp_path: Path, home: Path, kind: str) -> None:
        keys = {name: tmp_path / name for name in ("rsa", "ecdsa")}
        for name, path in keys.items():
            make_key(path, name)
        extra = tuple(f"HostKey {path}" for path in keys.values())
        with Sshd(tmp_path / "sshd", home, extra=extra) as server:
            public = Path(f"{keys.get(kind, server.host_key)}.pub").read_text().split()[:2]
            server.known_hosts.write_text(f"[127.0.0.1]:{server.port} {' '.join(public)}\n")
            assert connects(server.url)

    def test_an_alias_names_the_key(self, sshd: Sshd, home: Path) -> None:
        configure(home, "Host *\n  HostKeyAlias board\n  UserKnownHostsFile ~/.ssh/boards\n")
        (home / ".ssh/boards").write_text(f"board {sshd.known_hosts_line().split(maxsplit=1)[1]}")
        assert connects(sshd.url)


class TestReaching:
    def test_a_refused_connection(self, home: Path) -> None:
        with socket.socket() as unheard:
            unheard.bind(("127.0.0.1", 0))
            with pytest.raises(ConnectionFailed, match="refused"):
                connects(f"ssh://pi@127.0.0.1:{unheard.getsockname()[1]}")

    def test_a_name_that_does_not_resolve(self, home: Path) -> None:
        with pytest.raises(ConnectionFailed, match="cannot be resolved"):
            connects("ssh://edgekit.invalid")

    @pytest.mark.parametrize("greeting", [b"", b"SSH-2.0-stalls\r\n"])
    def test_a_server_that_stalls(self, home: Path, greeting: bytes) -> None:
        with Listener(greeting, hang_up=False) as port:
            started = time.monotonic()
            target = devices.parse(f"ssh://pi@127.0.0.1:{port}")
            with (
                pytest.raises(ConnectionFailed, match="greeting within 1 s"),
                devices.connect(target, timeout_s=1),
            ):
                pass
            assert time.monotonic() - started < 4

    def test_a_server_that_speaks_something_else(self, home: Path) -> None:
        reply = b"HTTP/1.1 400 \x1b[31mBad\x1b[0m\r\n\r\n"
        with Listener(reply, hang_up=True) as port:
            with pytest.raises(ConnectionFailed, match="did not speak SSH") as caught:
                connects(f"ssh://pi@127.0.0.1:{port}")
            assert "\x1b" not in str(caught.value)

    def test_a_key_the_server_does_not_take(self, sshd: Sshd) -> None:
        sshd.accept()
        (sshd.folder / "authorized_keys").write_text("")
        with pytest.raises(ConnectionFailed, match="tried: id_ed25519") as caught:
            connects(sshd.url)
        assert "ssh-copy-id" in caught.value.hint

    def test_no_key_at_all(self, sshd: Sshd) -> None:
        sshd.accept()
        sshd.user_key.unlink()
        with pytest.raises(ConnectionFailed, match="tried: no key"):
            connects(sshd.url)

    def test_a_key_with_a_passphrase_needs_the_agent(
        self, sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sshd.accept()
        with Agent(tmp_path / "agent.sock", sshd.user_key):
            command = ["ssh-keygen", "-p", "-q", "-N", "secret", "-f", str(sshd.user_key)]
            subprocess.run(command, check=True, capture_output=True)
            with pytest.raises(ConnectionFailed, match="passphrase") as caught:
                connects(sshd.url)
            assert "secret" not in str(caught.value)
            monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent.sock"))
            assert connects(sshd.url)

    def test_a_server_without_sftp(self, tmp_path: Path, home: Path) -> None:
        with Sshd(tmp_path / "sshd", home, extra=("#Subsystem",)) as server:
            server.accept()
            with pytest.raises(DeviceError, match="no SFTP"):
                connects(server.url)

    def test_a_server_out_of_sessions(self, tmp_path: Path, home: Path) -> None:
        with Sshd(tmp_path / "sshd", home, extra=("MaxSessions 1",)) as server:
            server.accept()
            with pytest.raises(ConnectionFailed, match="cannot start echo"):
                connects(server.url)

    def test_the_default_workdir_lies_in_the_home_folder(self, sshd: Sshd) -> None:
        sshd.accept()
        remote_home = Path(f"~{sshd.user}").expanduser()
        for suffix, expected in [("", ".edgekit"), ("/~/my/work", "my/work")]:
            with devices.connect(devices.parse(sshd.url + suffix)) as transport:
                assert transport.workdir == f"{remote_home}/{expected}"


class TestConfiguration:
    def test_host_port_user_and_identity(self, sshd: Sshd, home: Path) -> None:
        sshd.accept()
        sshd.user_key.rename(home / "my key")
        (home / ".ssh/conf.d").mkdir()
        (home / ".ssh/conf.d/board").write_text(
            f"Host board\n  HostName=127.0.0.1\n  Port {sshd.port}\n  User {sshd.user}\n"
        )
        configure(
            home,
            "Include conf.d/*\n# a comment\nHost b* !bad\n  Port 1\n"
            '  IdentityFile "~/my key" # mine\n  IdentitiesOnly yes\n',
        )
        assert connects("ssh://board")

    @pytest.mark.parametrize(
        ("text", "named"),
        [
            ("Host board\n  ProxyCommand touch {mark}\n", "ProxyCommand"),
            ('Match host board exec "touch {mark}"\n  Port 1\n', "Match exec"),
        ],
    )
    def test_nothing_is_run(self, home: Path, tmp_path: Path, text: str, named: str) -> None:
        (home / ".ssh").mkdir()
        configure(home, text.format(mark=tmp_path / "mark"))
        with pytest.raises(ConnectionFailed, match=named):
            connects("ssh://board")
        assert not (tmp_path / "mark").exists()

    def test_what_would_be_run_for_others_does_not_matter(self, sshd: Sshd, home: Path) -> None:
        sshd.accept()
        configure(
            home,
            "Host elsewhere\n  ProxyCommand false\n"
            f"Match host elsewhere exec false\n  Port 1\nMatch user {sshd.user}\n"
            f"  Port {sshd.port}\nMatch all\n  ProxyCommand none\n",
        )
        assert connects(f"ssh://{sshd.user}@127.0.0.1")

    def test_through_two_jump_hosts(self, sshd: Sshd, home: Path, tmp_path: Path) -> None:
        with Sshd(tmp_path / "one", home) as one, Sshd(tmp_path / "two", home) as two:
            for server in (sshd, one, two):
                server.accept()
            hosts = "".join(
                f"Host {name}\n  HostName 127.0.0.1\n  Port {server.port}\n"
                for name, server in [("one", one), ("two", two), ("board", sshd)]
            )
            configure(home, f"{hosts}Host board\n  ProxyJump one,{one.user}@two\n")
            assert connects("ssh://board")
            for server in (sshd, one, two):
                assert "Accepted publickey" in server.log.read_text()

    def test_a_jump_host_is_checked_too(self, sshd: Sshd, home: Path, tmp_path: Path) -> None:
        sshd.accept()
        with Sshd(tmp_path / "jump", home) as jump:
            configure(
                home,
                f"Match host 127.0.0.1 originalhost board\nHost board\n"
                f"  HostName 127.0.0.1\n  Port {sshd.port}\n  ProxyJump 127.0.0.1:{jump.port}\n",
            )
            with pytest.raises(HostKeyError, match=str(jump.port)):
                connects("ssh://board")
            jump.accept()
            assert connects("ssh://board")
            jump.stop()
            with pytest.raises(ConnectionFailed, match="refused"):
                connects("ssh://board")

    def test_a_target_the_jump_host_cannot_reach(self, sshd: Sshd, home: Path) -> None:
        sshd.accept()
        configure(
            home, f"Host board\n  HostName 127.0.0.1\n  Port 1\n  ProxyJump 127.0.0.1:{sshd.port}\n"
        )
        with pytest.raises(ConnectionFailed, match="through the jump host"):
            connects("ssh://board")

    def test_jumps_in_a_circle(self, home: Path) -> None:
        (home / ".ssh").mkdir()
        configure(home, "Host a\n  ProxyJump b\nHost b\n  ProxyJump a\n")
        with pytest.raises(ConnectionFailed, match="ProxyJump"):
            connects("ssh://a")


class TestLoss:
    @pytest.fixture
    def device(self, sshd: Sshd, tmp_path: Path) -> Iterator[SshTransport]:
        sshd.accept()
        target = Target(
            transport="ssh", host="127.0.0.1", port=sshd.port, workdir=str(tmp_path / "work")
        )
        device = SshTransport(target, Connection(target, unresponsive_s=1.0))
        yield device
        device.close()

    def test_a_frozen_server_is_noticed_while_a_command_runs(
        self, device: SshTransport, sshd: Sshd
    ) -> None:
        with device.stream(["sh", "-c", "echo up; sleep 30"], timeout_s=60) as stream:
            lines = stream.lines()
            next(lines)
            started = time.monotonic()
            for pid in sshd.sessions():
                os.kill(pid, signal.SIGSTOP)
            with pytest.raises(ConnectionFailed, match="did not answer for 1 s"):
                next(lines)
        assert time.monotonic() - started < 4

    def test_a_frozen_server_is_noticed_during_a_transfer(
        self, device: SshTransport, sshd: Sshd, tmp_path: Path
    ) -> None:
        source = tmp_path / "source"
        with source.open("wb") as file:
            file.truncate(1 << 30)
        device.mkdir(device.workdir)

        def freeze(sent: int) -> None:
            for pid in sshd.sessions():
                os.kill(pid, signal.SIGSTOP)

        started = time.monotonic()
        with pytest.raises(ConnectionFailed, match="did not answer for 1 s while writing"):
            device.put(source, f"{device.workdir}/file", progress=freeze)
        assert time.monotonic() - started < 5

    def test_a_quiet_command_is_not_taken_for_a_dead_one(self, device: SshTransport) -> None:
        assert device.run(["sleep", "2.5"]).ok

    def test_a_killed_session_is_a_loss_not_a_status(
        self, device: SshTransport, sshd: Sshd
    ) -> None:
        with device.stream(["sh", "-c", "echo up; sleep 30"], timeout_s=60) as stream:
            lines = stream.lines()
            next(lines)
            for pid in sshd.sessions():
                os.kill(pid, signal.SIGKILL)
            with pytest.raises(ConnectionFailed, match="connection was lost"):
                next(lines)
        with pytest.raises(ConnectionFailed, match="connection was lost"):
            device.stat("/")


class Listener:
    """A server that says ``greeting`` to whoever connects, and then waits or hangs up."""

    def __init__(self, greeting: bytes, *, hang_up: bool) -> None:
        self._greeting, self._hang_up = greeting, hang_up
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._clients: list[socket.socket] = []

    def __enter__(self) -> int:
        threading.Thread(target=self._serve, daemon=True).start()
        return int(self._socket.getsockname()[1])

    def __exit__(self, *_: object) -> None:
        for open_socket in (self._socket, *self._clients):
            open_socket.close()

    def _serve(self) -> None:
        client, _ = self._socket.accept()
        self._clients.append(client)
        client.sendall(self._greeting)
        if self._hang_up:
            client.shutdown(socket.SHUT_WR)


class Agent:
    """An ssh-agent that holds one key."""

    def __init__(self, path: Path, key: Path) -> None:
        self._path, self._key = path, key

    def __enter__(self) -> None:
        self._process = subprocess.Popen(
            ["ssh-agent", "-D", "-a", str(self._path)], stdout=subprocess.DEVNULL
        )
        while not self._path.exists():
            time.sleep(0.01)
        environment = {**os.environ, "SSH_AUTH_SOCK": str(self._path)}
        command = ["ssh-add", "-q", str(self._key)]
        subprocess.run(command, check=True, env=environment, capture_output=True)

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(10)
