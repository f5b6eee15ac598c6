"""Host keys: whether a host is the one that the user knows, as OpenSSH's known_hosts say.

Unknown keys are refused unless the user accepts new ones; keys that differ from the
recorded ones, and revoked ones, always are. Nothing recorded is ever replaced.
"""

from __future__ import annotations

import base64
import binascii
import fnmatch
import hashlib
import hmac
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from edgekit.devices.ssh_config import DEFAULT_PORT, Endpoint
from edgekit.errors import ConnectionFailed, HostKeyError

_REVOKED = "@revoked"
_AUTHORITY = "@cert-authority"
_FIELDS = 3


class HostKey(NamedTuple):
    """A public key as it goes over the wire."""

    type: str
    blob: bytes

    @property
    def fingerprint(self) -> str:
        digest = hashlib.sha256(self.blob).digest()
        return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


class _Entry(NamedTuple):
    marker: str
    names: str
    key: HostKey
    where: str


class KnownHosts:
    """What is recorded about one host.

    Raises:
        ConnectionFailed: a known_hosts file cannot be read.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._name = name_of(endpoint)
        files = (*endpoint.user_known_hosts, *endpoint.global_known_hosts)
        entries = [entry for file in files for entry in _entries(file)]
        self._entries = [entry for entry in entries if _is_named(self._name, entry.names)]
        # A key that is recorded for the host itself is good on its other ports, as for ssh.
        self._portless = [e for e in entries if _is_named(endpoint.key_name, e.names)]

    @property
    def key_types(self) -> tuple[str, ...]:
        """The types of the recorded keys: to be asked of the host before any other."""
        entries = [e for e in (*self._entries, *self._portless) if not e.marker]
        return tuple(dict.fromkeys(entry.key.type for entry in entries))

    def verify(self, key: HostKey, *, accept_new: bool) -> None:
        """Return if ``key`` is recorded, or has just been.

        Raises:
            HostKeyError: unknown, changed, revoked, or known through an authority only.
        """
        both = (*self._entries, *self._portless)
        if revoked := [e for e in both if e.marker == _REVOKED and e.key == key]:
            raise HostKeyError(
                f"the {key.type} host key {key.fingerprint} of {self._endpoint} is revoked "
                f"({revoked[0].where})",
                "do not connect; ask whoever runs the device",
            )
        if any(not entry.marker and entry.key == key for entry in both):
            return
        if recorded := [entry for entry in self._entries if not entry.marker]:
            raise self._changed(key, recorded[0])
        if not accept_new:
            raise self._unknown(key)
        if self._endpoint.user_known_hosts:
            _record(self._endpoint.user_known_hosts[0], self._name, key)

    def _changed(self, key: HostKey, recorded: _Entry) -> HostKeyError:
        return HostKeyError(
            f"the host key of {self._endpoint} has changed: expected {recorded.key.type} "
            f"{recorded.key.fingerprint} ({recorded.where}), got {key.type} {key.fingerprint}",
            "someone may be listening in, or the device was set up anew; if you know that it "
            f"was: ssh-keygen -R '{self._name}'",
        )

    def _unknown(self, key: HostKey) -> HostKeyError:
        named = f"the {key.type} host key {key.fingerprint} of {self._endpoint}"
        if any(entry.marker == _AUTHORITY for entry in self._entries):
            return HostKeyError(
                f"{named} is only vouched for by a @cert-authority, which edgekit does not support",
                "write openssh:// instead of ssh://, to go by the system's ssh",
            )
        return HostKeyError(
            f"{named} is not known",
            "compare the fingerprint on the device (ssh-keygen -lf /etc/ssh/ssh_host_*_key.pub), "
            "then use --accept-new to record it",
        )


def name_of(endpoint: Endpoint) -> str:
    """What known_hosts calls a host: ``[host]:port`` when the port is not the usual one."""
    if endpoint.is_alias or endpoint.port == DEFAULT_PORT:
        return endpoint.key_name
    return f"[{endpoint.key_name}]:{endpoint.port}"


def _entries(path: Path) -> Iterator[_Entry]:
    """The entries of a file; lines that are not understood are passed over, as by ssh."""
    try:
        text = path.read_text("utf-8", "replace")
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise ConnectionFailed(f"cannot read {path}: {error.strerror}") from error
    for number, line in enumerate(text.splitlines(), 1):
        fields = line.split()
        marker = fields.pop(0) if line.startswith("@") else ""
        if len(fields) < _FIELDS or line.startswith("#"):
            continue
        try:
            blob = base64.b64decode(fields[2], validate=True)
        except binascii.Error:
            continue
        yield _Entry(marker, fields[0], HostKey(fields[1], blob), f"{path}, line {number}")


def _is_named(name: str, names: str) -> bool:
    """Whether the first field of a line, hashed or a pattern list, stands for ``name``."""
    if names.startswith("|1|"):
        return _is_hash_of(name, names)
    found = False
    for pattern in names.lower().split(","):
        # Brackets belong to the name here: only * and ? are special.
        if fnmatch.fnmatchcase(name, pattern.removeprefix("!").replace("[", "[[]")):
            if pattern.startswith("!"):
                return False
            found = True
    return found


def _is_hash_of(name: str, hashed: str) -> bool:
    try:
        salt, expected = (base64.b64decode(part, validate=True) for part in hashed[3:].split("|"))
    except (binascii.Error, ValueError):
        return False
    return hmac.compare_digest(hmac.digest(salt, name.encode(), "sha1"), expected)


def _record(path: Path, name: str, key: HostKey) -> None:
    """Append a key, with the folder and the file as private as OpenSSH makes them."""
    line = f"{name} {key.type} {base64.b64encode(key.blob).decode()}\n"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        with os.fdopen(os.open(path, flags, 0o600), "r+b", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            if size and os.pread(file.fileno(), 1, size - 1) != b"\n":
                line = "\n" + line
            file.write(line.encode())
    except OSError as error:
        raise ConnectionFailed(
            f"cannot record the host key of {name} in {path}: {error.strerror}"
        ) from error
