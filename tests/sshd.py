"""A real OpenSSH server on loopback for the tests, with keys of its own and of its user's."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Self

SSHD = "/usr/sbin/sshd"
_PRIVILEGE_SEPARATION = Path("/run/sshd")


def why_not() -> str | None:
    """Why no server can be started here; ``None`` when one can."""
    if not Path(SSHD).is_file() or not shutil.which("ssh-keygen"):
        return "needs an OpenSSH server (openssh-server)"
    if os.geteuid() == 0:
        try:
            _PRIVILEGE_SEPARATION.mkdir(mode=0o755, exist_ok=True)
        except OSError as error:
            return f"needs {_PRIVILEGE_SEPARATION}: {error.strerror}"
    return None


_REPEATED = {"HostKey"}
"""Settings that may stand several times: another one replaces none."""


class Sshd:
    """A server that runs while the context lasts.

    Args:
        folder: takes keys, configuration and log; must be its own.
        home: the client's home folder, where its key and known_hosts go.
        path_env: ``PATH`` of the commands it runs: chooses the device's python. Their
            ``HOME`` is ``device_home``, where a ``.bashrc`` may lie.
        extra: further lines of sshd_config; they replace what is said here on the same matter.
        within: the command that starts the server elsewhere, where ``folder`` has the same path.
    """

    def __init__(
        self,
        folder: Path,
        home: Path,
        *,
        path_env: str | None = None,
        extra: tuple[str, ...] = (),
        within: tuple[str, ...] = (),
    ) -> None:
        self.folder = folder
        self.home = home
        self.port = 0
        self.user = getpass.getuser()
        self.host_key = folder / "host_key"
        self.device_home = folder / "home"
        self.log = folder / "log"
        self._path_env = path_env or os.environ["PATH"]
        self._extra = extra
        self._within = within
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.device_home.mkdir(parents=True, exist_ok=True)
        make_key(self.host_key)
        self.user_key = self.home / ".ssh" / "id_ed25519"
        if not self.user_key.exists():
            self.user_key.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            make_key(self.user_key)
        shutil.copy(f"{self.user_key}.pub", self.folder / "authorized_keys")
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def url(self) -> str:
        return f"ssh://{self.user}@127.0.0.1:{self.port}"

    @property
    def known_hosts(self) -> Path:
        return self.home / ".ssh" / "known_hosts"

    def known_hosts_line(self, marker: str = "") -> str:
        kind, blob = Path(f"{self.host_key}.pub").read_text().split()[:2]
        return f"{marker} [127.0.0.1]:{self.port} {kind} {blob}\n".lstrip()

    def accept(self) -> None:
        """Make the client know the server."""
        with self.known_hosts.open("a") as file:
            file.write(self.known_hosts_line())

    def start(self) -> None:
        """Start on a free port, or again on the one it had."""
        self.port = self.port or _free_port()
        config = self.folder / "sshd_config"
        config.write_text("\n".join(self._configuration()) + "\n")
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._within, SSHD, "-D", "-e", "-f", str(config)],
                stderr=log,
                stdin=subprocess.DEVNULL,
            )
        self._await_banner()

    def stop(self) -> None:
        """End the server and the sessions it started."""
        if self._process is None:
            return
        sessions = self.sessions()
        self._process.terminate()
        self._process.wait(10)
        self._process = None
        for pid in sessions:
            for number in (signal.SIGCONT, signal.SIGKILL):
                try:
                    os.kill(pid, number)
                except ProcessLookupError:
                    break

    def sessions(self) -> list[int]:
        """The processes below the server: one per connection, and their commands."""
        return _descendants(self.pid)

    def _configuration(self) -> list[str]:
        lines = [
            f"Port {self.port}",
            "ListenAddress 127.0.0.1",
            f"HostKey {self.host_key}",
            f"AuthorizedKeysFile {self.folder / 'authorized_keys'}",
            "PidFile none",
            "UsePAM no",
            "StrictModes no",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            "PermitRootLogin yes",
            "MaxStartups 100",
            "LogLevel VERBOSE",
            # A home of its own, so that nobody's .bashrc takes part in the tests, and a lock of its
            # own: another device, which may measure while others do.
            f'SetEnv "PATH={self._path_env}" "HOME={self.device_home}" '
            f'"EDGEKIT_DEVICE_LOCK={self.folder / "device.lock"}"',
            "Subsystem sftp internal-sftp",
        ]
        said = {line.split()[0].lstrip("#") for line in self._extra}
        said -= _REPEATED
        return [*(line for line in lines if line.split()[0] not in said), *self._extra]

    def _await_banner(self) -> None:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                with socket.create_connection(("127.0.0.1", self.port), 1) as client:
                    if client.recv(4) == b"SSH-":
                        return
            except OSError:
                time.sleep(0.02)
        raise RuntimeError(f"sshd did not start: {self.log.read_text()}")


def make_key(path: Path, kind: str = "ed25519", passphrase: str = "") -> None:
    words = ["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-C", "edgekit-test"]
    subprocess.run([*words, "-f", str(path)], check=True, capture_output=True)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _descendants(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [p for child in children for p in (int(child), *_descendants(int(child)))]
