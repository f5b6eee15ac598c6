"""The machine at hand as a device: processes in sessions of their own, and plain files."""

from __future__ import annotations

import errno
import os
import select
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from edgekit.devices.command import Command, check_argv, run
from edgekit.devices.host_files import opened
from edgekit.devices.transport import Completed, FileFacts, Progress, Stream
from edgekit.domain import Target
from edgekit.errors import DeviceError

_CHUNK_BYTES = 1024 * 1024
_POLL_MS = 100


class LocalTransport:
    """The :class:`Transport` to this very machine."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._workdir = target.workdir or str(_default_workdir())

    @property
    def target(self) -> Target:
        return self._target

    @property
    def workdir(self) -> str:
        return self._workdir

    @property
    def pythons(self) -> tuple[str, ...]:
        return (sys.executable,)

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float = 30.0) -> Completed:
        return run(self._command(argv, timeout_s), stdin)

    @contextmanager
    def stream(self, argv: Sequence[str], *, timeout_s: float) -> Iterator[Stream]:
        with self._command(argv, timeout_s) as command:
            yield command

    def put(
        self, source: Path, path: str, *, offset: int = 0, progress: Progress | None = None
    ) -> None:
        with opened(source) as file, self._failing(f"cannot write {path}"):
            flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
            with os.fdopen(os.open(path, flags, 0o644), "wb", buffering=0) as out:
                if (size := out.seek(0, os.SEEK_END)) < offset:
                    raise DeviceError(f"cannot extend {path} at {offset}: it is {size} bytes")
                out.truncate(offset)
                out.seek(offset)
                file.seek(offset)
                while chunk := file.read(_CHUNK_BYTES):
                    _write_all(out.fileno(), chunk)
                    if progress:
                        progress(len(chunk))
                os.fsync(out.fileno())

    def get(self, path: str, destination: Path) -> None:
        with self._failing(f"cannot fetch {path}"):
            shutil.copyfile(path, destination)

    def stat(self, path: str) -> FileFacts | None:
        with self._failing(f"cannot look at {path}"):
            try:
                found = Path(path).lstat()
            except (FileNotFoundError, NotADirectoryError):
                return None
        return FileFacts(
            size_bytes=found.st_size,
            is_dir=stat.S_ISDIR(found.st_mode),
            is_link=stat.S_ISLNK(found.st_mode),
            modified_s=found.st_mtime,
        )

    def listdir(self, path: str) -> tuple[str, ...]:
        with self._failing(f"cannot list {path}"):
            try:
                return tuple(sorted(entry.name for entry in Path(path).iterdir()))
            except (FileNotFoundError, NotADirectoryError):
                return ()

    def mkdir(self, path: str, *, mode: int = 0o755) -> None:
        with self._failing(f"cannot make the folder {path}"):
            Path(path).mkdir(mode, parents=True, exist_ok=True)

    def rename(self, old: str, new: str) -> None:
        with self._failing(f"cannot rename {old} to {new}"):
            Path(old).rename(new)

    def remove(self, path: str) -> None:
        found = self.stat(path)
        with self._failing(f"cannot remove {path}"):
            if found and found.is_dir:
                for folder, _, _ in Path(path).walk():
                    folder.chmod(0o700)
                shutil.rmtree(path)
            elif found:
                Path(path).unlink()

    def sync(self, path: str) -> None:
        with self._failing(f"cannot sync {path}"):
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def free_bytes(self, path: str) -> int | None:
        try:
            return shutil.disk_usage(path).free
        except OSError:
            return None

    def close(self) -> None:
        """Nothing is held open."""

    def _command(self, argv: Sequence[str], timeout_s: float) -> Command:
        check_argv(tuple(argv))
        with self._failing(f"cannot start {argv[0]}"):
            return Command(_Process(argv), f"{argv[0]!r} on {self._target}", timeout_s)

    @contextmanager
    def _failing(self, what: str) -> Iterator[None]:
        try:
            yield
        except (OSError, shutil.Error) as error:
            reason = getattr(error, "strerror", None) or error
            raise DeviceError(f"{self._target}: {what}: {reason}") from error


class _Process:
    """The :class:`Pipes` of a local process; it and its children share a session."""

    def __init__(self, argv: Sequence[str]) -> None:
        self._process = subprocess.Popen(
            # The shell gives a missing program the same status here as over SSH.
            ["/bin/sh", "-c", 'exec "$@"', "sh", *argv],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            cwd=_home(),
            start_new_session=True,
        )
        self._killed = False
        self._stdin, self._stdout, self._stderr = _pipes(self._process)

    def read(self) -> bytes:
        return self._read(self._stdout.fileno())

    def read_error(self) -> bytes:
        return self._read(self._stderr.fileno())

    def _read(self, descriptor: int) -> bytes:
        # A child that left the session can hold a pipe open past the kill, so never wait blindly.
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        while not poll.poll(_POLL_MS):
            if self._killed:
                return b""
        return os.read(descriptor, _CHUNK_BYTES)

    def write(self, data: bytes) -> None:
        _write_all(self._stdin.fileno(), data)

    def close_input(self) -> None:
        self._stdin.close()

    def ended(self) -> tuple[int | None, str | None]:
        status = self._process.wait()
        return (status, None) if status >= 0 else (None, _signal_name(-status))

    def kill(self) -> None:
        if self._process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._killed = True

    def close(self) -> None:
        for pipe in (self._stdin, self._stdout, self._stderr):
            pipe.close()


def _pipes(process: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes], IO[bytes]]:
    if process.stdin is None or process.stdout is None or process.stderr is None:
        raise OSError(errno.EPIPE, "the process has no pipes")
    return process.stdin, process.stdout, process.stderr


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIG{number}"


def _default_workdir() -> Path:
    import platformdirs

    return platformdirs.user_data_path("edgekit") / "device"


def _home() -> str:
    """Where commands start, as over SSH."""
    home = Path("~").expanduser()
    return str(home) if home.is_dir() else "/"


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
