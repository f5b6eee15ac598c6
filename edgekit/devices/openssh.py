"""The system's ``ssh`` as the connection: whatever it understands, edgekit reaches.

For configurations that :mod:`edgekit.devices.ssh_config` does not follow: ``ProxyCommand``,
``Match exec``, certificates, hardware keys, ``@cert-authority``. One ``ssh`` connects, proves who
is there and stays as a control master on a socket in a private folder; through that it
carries the messages of the SSH connection protocol (RFC 4254) for us, in the clear between
the two processes: OpenSSH's PROTOCOL.mux, ``MUX_C_PROXY`` (OpenSSH 7.4 and newer).
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import struct
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from threading import Lock, Thread
from typing import Any, NoReturn

import paramiko
from msgspec import Struct
from paramiko.packet import Packetizer

from edgekit.devices.output import Tail, clean
from edgekit.domain import Target
from edgekit.errors import ConnectionFailed, ConnectionLost, DeviceError, HostKeyError

_ALIVE_EVERY_S = 1
_ALIVE_TIMES = 3
"""Unanswered signs of life after which ssh gives the connection up: noticed within 4 s."""

_POLL_S = 0.02
# However edgekit ends, our end of its standard input closes then: a line says that ssh has ended.
# What runs in the background gets no standard input of its own, hence the third descriptor.
_TIED = """exec 3<&0 </dev/null
{ read -r ended <&3 || kill $$; } >/dev/null 2>&1 &
exec "$@" 3<&-"""
_LOG_BYTES = 256 * 1024
_MIN_FRAME, _MAX_FRAME = 2, 1024 * 1024
_HELLO, _HELLO_VERSION = 0x00000001, 4
_C_PROXY, _S_PROXY = 0x1000000F, 0x8000000F
_OPTIONS = (
    "BatchMode=yes",
    "ControlMaster=yes",
    "ControlPersist=no",
    "ForwardAgent=no",
    "ForwardX11=no",
    "ClearAllForwardings=yes",
    "PermitLocalCommand=no",
    "RemoteCommand=none",
    f"ServerAliveInterval={_ALIVE_EVERY_S}",
    f"ServerAliveCountMax={_ALIVE_TIMES}",
)


class OpensshConnection:
    """A connection that the system's ``ssh`` holds; what is not set here its configuration says.

    Args:
        target: whom to connect to.
        accept_new: record the keys of hosts that are not known yet.
        timeout_s: for TCP and the greeting; logging in may take as long again.

    Raises:
        HostKeyError: a host's key is unknown, changed or revoked.
        ConnectionFailed: there is no ``ssh`` here, or it cannot connect.
    """

    def __init__(self, target: Target, *, accept_new: bool, timeout_s: float) -> None:
        self._target = target
        self._folder = tempfile.TemporaryDirectory(prefix="edgekit-", ignore_cleanup_errors=True)
        self._log = Tail(_LOG_BYTES)
        self._master: subprocess.Popen[bytes] | None = None
        self.transport: Any = None
        try:
            self._connect(accept_new, timeout_s)
        except BaseException:
            self.close()
            raise

    @property
    def is_alive(self) -> bool:
        return bool(self.transport.is_active())

    def lost(self, doing: str) -> ConnectionLost:
        """The error that says that, and as far as known why, the connection ended."""
        self._stop()
        why = "the connection was lost"
        if "not responding" in self._said():
            why = f"the device did not answer for {_ALIVE_EVERY_S * (_ALIVE_TIMES + 1)} s"
        return ConnectionLost(
            f"{self._target}: {why} while {doing}", "check the device and the network, and retry"
        )

    def close(self) -> None:
        if self.transport is not None:
            self.transport.close()
        self._stop()
        self._folder.cleanup()

    def _connect(self, accept_new: bool, timeout_s: float) -> None:
        control = Path(self._folder.name) / "c"
        self._master = self._started(control, accept_new, timeout_s)
        self._reader = Thread(target=self._drain, args=[self._master], daemon=True)
        self._reader.start()
        deadline = time.monotonic() + 2 * timeout_s
        while not control.exists():
            if self._master.poll() is not None:
                self._reader.join(1)
                raise _refusal(self._target, self._said())
            if time.monotonic() > deadline:
                raise _too_late(self._target, 2 * timeout_s)
            time.sleep(_POLL_S)
        self.transport = _proxied(self._target, control, timeout_s)

    def _started(
        self, control: Path, accept_new: bool, timeout_s: float
    ) -> subprocess.Popen[bytes]:
        ssh = shutil.which("ssh")
        if ssh is None:
            raise ConnectionFailed(
                "there is no `ssh` on this machine",
                f"install OpenSSH's client, or write ssh:// instead of {self._target.transport}://",
            )
        settings = (
            *_OPTIONS,
            f"ControlPath={control}",
            f"ConnectTimeout={max(1, round(timeout_s))}",
            f"StrictHostKeyChecking={'accept-new' if accept_new else 'yes'}",
        )
        user = ["-l", self._target.user] if self._target.user else []
        port = ["-p", str(self._target.port)] if self._target.port else []
        # Its log is where it says which key the host showed, and which ones it offered.
        argv = [ssh, "-v", "-N", "-T", *user, *port]
        argv += [*(f"-o{setting}" for setting in settings), "--", self._target.host]
        return subprocess.Popen(
            ["/bin/sh", "-c", _TIED, "sh", *argv],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            # No terminal to ask questions on; and Ctrl-C is for edgekit, which ends it in its time.
            start_new_session=True,
            env={**os.environ, "SSH_ASKPASS_REQUIRE": "never"},
        )

    def _drain(self, master: subprocess.Popen[bytes]) -> None:
        if master.stderr is not None:
            with master.stderr as log:
                for line in log:
                    self._log.add(line)

    def _said(self) -> str:
        return self._log.bytes().decode("utf-8", "replace")

    def _stop(self) -> None:
        if self._master is None:
            return
        self._master.terminate()
        try:
            self._master.wait(1)
        except subprocess.TimeoutExpired:
            self._master.kill()
            self._master.wait()
        if self._master.stdin and not self._master.stdin.closed:
            # It is not there to be killed any more, and its number may be another's.
            with suppress(OSError), self._master.stdin as tie:
                tie.write(b"ended\n")
        self._reader.join(1)


class _Frames:
    """paramiko's ``Packetizer`` for messages that are neither encrypted nor padded."""

    def __init__(self, wire: socket.socket) -> None:
        self._packetizer = Packetizer(wire)
        self._wire = wire
        self._sending = Lock()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._packetizer, name)

    def read_message(self) -> tuple[int, Any]:
        frame = _read_frame(self._wire)
        message = paramiko.Message(frame[2:])
        message.seqno = 0
        return frame[1], message

    def send_message(self, message: Any) -> None:
        payload = message.asbytes()
        with self._sending:
            self._wire.sendall(struct.pack(">IB", len(payload) + 1, 0) + payload)

    def close(self) -> None:
        with suppress(OSError):
            self._wire.shutdown(socket.SHUT_RDWR)
        self._packetizer.close()

    def write_all(self, out: bytes) -> None:
        """The greeting: it has been said."""

    def start_handshake(self, timeout: float) -> None:
        """There is none."""


def _passenger(wire: socket.socket) -> Any:
    """paramiko's transport above a master that has agreed on keys, and logged in."""
    transport = paramiko.Transport(wire)
    wire.settimeout(None)
    transport.packetizer = _Frames(wire)
    transport._check_banner = transport._send_kex_init = lambda: None
    transport._expect_packet = lambda *_: None
    transport.active = transport.initial_kex_done = True
    transport.clear_to_send.set()
    transport.start()
    return transport


def _proxied(target: Target, control: Path, timeout_s: float) -> Any:
    """Ask the master to carry our messages."""
    wire = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        wire.settimeout(timeout_s)
        wire.connect(str(control))
        _write_frame(wire, struct.pack(">II", _HELLO, _HELLO_VERSION))
        _read_frame(wire)
        _write_frame(wire, struct.pack(">II", _C_PROXY, 0))
        (answer,) = struct.unpack(">I", _read_frame(wire)[:4])
        if answer != _S_PROXY:
            raise EOFError
        return _passenger(wire)
    except (OSError, EOFError) as error:
        wire.close()
        raise ConnectionLost(
            f"{target}: the system's ssh connected, but does not share its connection",
            "edgekit needs OpenSSH 7.4 or newer on this machine (`ssh -V`)",
        ) from error


def _write_frame(wire: socket.socket, data: bytes) -> None:
    wire.sendall(struct.pack(">I", len(data)) + data)


def _read_frame(wire: socket.socket) -> bytes:
    (size,) = struct.unpack(">I", _read(wire, 4))
    if not _MIN_FRAME <= size <= _MAX_FRAME:
        raise EOFError
    return _read(wire, size)


def _read(wire: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        chunk = wire.recv(size - len(data))
        if not chunk:
            raise EOFError
        data += chunk
    return bytes(data)


class _Refusal(Struct, frozen=True):
    """What ssh says when it cannot connect, and what that is for edgekit."""

    said: str
    kind: type[DeviceError]
    message: str
    hint: str = ""


_UNKNOWN_KEY = (
    "compare the fingerprint on the device (ssh-keygen -lf /etc/ssh/ssh_host_*_key.pub), then use "
    "--accept-new to record it"
)
_REFUSALS = (
    _Refusal(
        r"REVOKED HOST KEY|host key .*revoked",
        HostKeyError,
        "its host key {key} is revoked",
        "do not connect; ask whoever runs the device",
    ),
    _Refusal(
        r"IDENTIFICATION HAS CHANGED",
        HostKeyError,
        "its host key has changed; it showed {key}",
        "someone may be listening in, or the device was set up anew; ssh-keygen -R removes what "
        "is recorded, if you know that it was",
    ),
    _Refusal(
        r"No \S+ host key is known|Host key verification failed",
        HostKeyError,
        "its host key {key} is not known",
        _UNKNOWN_KEY,
    ),
    _Refusal(
        r"Could not resolve hostname",
        ConnectionFailed,
        "the name cannot be resolved",
        "check the host's name",
    ),
    _Refusal(
        r"port \d+: Connection refused",
        ConnectionFailed,
        "it refused the connection",
        "check that an SSH server runs there, on that port",
    ),
    _Refusal(
        r"[Cc]onnection timed out|timed out while waiting|Operation timed out",
        ConnectionFailed,
        "it did not answer in time",
        "check that the device is on and the network reaches it, and that it is an SSH server",
    ),
    _Refusal(
        r"Permission denied|Too many authentication failures",
        ConnectionFailed,
        "it does not let the user in; tried: {tried}",
        "give it your key with `ssh-copy-id`, or load the right one with `ssh-add`; edgekit asks "
        "for no passwords",
    ),
    _Refusal(
        r"kex_exchange_identification|[Cc]onnection (closed|reset)|banner|Bad packet|Corrupted MAC",
        ConnectionLost,
        "it did not speak SSH as expected: {last}",
        "check the port; the server may limit how many connect at once",
    ),
)
_OTHERWISE = _Refusal("", ConnectionFailed, "the system's ssh cannot connect: {last}")
_KEY = re.compile(r"Server host key: (\S+ \S+)")
_OFFERED = re.compile(r"Offering public key: (.+?) [A-Z0-9-]+ SHA256:")


def _refusal(target: Target, said: str) -> DeviceError:
    """The error that ssh's own words stand for."""
    words = [line for line in said.splitlines() if line and not line.startswith("debug")]
    told = "\n".join(words)
    row = next((row for row in _REFUSALS if re.search(row.said, told)), _OTHERWISE)
    details = {
        "key": clean((_KEY.findall(said) or ["(not shown)"])[-1]),
        "tried": clean(", ".join(_OFFERED.findall(said)) or "no key"),
        "last": clean(words[-1] if words else "it said nothing"),
    }
    return row.kind(f"{target}: {row.message.format(**details)}", row.hint)


def _too_late(target: Target, waited_s: float) -> NoReturn:
    raise ConnectionFailed(
        f"{target}: the system's ssh was not logged in within {waited_s:g} s",
        f"try `ssh {target.host} true` yourself: it may ask for something",
    )
