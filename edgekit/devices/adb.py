"""An Android device over adb: commands by its shell service, files by those commands.

Spoken is the protocol of the adb server on this machine, which ``adb`` starts: AOSP's
packages/modules/adb, ``docs/dev/overview.md``, ``docs/dev/services.md`` and, for the streams of
a command, ``shell_protocol.h``. It needs Android 7 or newer (the feature ``shell_v2``).

adb tells of a command only a status: over 128 it is taken for a signal, as every shell has it.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import stat
import struct
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import Full, Queue
from shlex import join
from threading import Lock, Thread

from edgekit.devices import posix
from edgekit.devices.command import Command, check_argv, run
from edgekit.devices.host_files import opened
from edgekit.devices.output import clean
from edgekit.devices.transport import Completed, FileFacts, Progress, Stream
from edgekit.domain import Target
from edgekit.errors import ConnectionFailed, ConnectionLost, DeviceError

WORKDIR = "/data/local/tmp/edgekit"
"""The only folder that adb's user may write to and run from, on every Android."""

_PORT = 5037
_PORT_VARIABLE = "ANDROID_ADB_SERVER_PORT"
_START_S = 20.0
_FILE_S = 300.0
_SLOWEST_BYTES_PER_S = 50_000
_CHUNK_BYTES = 64 * 1024
_MAX_PACKET = 16 * 1024 * 1024
_QUEUED = 64
_POLL_S = 0.1
_HEAD = struct.Struct("<BI")
_STDIN, _STDOUT, _STDERR, _EXIT, _CLOSE_STDIN = range(5)
_SIGNALLED = 128
_FEATURE = "shell_v2"
_HINTS = {
    "unauthorized": "unlock it, and allow this computer's key on its screen",
    "offline": "plug it in again; `adb devices` shows it as `device` when it is ready",
    "not found": "`adb devices` lists those that there are, `adb connect HOST:PORT` adds one",
}


class AdbTransport:
    """The :class:`Transport` to a device that an adb server on this machine knows.

    Args:
        target: its host is the device's serial number; empty for the only device.
        timeout_s: for each step of connecting.

    Raises:
        ConnectionFailed: no adb server and none to start, or no such device, or it does not
            let this computer in.
    """

    def __init__(self, target: Target, *, timeout_s: float = 15.0) -> None:
        self._target = target
        self._timeout_s = timeout_s
        self._workdir = target.workdir or WORKDIR
        features = _text(self._asked(f"{self._prefix('host')}:features"))
        if _FEATURE not in features.split(","):
            raise ConnectionFailed(
                f"{target}: its adb does not tell how a command ended",
                "edgekit needs Android 7 or newer there, and platform-tools of 2016 or newer here",
            )

    @property
    def target(self) -> Target:
        return self._target

    @property
    def workdir(self) -> str:
        return self._workdir

    @property
    def pythons(self) -> tuple[str, ...]:
        return ()

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float = 30.0) -> Completed:
        return run(self._command(argv, timeout_s), stdin)

    @contextmanager
    def stream(self, argv: Sequence[str], *, timeout_s: float) -> Iterator[Stream]:
        with self._command(argv, timeout_s) as command:
            yield command

    def put(
        self, source: Path, path: str, *, offset: int = 0, progress: Progress | None = None
    ) -> None:
        with opened(source) as file:
            size = source.stat().st_size
            file.seek(offset)
            argv = _shell(posix.WRITE, path, str(offset))
            pipes, what = self._started(argv, self._timeout_s)
            with Command(pipes, what, _FILE_S + size / _SLOWEST_BYTES_PER_S) as command:
                with suppress(OSError):
                    while chunk := file.read(_CHUNK_BYTES):
                        pipes.write(chunk)
                        if progress:
                            progress(len(chunk))
                    pipes.close_input()
                for _ in command.chunks():
                    pass
                done = command.completed()
        if done.exit_status == posix.TOO_SHORT:
            raise DeviceError(f"cannot extend {path} at {offset}: it is {_text(done.stderr)} bytes")
        self._check(done, f"cannot write {path}")

    def get(self, path: str, destination: Path) -> None:
        found = self.stat(path)
        size = found.size_bytes if found else 0
        pipes, what = self._started(["cat", path], self._timeout_s)
        with (
            destination.open("wb") as out,
            Command(pipes, what, _FILE_S + size / _SLOWEST_BYTES_PER_S) as command,
        ):
            command.feed(b"")
            for chunk in command.chunks():
                out.write(chunk)
            got = out.tell()
        self._check(command.completed(), f"cannot fetch {path}")
        if got < size:
            raise DeviceError(f"{self._target}: {path} is {size - got} bytes shorter than it said")

    def stat(self, path: str) -> FileFacts | None:
        said = _text(self._shell(posix.STAT, f"cannot look at {path}", path))
        if not said:
            return None
        try:
            mode, size, modified = said.split()
            kind = int(mode, 16)
            return FileFacts(
                size_bytes=int(size),
                is_dir=stat.S_ISDIR(kind),
                is_link=stat.S_ISLNK(kind),
                modified_s=float(modified),
            )
        except ValueError as error:
            raise DeviceError(f"{self._target}: `stat` said {clean(said)!r} of {path}") from error

    def listdir(self, path: str) -> tuple[str, ...]:
        said = self._shell(posix.LIST, f"cannot list {path}", path)
        names = said.decode("utf-8", "surrogateescape").split("\0")[:-1]
        return tuple(sorted(name.rpartition("/")[2] for name in names))

    def mkdir(self, path: str, *, mode: int = 0o755) -> None:
        self._shell(posix.MKDIR, f"cannot make the folder {path}", path, f"{mode:o}")

    def rename(self, old: str, new: str) -> None:
        self._shell(posix.RENAME, f"cannot rename {old} to {new}", old, new)

    def remove(self, path: str) -> None:
        self._shell(posix.REMOVE, f"cannot remove {path}", path)

    def sync(self, path: str) -> None:
        self._shell(posix.SYNC, f"cannot sync {path}", path)

    def free_bytes(self, path: str) -> int | None:
        return posix.free_bytes(self.run(["df", "-Pk", path]).stdout)

    def close(self) -> None:
        """Every command has a connection of its own."""

    def _shell(self, script: str, failure: str, *arguments: str) -> bytes:
        done = self.run(_shell(script, *arguments), timeout_s=_FILE_S)
        self._check(done, failure)
        return done.stdout

    def _check(self, done: Completed, failure: str) -> None:
        if not done.ok:
            why = clean(done.stderr) or done.signal or f"status {done.exit_status}"
            raise DeviceError(f"{self._target}: {failure}: {why}")

    def _command(self, argv: Sequence[str], timeout_s: float) -> Command:
        pipes, what = self._started(argv, min(timeout_s, self._timeout_s))
        return Command(pipes, what, timeout_s)

    def _started(self, argv: Sequence[str], timeout_s: float) -> tuple[_Pipes, str]:
        """Start a command; its pipes, and how messages name it."""
        check_argv(tuple(argv))
        what = f"{argv[0]!r} on {self._target}"
        wire = self._connected()
        try:
            wire.settimeout(timeout_s)
            self._request(wire, self._prefix("host", transport=True))
            # The shell makes way for the command, so that its signal is the one reported.
            self._request(wire, f"shell,v2,raw:exec {join(argv)}")
            wire.settimeout(None)
        except BaseException:
            wire.close()
            raise
        return _Pipes(
            wire, ConnectionLost(f"{what}: the connection was lost", _HINTS["offline"])
        ), what

    def _prefix(self, service: str, *, transport: bool = False) -> str:
        """How the server is told which device is meant."""
        serial = self._target.host
        if transport:
            return f"{service}:transport:{serial}" if serial else f"{service}:transport-any"
        return f"{service}-serial:{serial}" if serial else service

    def _asked(self, request: str) -> bytes:
        """Ask the server something that it answers at once."""
        with self._connected() as wire:
            wire.settimeout(self._timeout_s)
            self._request(wire, request)
            try:
                return _read(wire, int(_read(wire, 4), 16))
            except (OSError, EOFError, ValueError) as error:
                raise self._odd(error) from error

    def _request(self, wire: socket.socket, request: str) -> None:
        """Send a request; return if the answer is OKAY."""
        data = request.encode("utf-8", "surrogateescape")
        try:
            wire.sendall(f"{len(data):04x}".encode() + data)
            if (answer := _read(wire, 4)) == b"OKAY":
                return
            why = _text(_read(wire, int(_read(wire, 4), 16))) if answer == b"FAIL" else "nonsense"
        except TimeoutError as error:
            raise ConnectionLost(f"{self._target}: adb gave no answer in time") from error
        except (OSError, EOFError, ValueError) as error:
            raise self._odd(error) from error
        hint = next((hint for word, hint in _HINTS.items() if word in why), "")
        raise ConnectionFailed(f"{self._target}: adb says: {clean(why)}", hint)

    def _odd(self, error: Exception) -> ConnectionLost:
        return ConnectionLost(
            f"{self._target}: the adb server hung up, or answered nonsense: {clean(str(error))}",
            "`adb kill-server`, then try again",
        )

    def _connected(self) -> socket.socket:
        """A connection to the server, which is started when there is none."""
        try:
            return self._dialled()
        except OSError:
            _start_server(self._target)
        try:
            return self._dialled()
        except OSError as error:
            raise ConnectionFailed(
                f"{self._target}: the adb server cannot be reached: {error.strerror or error}",
                f"`adb start-server` starts it; {_PORT_VARIABLE} says where it listens",
            ) from error

    def _dialled(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", _port()), self._timeout_s)


class _Pipes:
    """The :class:`Pipes` of a command: packets of its two outputs, sorted by a thread."""

    def __init__(self, wire: socket.socket, lost: ConnectionLost) -> None:
        self._wire = wire
        self._lost = lost
        self._sending = Lock()
        self._outputs: dict[int, Queue[bytes]] = {
            _STDOUT: Queue(_QUEUED),
            _STDERR: Queue(_QUEUED),
        }
        self._status: int | None = None
        self._killed = False
        Thread(target=self._sort, daemon=True).start()

    def read(self) -> bytes:
        return self._next(_STDOUT)

    def read_error(self) -> bytes:
        return self._next(_STDERR)

    def write(self, data: bytes) -> None:
        for start in range(0, len(data), _CHUNK_BYTES):
            self._send(_STDIN, data[start : start + _CHUNK_BYTES])

    def close_input(self) -> None:
        self._send(_CLOSE_STDIN, b"")

    def ended(self) -> tuple[int | None, str | None]:
        if self._status is None:
            raise self._lost
        if self._status > _SIGNALLED:
            with suppress(ValueError):
                return None, signal.Signals(self._status - _SIGNALLED).name
        return self._status, None

    def kill(self) -> None:
        self._killed = True
        with suppress(OSError):
            self._wire.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._wire.close()

    def _send(self, kind: int, data: bytes) -> None:
        with self._sending:
            self._wire.sendall(_HEAD.pack(kind, len(data)) + data)

    def _next(self, kind: int) -> bytes:
        queue = self._outputs[kind]
        data = queue.get()
        if not data:
            # The end stays the end, however often it is asked for.
            queue.put(b"")
        return data

    def _sort(self) -> None:
        with suppress(OSError, EOFError):
            while self._status is None:
                kind, size = _HEAD.unpack(_read(self._wire, _HEAD.size))
                if size > _MAX_PACKET:
                    break
                data = _read(self._wire, size)
                if kind == _EXIT and data:
                    self._status = data[0]
                elif kind in self._outputs and data:
                    self._keep(kind, data)
        for kind in self._outputs:
            self._keep(kind, b"")

    def _keep(self, kind: int, data: bytes) -> None:
        """Wait for room: what is not read yet stays on the device. Nobody reads after a kill."""
        queue = self._outputs[kind]
        while True:
            try:
                return queue.put(data, timeout=_POLL_S)
            except Full:
                if self._killed:
                    queue.get_nowait()


def _shell(script: str, *arguments: str) -> list[str]:
    return ["sh", "-c", script, "sh", *arguments]


def _read(wire: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        chunk = wire.recv(min(size - len(data), _MAX_PACKET))
        if not chunk:
            raise EOFError("it hung up")
        data += chunk
    return bytes(data)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace").strip()


def _port() -> int:
    chosen = os.environ.get(_PORT_VARIABLE, "")
    return int(chosen) if chosen.isdecimal() else _PORT


def _start_server(target: Target) -> None:
    adb = shutil.which("adb")
    if adb is None:
        raise ConnectionFailed(
            f"{target}: there is no adb on this machine",
            "install Android's platform-tools (Debian: apt install adb)",
        )
    try:
        subprocess.run(
            [adb, "start-server"],
            stdin=subprocess.DEVNULL,
            # The server keeps what it inherits open: pipes would never end.
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_START_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise ConnectionFailed(
            f"{target}: the adb server does not start", "see what `adb start-server` says"
        ) from error
