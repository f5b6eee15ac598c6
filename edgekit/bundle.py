"""Bundles: written reproducibly, opened with suspicion, verified to the last byte.

A bundle is a directory, or one ``.edgekit`` zip of the same files, and a manifest that
lists every other file with its size and sha256. Its identity is the sha256 of the
manifest. Nothing in it depends on the time, the machine or the order of a listing.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from edgekit.domain import SCHEMA_VERSION, Manifest
from edgekit.errors import BundleError
from edgekit.publishing import files_in, is_plain, replacing

MANIFEST = "manifest.json"
SUFFIX = ".edgekit"
_EPOCH = (1980, 1, 1, 0, 0, 0)
_MAX_MANIFEST_BYTES = 16 * 1024 * 1024
_CHUNK = 1024 * 1024
_ZIP_ERRORS = (zipfile.BadZipFile, EOFError, RuntimeError, ValueError, ArithmeticError)
"""What ``zipfile`` raises over an archive that is none, or a hostile one."""


class Bundle(msgspec.Struct, frozen=True):
    """An open, verified bundle: every file under ``root`` is listed and matches its digest."""

    root: Path
    manifest: Manifest
    sha256: str

    @property
    def artifact(self) -> Path:
        return self.root / self.manifest.artifact.path

    @property
    def files(self) -> tuple[str, ...]:
        """Every file of the bundle, the manifest last: with it the bundle is complete."""
        return (*sorted(self.manifest.digests), MANIFEST)


def digest(path: Path) -> str:
    """The sha256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def complete(folder: Path, manifest: Manifest) -> str:
    """Write the manifest of the files in ``folder``, filling in their digests and sizes.

    Returns:
        The bundle's identity: the sha256 of the manifest.
    """
    files = sorted(files_in(folder) - {MANIFEST})
    manifest = msgspec.structs.replace(
        manifest,
        digests={name: digest(folder / name) for name in files},
        sizes_bytes={name: (folder / name).stat().st_size for name in files},
    )
    encoded = msgspec.json.format(msgspec.json.encode(manifest, order="deterministic")) + b"\n"
    (folder / MANIFEST).write_bytes(encoded)
    return hashlib.sha256(encoded).hexdigest()


def write(folder: Path, manifest: Manifest, destination: Path) -> str:
    """Complete ``folder`` and publish it; see ``complete`` and ``publish``."""
    sha256 = complete(folder, manifest)
    publish(folder, tuple(files_in(folder)), destination)
    return sha256


def check_destination(destination: Path) -> None:
    """Refuse early what ``publish`` would refuse late.

    Raises:
        BundleError: a folder that holds something else than a bundle, or a file where a
            folder is to be, or the other way round.
    """
    packed = destination.suffix == SUFFIX
    if destination.is_dir():
        if not packed and (_is_bundle(destination) or not any(destination.iterdir())):
            return
        found = "a folder" if packed else "a folder that holds something else"
    elif packed or not destination.exists():
        return
    else:
        found = "a file"
    raise BundleError(
        f"{destination} is {found}", f"name a file ending in {SUFFIX}, or an empty or new folder"
    )


def _is_bundle(folder: Path) -> bool:
    """Whether a bundle, damaged or not, is all that a folder holds."""
    try:
        listed = parse((folder / MANIFEST).read_bytes()).digests
    except (OSError, BundleError):
        return False
    return files_in(folder) <= {*listed, MANIFEST}


def publish(folder: Path, files: tuple[str, ...], destination: Path) -> None:
    """Write ``files`` aside and rename them to ``destination``: complete, or not at all.

    Raises:
        BundleError: the destination cannot be written, or is a folder that is no bundle.
    """
    check_destination(destination)
    try:
        with replacing(destination) as made:
            lay_out = _zip if destination.suffix == SUFFIX else _copy
            lay_out(folder, files, made)
    except OSError as error:
        raise BundleError(f"cannot write {destination}: {error.strerror}") from error


@contextmanager
def opened(path: Path) -> Iterator[Bundle]:
    """Open a bundle and verify it; a zip is unpacked into a temporary folder.

    Raises:
        BundleError: no bundle, damaged, holding what is not listed, or from a future version.
    """
    if path.is_dir():
        yield _verified(path)
    elif path.is_file():
        with tempfile.TemporaryDirectory(prefix="edgekit-bundle-") as folder:
            _unzip(path, Path(folder))
            yield _verified(Path(folder))
    else:
        raise BundleError(f"no such bundle: {path}", "`edgekit build` makes one")


def _verified(root: Path) -> Bundle:
    try:
        return _checked(root)
    except OSError as error:
        raise BundleError(f"cannot read {root}: {error.strerror or error}") from error


def _checked(root: Path) -> Bundle:
    path = root / MANIFEST
    if not path.is_file() or path.is_symlink():
        raise BundleError(f"{root} is not a bundle: it has no {MANIFEST}")
    if path.stat().st_size > _MAX_MANIFEST_BYTES:
        raise BundleError(f"{path} is larger than {_MAX_MANIFEST_BYTES} bytes")
    encoded = path.read_bytes()
    manifest = parse(encoded)
    _check_listing(root, manifest)
    for name, expected in manifest.digests.items():
        if (got := digest(root / name)) != expected:
            raise BundleError(
                f"{name} is not the file that was bundled: expected sha256 {expected[:12]}, "
                f"got {got[:12]}",
                "the bundle was damaged or changed: build or copy it again",
            )
    return Bundle(root, manifest, hashlib.sha256(encoded).hexdigest())


def parse(encoded: bytes) -> Manifest:
    """Decode a manifest.

    Raises:
        BundleError: not a manifest, or of a schema this edgekit does not know.
    """
    try:
        raw: dict[str, Any] = msgspec.json.decode(encoded, type=dict[str, Any])
        version = raw.get("schema_version")
        if version != SCHEMA_VERSION:
            raise BundleError(
                f"the bundle has manifest schema {version!r:.40}, "
                f"this edgekit knows {SCHEMA_VERSION}",
                "use the edgekit that made it, or a newer one",
            )
        manifest = msgspec.convert(raw, Manifest)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise BundleError(f"{MANIFEST} is malformed: {error}") from error
    for name in manifest.digests:
        _check_name(name)
    if half := sorted(manifest.digests.keys() ^ manifest.sizes_bytes.keys()):
        raise BundleError(f"{MANIFEST} gives {half[0]!r} a digest or a size, but not both")
    for name in _named(manifest):
        if name not in manifest.digests:
            raise BundleError(f"{MANIFEST} speaks of {name}, which it does not list")
    return manifest


def _named(manifest: Manifest) -> tuple[str, ...]:
    """Every file the manifest speaks of."""
    artifact, golden = manifest.artifact, manifest.golden
    return (*artifact.files, *golden.inputs, *golden.outputs)


def _check_name(name: str) -> None:
    if name == MANIFEST or not is_plain(name):
        raise BundleError(f"a bundle cannot hold a file named {name!r}")


def _check_listing(root: Path, manifest: Manifest) -> None:
    found: set[str] = set()
    for path in root.rglob("*"):
        mode = path.lstat().st_mode
        name = path.relative_to(root).as_posix()
        if stat.S_ISREG(mode):
            found.add(name)
        elif not stat.S_ISDIR(mode):
            raise BundleError(f"the bundle holds {name!r}, which is not a plain file")
    listed = {*manifest.digests, MANIFEST}
    if extra := sorted(found - listed):
        raise BundleError(f"the bundle holds {extra[0]!r}, which its manifest does not list")
    if missing := sorted(listed - found):
        raise BundleError(f"the bundle lacks {missing[0]!r}, which its manifest lists")
    for name, size in manifest.sizes_bytes.items():
        if name in found and (got := (root / name).stat().st_size) != size:
            raise BundleError(f"{name} is {got} bytes, its manifest says {size}")


def _zip(folder: Path, files: tuple[str, ...], made: Path) -> None:
    """A zip whose bytes follow from the files alone: stored, sorted, at a fixed time."""
    with zipfile.ZipFile(made, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, date_time=_EPOCH)
            entry.create_system = 3
            entry.external_attr = (stat.S_IFREG | 0o644) << 16
            entry.file_size = (folder / name).stat().st_size  # beyond 2 GiB it must be known ahead
            with (folder / name).open("rb") as source, archive.open(entry, "w") as target:
                shutil.copyfileobj(source, target, _CHUNK)
    with made.open("rb") as file:
        os.fsync(file.fileno())


def _copy(folder: Path, files: tuple[str, ...], made: Path) -> None:
    for name in files:
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / name, made / name)


def _unzip(path: Path, folder: Path) -> None:
    """Unpack by allow-list: what the manifest names, nothing twice, no more bytes than it says."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = _entries(archive, path)
            _extract(archive, entries.pop(MANIFEST), folder, _MAX_MANIFEST_BYTES)
            sizes = parse((folder / MANIFEST).read_bytes()).sizes_bytes
            for name, entry in entries.items():
                if name not in sizes:
                    raise BundleError(f"{path} holds {name!r}, which is not in its manifest")
                _extract(archive, entry, folder, sizes[name])
    except OSError as error:
        raise BundleError(f"cannot read {path}: {error.strerror or error}") from error
    except _ZIP_ERRORS as error:
        raise BundleError(
            f"{path} is not a bundle: {error}", "`edgekit build` makes one"
        ) from error


def _entries(archive: zipfile.ZipFile, path: Path) -> dict[str, zipfile.ZipInfo]:
    """The entries by name: stored as ``_zip`` stores them, so that none can be a zip bomb."""
    entries = archive.infolist()
    by_name = {entry.filename: entry for entry in entries}
    if len({name.casefold() for name in by_name}) != len(entries):
        raise BundleError(f"{path} holds a name twice")
    if MANIFEST not in by_name:
        raise BundleError(f"{path} is not a bundle: it has no {MANIFEST}")
    for entry in entries:
        if entry.compress_type != zipfile.ZIP_STORED:
            raise BundleError(f"{entry.filename!r} is compressed, a bundle stores its files")
    if sum(entry.file_size for entry in entries) > path.stat().st_size:
        raise BundleError(f"{path} unpacks to more than it holds: its entries overlap")
    return by_name


def _extract(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, folder: Path, limit: int) -> None:
    if entry.file_size > limit:
        raise BundleError(
            f"{entry.filename!r} is {entry.file_size} bytes, expected at most {limit}"
        )
    if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG):
        raise BundleError(f"{entry.filename!r} is not a plain file")
    target = folder / entry.filename
    target.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(entry) as source, target.open("xb") as file:
        while chunk := source.read(_CHUNK):
            file.write(chunk)
            if file.tell() > limit:
                raise BundleError(f"{entry.filename!r} unpacks to more than it says")
