"""Devices: what a target's name means, and how a connection to it is opened."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from edgekit.devices.targets import parse
from edgekit.devices.transport import Completed, FileFacts, Progress, Stream, Transport
from edgekit.domain import Target
from edgekit.errors import UsageError

__all__ = ["Completed", "FileFacts", "Progress", "Stream", "Transport", "connect", "parse"]

CONNECT_TIMEOUT_S = 15.0


@contextmanager
def connect(
    target: Target, *, accept_new: bool = False, timeout_s: float = CONNECT_TIMEOUT_S
) -> Iterator[Transport]:
    """Open a connection to ``target``; leaving the context closes it.

    Args:
        target: as :func:`parse` gives it.
        accept_new: record the key of a host that is not known yet; a key that differs
            from the recorded one is refused all the same.
        timeout_s: for each step of connecting: TCP, greeting, key exchange, authentication.

    Raises:
        UsageError: no such transport.
        HostKeyError: the host's key is unknown, changed or revoked.
        ConnectionFailed: the device cannot be reached or refuses the user.
    """
    opener = _OPENERS.get(target.transport)
    if opener is None:
        raise UsageError(
            f"no transport named {target.transport!r}; expected one of {', '.join(_OPENERS)}"
        )
    transport = opener(target, accept_new, timeout_s)
    try:
        yield transport
    finally:
        transport.close()


def _local(target: Target, accept_new: bool, timeout_s: float) -> Transport:  # noqa: ARG001
    from edgekit.devices.local import LocalTransport

    return LocalTransport(target)


def _ssh(target: Target, accept_new: bool, timeout_s: float) -> Transport:
    # Imported here: paramiko takes a fifth of a second that `local` need not pay.
    from edgekit.devices.ssh import SshTransport
    from edgekit.devices.ssh_connection import Connection

    return SshTransport(target, Connection(target, accept_new=accept_new, timeout_s=timeout_s))


def _openssh(target: Target, accept_new: bool, timeout_s: float) -> Transport:
    from edgekit.devices.openssh import OpensshConnection
    from edgekit.devices.ssh import SshTransport

    connection = OpensshConnection(target, accept_new=accept_new, timeout_s=timeout_s)
    return SshTransport(target, connection)


def _adb(target: Target, accept_new: bool, timeout_s: float) -> Transport:  # noqa: ARG001
    from edgekit.devices.adb import AdbTransport

    return AdbTransport(target, timeout_s=timeout_s)


_OPENERS: dict[str, Callable[[Target, bool, float], Transport]] = {
    "local": _local,
    "ssh": _ssh,
    "openssh": _openssh,
    "adb": _adb,
}
