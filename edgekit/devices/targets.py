"""The names of targets: ``local``, ``local:/dir`` and ``ssh://[user@]host[:port][/workdir]``.

``openssh://`` instead of ``ssh://`` goes by the system's ``ssh``; ``adb://SERIAL[/workdir]`` is an
Android device.
"""

from __future__ import annotations

import ipaddress
import re

from edgekit.domain import Target
from edgekit.errors import UsageError

_SSH = re.compile(
    r"(?P<transport>ssh|openssh)://(?:(?P<user>[^@/]*)@)?(?P<host>\[[^\]/]*\]|[^:/@\[\]]*)"
    r"(?::(?P<port>[^/:@]*))?(?P<workdir>/.*)?"
)
_ADB = re.compile(r"adb://(?P<serial>[\w.:\[\]][\w.:\[\]-]*|)(?P<workdir>/.*)?", re.ASCII)
_HINT = (
    "a target is `local`, `local:/absolute/folder`, `ssh://[user@]host[:port][/folder]`, or "
    "openssh:// for the system's ssh, or `adb://[serial][/folder]`; for example "
    "ssh://pi@raspberrypi:2222/~/edgekit"
)
_MAX_PORT = 65535


def parse(text: str) -> Target:
    """Read the name of a target.

    The folder of an ``ssh`` target is taken as it stands (no percent-encoding); ``/~/dir``
    lies in the remote user's home folder. An IPv6 address stands in brackets.

    Raises:
        UsageError: not the name of a target.
    """
    if not text.isprintable():
        raise UsageError("a target's name holds a control character", _HINT)
    if text == "local" or text.startswith("local:"):
        return _local(text)
    if text.startswith(("ssh://", "openssh://")):
        return _ssh(text)
    if match := _ADB.fullmatch(text):
        workdir = (match["workdir"] or "").rstrip("/") or None
        return Target(transport="adb", host=match["serial"], workdir=workdir)
    raise UsageError(f"{_without_password(text)!r} is not a target", _HINT)


def _local(text: str) -> Target:
    _, colon, workdir = text.partition(":")
    if colon and not workdir.startswith("/"):
        raise UsageError(f"{text!r}: expected an absolute folder, got {workdir!r}", _HINT)
    return Target(transport="local", workdir=workdir or None)


def _ssh(text: str) -> Target:
    shown = _without_password(text)
    match = _SSH.fullmatch(text)
    if match is None:
        raise UsageError(f"{shown!r} is not a target", _HINT)
    return Target(
        transport=match["transport"],
        host=_host(match["host"], shown),
        port=_port(match["port"], shown),
        user=_user(match["user"], shown),
        workdir=_workdir(match["workdir"], shown),
    )


def _user(user: str | None, shown: str) -> str | None:
    if user is None:
        return None
    if ":" in user:
        raise UsageError(
            f"{shown!r} holds a password; edgekit authenticates with keys only",
            "leave it out: use `ssh-copy-id` once, then a key or the ssh-agent",
        )
    if not user or user.startswith("-") or " " in user:
        raise UsageError(f"{shown!r}: expected a user's name before the @, got {user!r}", _HINT)
    return user


def _host(host: str, shown: str) -> str:
    if host.startswith("["):
        try:
            ipaddress.IPv6Address(host[1:-1])
        except ValueError as error:
            raise UsageError(f"{shown!r}: {host} is not an IPv6 address", _HINT) from error
        return host[1:-1]
    # A name with a leading dash would be an option to any program it is handed to.
    if not host or host.startswith("-") or " " in host:
        raise UsageError(f"{shown!r}: expected a host, got {host!r}", _HINT)
    return host


def _port(port: str | None, shown: str) -> int | None:
    if port is None:
        return None
    if not (port.isascii() and port.isdecimal() and 1 <= int(port) <= _MAX_PORT):
        raise UsageError(f"{shown!r}: expected a port from 1 to {_MAX_PORT}, got {port!r}", _HINT)
    return int(port)


def _workdir(workdir: str | None, shown: str) -> str | None:
    workdir = (workdir or "").rstrip("/")
    if workdir.startswith("/~") and not workdir.startswith("/~/"):
        raise UsageError(f"{shown!r}: expected a folder or /~/folder, got {workdir!r}", _HINT)
    return workdir or None


def _without_password(text: str) -> str:
    return re.sub(r"://[^@]*:[^@]*@", "://***@", text)
