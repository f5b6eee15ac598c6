"""A device over SSH: commands on channels of their own, files over one SFTP session.

Not for several threads at once: open a connection in each.
"""

from __future__ import annotations

import itertools
import posixpath
import re
import shlex
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Timer
from typing import Any, BinaryIO, Protocol

import paramiko
from paramiko.common import MSG_CHANNEL_REQUEST, cMSG_CHANNEL_REQUEST
from paramiko.sftp import CMD_EXTENDED, CMD_STATUS, SFTPError

from edgekit.devices import posix
from edgekit.devices.command import Command, check_argv, run
from edgekit.devices.host_files import opened
from edgekit.devices.output import clean
from edgekit.devices.transport import Completed, FileFacts, Progress, Stream
from edgekit.domain import Target
from edgekit.errors import ConnectionFailed, ConnectionLost, DeviceError, EdgekitError

OPERATION_S = 30.0
"""How long one request (opening a channel, a step of SFTP) may go unanswered."""

# 32,768 bytes and their header would not fit one packet.
_WRITE_BYTES = 32_000
_READ_BYTES = 65_536
WINDOW_BYTES = 2 * 1024 * 1024
"""OpenSSH's window: as much is under way, unanswered, at most. A cut push sends no more again."""

# More writes than the window holds. At 100 paramiko would wait for the answers of all of them,
# and the line be idle for a round trip; so only the oldest is waited for.
_UNANSWERED = 96
_READ_AHEAD = 64
_MAX_LISTING = 100_000
_LOST = (OSError, EOFError, paramiko.SSHException)
# What paramiko says of a channel when it has closed that, and not yet marked the rest as lost.
_CLOSED = "Socket is closed"
_SIGNAL = re.compile(r"[A-Z0-9]{1,12}")


class SshConnection(Protocol):
    """An authenticated connection to an SSH server, whoever made it."""

    @property
    def transport(self) -> Any:
        """paramiko's transport: opens channels."""
        ...

    @property
    def is_alive(self) -> bool: ...

    def lost(self, doing: str) -> ConnectionLost:
        """The error that says that, and as far as known why, the connection ended."""
        ...

    def close(self) -> None: ...


class SshTransport:
    """The :class:`Transport` to a device that runs an SSH server.

    Args:
        target: whom ``connection`` leads to.
        connection: authenticated; closed with this.

    Raises:
        DeviceError: the device's home folder cannot be found out.
    """

    def __init__(self, target: Target, connection: SshConnection) -> None:
        self._target = target
        self._connection = connection
        self._signals = _note_signals(self._connection.transport)
        self._session: Any = None
        try:
            self._workdir = self._resolved(target.workdir)
        except BaseException:
            self.close()
            raise

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
        with (
            opened(source) as file,
            self._files(f"cannot write {path}", "writing") as sftp,
            sftp.open(path, "r+" if offset else "w") as out,
        ):
            if offset and (size := out.stat().st_size) < offset:
                raise DeviceError(f"cannot extend {path} at {offset}: it is {size} bytes")
            if offset:
                out.truncate(offset)
            out.seek(offset)
            file.seek(offset)
            try:
                _send(file, out, progress)
            except (KeyboardInterrupt, SystemExit):
                # Half a request may be on its way: the server would wait for its other half.
                self._drop_session()
                raise
            self._fsync(sftp, out, path)

    def get(self, path: str, destination: Path) -> None:
        with self._files(f"cannot fetch {path}", "fetching a file") as sftp:
            size = sftp.stat(path).st_size
            with sftp.open(path, "r") as file, destination.open("wb") as out:
                file.prefetch(size, _READ_AHEAD)
                while size > 0 and (chunk := file.read(min(_READ_BYTES, size))):
                    out.write(chunk)
                    size -= len(chunk)
            if size:
                raise DeviceError(f"{self._target}: {path} is {size} bytes shorter than it said")

    def stat(self, path: str) -> FileFacts | None:
        with self._files(f"cannot look at {path}", "looking at files") as sftp:
            try:
                found = sftp.lstat(path)
            except FileNotFoundError:
                return None
            mode = found.st_mode or 0
            return FileFacts(
                size_bytes=found.st_size or 0,
                is_dir=stat.S_ISDIR(mode),
                is_link=stat.S_ISLNK(mode),
                modified_s=float(found.st_mtime or 0),
            )

    def listdir(self, path: str) -> tuple[str, ...]:
        with self._files(f"cannot list {path}", "listing a folder") as sftp:
            try:
                entries = sftp.listdir_iter(path, read_aheads=4)
                names = [entry.filename for entry in itertools.islice(entries, _MAX_LISTING + 1)]
            except FileNotFoundError:
                return ()
            if len(names) > _MAX_LISTING or any("/" in name for name in names):
                self._drop_session()
                raise DeviceError(f"{self._target}: the listing of {path} makes no sense")
            return tuple(sorted(names))

    def mkdir(self, path: str, *, mode: int = 0o755) -> None:
        parent = posixpath.dirname(path)
        if parent != path and self.stat(parent) is None:
            self.mkdir(parent)
        with self._files(f"cannot make the folder {path}", "making a folder") as sftp:
            try:
                sftp.mkdir(path, mode)
            except OSError:
                # Who lost a race, or came later, finds the folder there.
                if not _is_dir(sftp, path):
                    raise

    def rename(self, old: str, new: str) -> None:
        with self._files(f"cannot rename {old} to {new}", "renaming") as sftp:
            sftp.posix_rename(old, new)

    def remove(self, path: str) -> None:
        self._shell(posix.REMOVE, path, f"cannot remove {path}")

    def sync(self, path: str) -> None:
        self._shell(posix.SYNC, path, f"cannot sync {path}")

    def free_bytes(self, path: str) -> int | None:
        return posix.free_bytes(self.run(["df", "-Pk", path]).stdout)

    def close(self) -> None:
        self._connection.close()

    def _resolved(self, workdir: str | None) -> str:
        if workdir and workdir.startswith("/") and not workdir.startswith("/~"):
            return workdir
        inside = (workdir or ".edgekit").removeprefix("/").removeprefix("~").strip("/")
        with self._files("cannot find the home folder", "finding the home folder") as sftp:
            home: str = sftp.normalize(".")
        return posixpath.join(home, inside).rstrip("/")

    def _shell(self, script: str, path: str, failure: str) -> None:
        """Run a line of POSIX shell about ``path``, which is its ``$1``."""
        done = self.run(["sh", "-c", script, "sh", path], timeout_s=10 * OPERATION_S)
        if not done.ok:
            raise DeviceError(f"{self._target}: {failure}: {clean(done.stderr)}")

    def _command(self, argv: Sequence[str], timeout_s: float) -> Command:
        check_argv(tuple(argv))
        with (
            self._failing(f"cannot start {argv[0]}", f"starting {argv[0]!r}"),
            self._channel(min(timeout_s, OPERATION_S)) as channel,
        ):
            # The shell makes way for the command, so that its signal is the one reported.
            channel.exec_command("exec " + shlex.join(argv))
        what = f"{argv[0]!r} on {self._target}"
        return Command(_Pipes(channel, self._connection, self._signals, what), what, timeout_s)

    @contextmanager
    def _channel(self, timeout_s: float) -> Iterator[Any]:
        """A new channel, closed when what is asked of it first is not answered in time."""
        channel = self._connection.transport.open_session(timeout=timeout_s)
        timer = Timer(timeout_s, _close, [channel])
        timer.daemon = True
        timer.start()
        try:
            yield channel
        except BaseException:
            _close(channel)
            raise
        finally:
            timer.cancel()

    @contextmanager
    def _files(self, failure: str, doing: str) -> Iterator[Any]:
        """The SFTP session, opened when it is first needed."""
        with self._failing(failure, doing):
            if self._session is None:
                self._session = self._opened_session()
            yield self._session

    def _opened_session(self) -> Any:
        with self._channel(OPERATION_S) as channel:
            try:
                channel.invoke_subsystem("sftp")
            except paramiko.SSHException as error:
                if not self._connection.is_alive:
                    raise
                raise DeviceError(
                    f"{self._target}: the SSH server offers no SFTP",
                    "turn it on: `Subsystem sftp internal-sftp` in its sshd_config",
                ) from error
            channel.settimeout(OPERATION_S)
            return paramiko.SFTPClient(channel)

    def _drop_session(self) -> None:
        """Give the session up: answers may still be on their way to questions long forgotten."""
        session, self._session = self._session, None
        if session:
            _close(session)

    def _fsync(self, sftp: Any, file: Any, path: str) -> None:
        try:
            sftp._request(CMD_EXTENDED, "fsync@openssh.com", file.handle)
        except OSError:
            self.sync(path)

    @contextmanager
    def _failing(self, failure: str, doing: str) -> Iterator[None]:
        """Turn whatever paramiko raises into what a :class:`Transport` may raise."""
        try:
            yield
        except EdgekitError:
            raise
        except TimeoutError as error:
            self._drop_session()
            raise ConnectionLost(
                f"{self._target}: {failure}: no answer within {OPERATION_S:g} s"
            ) from error
        except OSError as error:
            if not self._connection.is_alive or str(error) == _CLOSED:
                self._drop_session()
                raise self._connection.lost(doing) from error
            reason = clean(error.strerror or str(error))
            raise DeviceError(f"{self._target}: {failure}: {reason}") from error
        except (EOFError, paramiko.SSHException, SFTPError, ValueError) as error:
            self._drop_session()
            if not self._connection.is_alive or isinstance(error, EOFError):
                raise self._connection.lost(doing) from error
            raise ConnectionFailed(f"{self._target}: {failure}: {clean(str(error))}") from error
        except Exception as error:
            # Whatever ended paramiko's thread is raised here, too: a damaged packet, or nonsense.
            if self._connection.is_alive:
                raise
            raise self._connection.lost(doing) from error


class _Pipes:
    """The :class:`Pipes` of a command on a channel."""

    def __init__(
        self, channel: Any, connection: SshConnection, signals: dict[int, str], what: str
    ) -> None:
        self._channel = channel
        self._connection = connection
        self._signals = signals
        self._what = what
        self._has_ended = False

    def read(self) -> bytes:
        return self._channel.recv(_READ_BYTES)  # type: ignore[no-any-return]

    def read_error(self) -> bytes:
        return self._channel.recv_stderr(_READ_BYTES)  # type: ignore[no-any-return]

    def write(self, data: bytes) -> None:
        with _as_broken_pipe():
            self._channel.sendall(data)

    def close_input(self) -> None:
        with _as_broken_pipe():
            self._channel.shutdown_write()

    def ended(self) -> tuple[int | None, str | None]:
        self._channel.status_event.wait()
        self._has_ended = True
        status = self._channel.exit_status
        if status >= 0:
            return status, None
        if signal := self._signals.pop(self._channel.chanid, None):
            return None, signal
        # -1 is paramiko's way to say that nobody told how the command ended.
        raise self._connection.lost(f"{self._what} was running")

    def kill(self) -> None:
        with suppress(*_LOST):
            if not (self._has_ended or self._channel.closed):
                _send_kill(self._channel)
        _close(self._channel)

    def close(self) -> None:
        """The channel is closed by ``kill``."""


def _is_dir(sftp: Any, path: str) -> bool:
    try:
        return stat.S_ISDIR(sftp.stat(path).st_mode or 0)
    except FileNotFoundError:
        return False


def _close(channel: Any) -> None:
    """Close a channel or a session; that the connection is lost already does not matter."""
    with suppress(*_LOST):
        channel.close()


@contextmanager
def _as_broken_pipe() -> Iterator[None]:
    try:
        yield
    except (EOFError, paramiko.SSHException) as error:
        raise BrokenPipeError from error


def _send(file: BinaryIO, out: Any, progress: Progress | None) -> None:
    """Write all of ``file``, waiting for the oldest answers only; every one is checked."""
    out.set_pipelined(True)
    chunk = file.read(_WRITE_BYTES)
    while chunk:
        following = file.read(_WRITE_BYTES)
        # paramiko drops what it was told of earlier writes, unless the last one waits for it.
        out.set_pipelined(bool(following))
        out.write(chunk)
        while len(out._reqs) > _UNANSWERED:
            answer, _ = out.sftp._read_response(out._reqs.popleft())
            if answer != CMD_STATUS:
                raise SFTPError("a write was answered by something else than a status")
        if progress:
            progress(len(chunk))
        chunk = following


def _note_signals(transport: Any) -> dict[int, str]:
    """Where the signals that ended commands are noted, by channel: paramiko drops them."""
    signals: dict[int, str] = {}
    handle = transport._channel_handler_table[MSG_CHANNEL_REQUEST]

    def note(channel: Any, message: Any) -> None:
        request = paramiko.Message(message.get_remainder())
        if request.get_text() == "exit-signal":
            request.get_boolean()
            name = request.get_text()
            signals[channel.chanid] = f"SIG{name}" if _SIGNAL.fullmatch(name) else "unknown"
        handle(channel, message)

    transport._channel_handler_table = {
        **transport._channel_handler_table,
        MSG_CHANNEL_REQUEST: note,
    }
    return signals


def _send_kill(channel: Any) -> None:
    """Ask the server to kill the command's process group; OpenSSH does, but for root."""
    message = paramiko.Message()
    message.add_byte(cMSG_CHANNEL_REQUEST)
    message.add_int(channel.remote_chanid)
    message.add_string("signal")
    message.add_boolean(False)
    message.add_string("KILL")
    channel.transport._send_user_message(message)
