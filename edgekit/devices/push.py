"""Bundles onto a device: what is missing is sent, verified there, and made visible in one step.

``<workdir>/bundles/<sha256>`` is complete and read-only, or absent; so is whatever else is sent
as a :class:`Parcel`. What was cut short waits under ``<workdir>/staging`` for the next attempt,
and is swept after a day.
"""

from __future__ import annotations

import logging
import posixpath
import secrets
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from msgspec import Struct

from edgekit.bundle import MANIFEST, Bundle
from edgekit.devices import digests
from edgekit.devices.output import clean
from edgekit.devices.transport import FileFacts, Progress, Transport
from edgekit.domain import Deployment
from edgekit.errors import ConnectionFailed, DeviceError

MARGIN_BYTES = 16 * 1024 * 1024
"""Free space that must stay on the device beyond what the bundle takes."""

SWEPT_AFTER_S = 24 * 3600.0
_ATTEMPTS = 3
_ELSEWHERE = "make room there, or use a working folder on another disk"
_NO_SPACE = "No space left on device"
_TRY_TO_CREATE = """d=$1
while [ ! -d "$d" ]; do d=$(dirname "$d"); done
f=$d/.edgekit-$$
: > "$f" && rm -f "$f"
"""
# One command, not one for each: on a line with delay every command takes three round trips. The
# folder itself stays writable: one that is not cannot be moved.
_SETTLE = """top=$1
shift
chmod -R a=rX "$top" && chmod 0700 "$top" || exit 1
for folder; do sync "$folder" 2>/dev/null || sync || exit 1; done
"""
_SYNC_S = 300.0
_log = logging.getLogger(__name__)


class Parcel(Struct, frozen=True, kw_only=True):
    """Files that are to be on the device all of them, as they are here, or not at all.

    Attributes:
        what: how messages name it.
        shelf: the folder below the working folder that it goes into.
        root: where the files lie here.
        digests: the sha256 of each, by its path below ``root``.
        sha256: what the whole is known by.
    """

    what: str
    shelf: str
    root: Path
    digests: Mapping[str, str]
    sha256: str


def push(transport: Transport, bundle: Bundle, progress: Progress | None = None) -> Deployment:
    """Bring a bundle to the device; one that is there already costs a verification only.

    Args, result and errors as ``send``.
    """
    parcel = Parcel(
        what="bundle",
        shelf="bundles",
        root=bundle.root,
        digests={**bundle.manifest.digests, MANIFEST: bundle.sha256},
        sha256=bundle.sha256,
    )
    return send(transport, parcel, progress)


def send(transport: Transport, parcel: Parcel, progress: Progress | None = None) -> Deployment:
    """Bring a parcel to the device; one that is there already costs a verification only.

    Args:
        transport: an open connection.
        parcel: its files verified.
        progress: called with the number of bytes just sent.

    Raises:
        ConnectionFailed: the connection was lost; a retry continues where it broke.
        DeviceError: no space, no permission, no way to verify, or storage that corrupts.
        InputError: a file of the bundle cannot be read any more.
    """
    started = time.monotonic()
    work = _Push(transport, parcel, progress)
    try:
        work.prepare()
        work.ensure()
        work.sweep()
    except ConnectionFailed:
        raise
    except DeviceError as error:
        raise work.explained(error) from error
    return Deployment(
        target=str(transport.target),
        bundle_sha256=parcel.sha256,
        path=work.home,
        pushed_bytes=work.sent_bytes,
        skipped_bytes=max(0, work.total_bytes - work.sent_bytes),
        elapsed_s=time.monotonic() - started,
    )


class _Stolen(Exception):
    """Another push took our staging folder over, or made the bundle visible first."""


class _Push:
    """One push: a parcel, a device, and where the one goes on the other."""

    def __init__(self, transport: Transport, parcel: Parcel, progress: Progress | None) -> None:
        self._transport = transport
        self._parcel = parcel
        self._progress = progress
        self._sizes = {name: (parcel.root / name).stat().st_size for name in parcel.digests}
        self._folders = sorted({folder for name in parcel.digests for folder in _above(name)})
        self._shelf = posixpath.join(transport.workdir, parcel.shelf)
        self._stagings = posixpath.join(transport.workdir, "staging")
        self.home = posixpath.join(self._shelf, parcel.sha256)
        self.total_bytes = sum(self._sizes.values())
        self.sent_bytes = 0

    def prepare(self) -> None:
        """Make the folders; refuse those that lead elsewhere, close the staging to others."""
        for folder in (self._shelf, self._stagings):
            self._transport.mkdir(folder)
            facts = self._transport.stat(folder)
            if facts is None or facts.is_link:
                raise self._error(
                    f"{folder} is a link, expected a folder",
                    "remove it, or use another working folder",
                )
        self._run(["chmod", "0700", self._stagings], "close the staging folder to others")

    def ensure(self) -> None:
        """Have it on the device, whoever brings it there."""
        for attempt in range(_ATTEMPTS):
            if self._is_there():
                return
            try:
                # Who was robbed once starts afresh: two pushes must not rob each other for ever.
                self._transfer(resume=attempt == 0)
            except _Stolen:
                _log.info("another push of %s is under way", self.home)
            else:
                return
        if not self._is_there():
            raise self._error(
                f"other pushes of the same {self._parcel.what} kept interfering",
                "wait for them to end, then push again",
            )

    def explained(self, error: DeviceError) -> DeviceError:
        """The error with its cause, where nothing can be created: SFTP has no codes for them."""
        done = self._transport.run(["sh", "-c", _TRY_TO_CREATE, "sh", self._transport.workdir])
        reason = clean(done.stderr).rpartition(": ")[2]
        if done.ok or not reason or (reason in error.message and reason != _NO_SPACE):
            return error
        free = self._transport.free_bytes(self._transport.workdir)
        if reason == _NO_SPACE and free is not None and free >= MARGIN_BYTES:
            reason = "the disk has no inodes left"
        return DeviceError(f"{error.message}: {reason}", error.hint or _ELSEWHERE)

    def sweep(self) -> None:
        """Remove what is long forgotten; that this fails takes nothing from the push."""
        try:
            now_s = self._now_s()
            for name in self._transport.listdir(self._stagings):
                path = posixpath.join(self._stagings, name)
                facts = self._transport.stat(path)
                if facts and now_s - facts.modified_s > SWEPT_AFTER_S:
                    self._transport.remove(path)
        except ConnectionFailed:
            raise
        except DeviceError as error:
            _log.warning("cannot sweep %s: %s", self._stagings, error.message)

    def _is_there(self) -> bool:
        """Whether it is there and whole; one that is damaged is moved out of sight."""
        facts = self._transport.stat(self.home)
        if facts is None:
            return False
        is_folder = facts.is_dir and not facts.is_link
        if is_folder and not self._differing(self.home):
            return True
        _log.warning("%s on the device is damaged: pushing it anew", self.home)
        if is_folder:
            self._run(["chmod", "0700", self.home], f"move a damaged {self._parcel.what} aside")
        aside = posixpath.join(self._stagings, f"damaged-{secrets.token_hex(8)}")
        with suppress(_Stolen):
            self._move(self.home, aside)
        self._transport.remove(aside)
        return False

    def _transfer(self, *, resume: bool) -> None:
        """Send what is missing, verify it on the device and make it visible.

        Raises:
            _Stolen: another push was faster; what there is now has to be looked at again.
        """
        earlier = self._earlier() if resume else None
        self._check_space(earlier)
        staging = posixpath.join(self._stagings, self._prefix + secrets.token_hex(8))
        if earlier:
            self._move(earlier, staging)
            # It may have been cut off after it was made read-only.
            self._run(["chmod", "-R", "u+w", staging], "take an earlier push over")
        else:
            self._transport.mkdir(staging, mode=0o700)
        try:
            self._fill(staging)
            self._verify(staging)
            self._publish(staging)
        except ConnectionFailed:
            raise
        except DeviceError as error:
            if self._transport.stat(staging) is None:
                raise _Stolen from error
            raise

    @property
    def _prefix(self) -> str:
        """What the staging folders of this begin with."""
        return f"{self._parcel.sha256[:16]}-"

    def _earlier(self) -> str | None:
        """The newest folder that an earlier push of this left."""
        found: list[tuple[float, str]] = []
        for name in self._transport.listdir(self._stagings):
            path = posixpath.join(self._stagings, name)
            facts = self._transport.stat(path) if name.startswith(self._prefix) else None
            if facts and facts.is_dir:
                found.append((facts.modified_s, path))
        return max(found)[1] if found else None

    def _check_space(self, staging: str | None) -> None:
        """Refuse before anything is sent, not in the middle of it."""
        held = 0
        for name, size in self._sizes.items():
            facts = self._transport.stat(posixpath.join(staging, name)) if staging else None
            held += min(_plain_size(facts), size)
        needed = self.total_bytes - held + MARGIN_BYTES
        free = self._transport.free_bytes(self._stagings)
        if free is not None and free < needed:
            raise self._full(needed, free)

    def _fill(self, staging: str) -> None:
        for folder in self._folders:
            self._transport.mkdir(posixpath.join(staging, folder), mode=0o700)
        for name, size in self._sizes.items():
            path = posixpath.join(staging, name)
            facts = self._transport.stat(path)
            held = _plain_size(facts)
            if facts and (held > size or facts.is_dir or facts.is_link):
                self._transport.remove(path)
                held = 0
            if 0 < held == size:
                # Whole, but who sent it may have been cut off before it was safe on the disk.
                self._transport.sync(path)
            else:
                self._send(name, path, held)

    def _send(self, name: str, path: str, offset: int) -> None:
        try:
            self._transport.put(self._parcel.root / name, path, offset=offset, progress=self._count)
        except ConnectionFailed:
            raise
        except DeviceError as error:
            # SFTP has no code for a full disk, so look: that a file did not fit is the usual cause.
            free = self._transport.free_bytes(self._stagings)
            if free is not None and free < min(self._sizes[name], MARGIN_BYTES):
                raise self._full(self._sizes[name], free) from error
            raise

    def _count(self, sent: int) -> None:
        self.sent_bytes += sent
        if self._progress:
            self._progress(sent)

    def _verify(self, staging: str) -> None:
        """Compare digests on the device; what differs is sent once more, whole."""
        damaged = self._differing(staging)
        for name in damaged:
            path = posixpath.join(staging, name)
            self._transport.remove(path)
            self._send(name, path, 0)
        if damaged and (damaged := self._differing(staging)):
            raise self._error(
                f"{damaged[0]} arrived damaged, twice",
                f"the {self._parcel.what} changed while it was read, or the device's storage is "
                "failing",
            )

    def _differing(self, folder: str) -> list[str]:
        """The files in ``folder`` that are missing or not what the manifest says."""
        found = digests.sha256(self._transport, folder, self._parcel.digests, self.total_bytes)
        return [name for name, digest in self._parcel.digests.items() if found.get(name) != digest]

    def _publish(self, staging: str) -> None:
        """Make a verified folder read-only, durable and visible, in this order."""
        purpose = f"make the {self._parcel.what} read-only"
        # The innermost first: a folder is durable when what it names is.
        folders = [posixpath.join(staging, folder) for folder in reversed(self._folders)]
        for batch in digests.batches((*folders, staging)):
            self._run(["sh", "-c", _SETTLE, "sh", staging, *batch], purpose, _SYNC_S)
        try:
            self._move(staging, self.home)
        except _Stolen:
            self._transport.remove(staging)
            raise
        # Not before: a folder that cannot be written to cannot be moved either.
        self._run(["chmod", "0555", self.home], purpose)
        self._transport.sync(self._shelf)

    def _move(self, old: str, new: str) -> None:
        """Rename a folder that another push may get hold of first.

        Raises:
            _Stolen: it did.
        """
        try:
            self._transport.rename(old, new)
        except ConnectionFailed:
            raise
        except DeviceError as error:
            if self._transport.stat(old) is None or self._transport.stat(new) is not None:
                raise _Stolen from error
            raise DeviceError(
                error.message, f"{self._stagings} and {self._shelf} must lie on the same disk"
            ) from error

    def _now_s(self) -> float:
        """The time by the device's own clock, which is what its files are dated by."""
        said = self._run(["date", "+%s"], "tell the time")
        try:
            return float(said.split()[-1])
        except (ValueError, IndexError) as error:
            raise self._error(f"`date +%s` said {clean(said)!r}") from error

    def _run(self, argv: list[str], purpose: str, timeout_s: float = 30.0) -> str:
        done = self._transport.run(argv, timeout_s=timeout_s)
        if not done.ok:
            reason = clean(done.stderr) or f"{argv[0]} ended with {done.signal or done.exit_status}"
            raise self._error(f"cannot {purpose}: {reason}")
        return done.stdout.decode("utf-8", "replace")

    def _full(self, needed: int, free: int) -> DeviceError:
        return self._error(
            f"not enough space under {self._transport.workdir}: {needed} bytes are needed, "
            f"{free} are free",
            _ELSEWHERE,
        )

    def _error(self, message: str, hint: str = "") -> DeviceError:
        return DeviceError(f"{self._transport.target}: {message}", hint)


def _plain_size(facts: FileFacts | None) -> int:
    """The size of a plain file; 0 for anything else."""
    return 0 if facts is None or facts.is_dir or facts.is_link else facts.size_bytes


def _above(name: str) -> list[str]:
    """The folders on the way to a file: ``a/b/c`` lies in ``a`` and ``a/b``."""
    parts = name.split("/")[:-1]
    return ["/".join(parts[: depth + 1]) for depth in range(len(parts))]
