"""An authenticated SSH connection: the way there, the proof of who is there, and its watchdog."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any

import paramiko

from edgekit.devices import ssh_config
from edgekit.devices.hostkeys import HostKey, KnownHosts
from edgekit.devices.output import clean
from edgekit.devices.ssh_config import Endpoint
from edgekit.domain import Target
from edgekit.errors import ConnectionFailed, ConnectionLost, EdgekitError

UNRESPONSIVE_S = 4.0
"""A device that says nothing for so long, though asked to, is given up."""

_LIFE_SIGNS = 10
_PINGS = 5
# GCM first: with it a push runs at wire speed, where CTR with a MAC takes twice the time.
_CIPHERS = (
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "aes128-ctr",
    "aes192-ctr",
    "aes256-ctr",
)
_DIGESTS = (
    "hmac-sha2-256-etm@openssh.com",
    "hmac-sha2-512-etm@openssh.com",
    "hmac-sha2-256",
    "hmac-sha2-512",
)
_RSA = ("rsa-sha2-512", "rsa-sha2-256")
_LOST = (OSError, EOFError, paramiko.SSHException)

# Errors are raised here, with what to do about them; paramiko's own log would only repeat them.
logging.getLogger("paramiko").addHandler(logging.NullHandler())


class Connection:
    """The transport to a target and those to the hosts on the way.

    Args:
        target: whom to connect to; ``~/.ssh/config`` applies.
        accept_new: record the keys of hosts that are not known yet.
        timeout_s: for each step, on each hop.
        unresponsive_s: silence after which the connection is given up.

    Raises:
        HostKeyError: a host's key is unknown, changed or revoked.
        ConnectionFailed: a host cannot be reached or refuses the user.
    """

    def __init__(
        self,
        target: Target,
        *,
        accept_new: bool = False,
        timeout_s: float = 15.0,
        unresponsive_s: float = UNRESPONSIVE_S,
    ) -> None:
        self._transports: list[Any] = []
        self._stopped = Event()
        try:
            for endpoint in ssh_config.route(target):
                self._wire = _Wire(self._socket(endpoint, timeout_s))
                self._transports.append(paramiko.Transport(self._wire))
                _greet(self.transport, endpoint, accept_new, timeout_s)
                _authenticate(self.transport, endpoint)
        except BaseException:
            self.close()
            raise
        self._endpoint = endpoint
        self._unresponsive_s = unresponsive_s
        self._silent = False
        for work in (self._ping, self._watch):
            Thread(target=work, daemon=True, name=f"edgekit-ssh{work.__name__}").start()

    @property
    def transport(self) -> Any:
        """paramiko's transport to the target."""
        return self._transports[-1]

    @property
    def is_alive(self) -> bool:
        return bool(self.transport.is_active())

    def lost(self, doing: str) -> ConnectionLost:
        """The error that says that, and as far as known why, the connection ended."""
        why = "the connection was lost"
        if self._silent:
            why = f"the device did not answer for {self._unresponsive_s:g} s"
        return ConnectionLost(
            f"{self._endpoint}: {why} while {doing}", "check the device and the network, and retry"
        )

    def close(self) -> None:
        self._stopped.set()
        # The first hop first: closing a later one would wait for what can no longer be sent.
        for transport in self._transports:
            with suppress(*_LOST):
                transport.close()
                transport.sock.close()

    def _socket(self, endpoint: Endpoint, timeout_s: float) -> Any:
        if not self._transports:
            return _connect(endpoint, timeout_s)
        try:
            return self.transport.open_channel(
                "direct-tcpip", (endpoint.host, endpoint.port), ("127.0.0.1", 0), timeout=timeout_s
            )
        except Exception as error:  # As in _authenticate.
            raise ConnectionFailed(
                f"{endpoint} cannot be reached through the jump host: {clean(str(error))}",
                "check the address as the jump host sees it, and that it allows forwarding",
            ) from error

    def _ping(self) -> None:
        """Ask for signs of life: a request that even a server that denies it answers."""
        with suppress(*_LOST):
            while self.is_alive and not self._stopped.wait(self._unresponsive_s / _PINGS):
                self.transport.global_request("keepalive@openssh.com", wait=True)

    def _watch(self) -> None:
        """Close the connection after silence: nothing in paramiko ever would."""
        heard, silent = -1, 0
        # Counted in short waits, not by a clock: a host that slept must not blame the device.
        while self.is_alive and not self._stopped.wait(self._unresponsive_s / _LIFE_SIGNS):
            silent = silent + 1 if self._wire.heard == heard else 0
            heard = self._wire.heard
            if silent >= _LIFE_SIGNS:
                self._silent = True
                self.close()


class _Wire:
    """A socket that counts how often the other side was heard."""

    def __init__(self, wire: Any) -> None:
        self._wire = wire
        self.heard = 0

    def recv(self, size: int) -> bytes:
        data: bytes = self._wire.recv(size)
        self.heard += 1
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._wire, name)


def _connect(endpoint: Endpoint, timeout_s: float) -> socket.socket:
    try:
        wire = socket.create_connection((endpoint.host, endpoint.port), timeout_s)
    except socket.gaierror as error:
        raise ConnectionFailed(
            f"{endpoint}: the name {endpoint.host} cannot be resolved", "check the host's name"
        ) from error
    except ConnectionRefusedError as error:
        raise ConnectionFailed(
            f"{endpoint} refused the connection",
            "check that an SSH server runs there, on that port",
        ) from error
    except TimeoutError as error:
        raise ConnectionFailed(
            f"{endpoint} did not answer within {timeout_s:g} s",
            "check that the device is on and the network reaches it",
        ) from error
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConnectionFailed(f"{endpoint} cannot be reached: {reason}") from error
    # Without it small requests wait for each other's acknowledgements: 1 MiB/s instead of 50.
    wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return wire


def _greet(transport: Any, endpoint: Endpoint, accept_new: bool, timeout_s: float) -> None:
    """Agree on algorithms and make sure that the host is the right one."""
    known = KnownHosts(endpoint)
    options = transport.get_security_options()
    options.ciphers, options.digests = _CIPHERS, _DIGESTS
    options.key_types = _preferred(known.key_types, tuple(options.key_types))
    transport.banner_timeout = transport.handshake_timeout = transport.auth_timeout = timeout_s
    started = time.monotonic()
    try:
        transport.start_client(timeout=2 * timeout_s)
        key = transport.get_remote_server_key()
    except Exception as error:  # A hostile greeting makes paramiko raise anything.
        if time.monotonic() - started >= timeout_s:
            raise ConnectionFailed(
                f"{endpoint} accepted the connection but did not finish the SSH greeting "
                f"within {timeout_s:g} s",
                "check that this is an SSH server; the device may be overloaded",
            ) from error
        raise ConnectionLost(
            f"{endpoint} did not speak SSH as expected: {clean(str(error)) or 'it hung up'}",
            "check the port; the server may limit how many connect at once",
        ) from error
    known.verify(HostKey(key.get_name(), key.asbytes()), accept_new=accept_new)


def _preferred(known: tuple[str, ...], types: tuple[str, ...]) -> tuple[str, ...]:
    """The types of the recorded keys first: a known host must not appear as unknown."""
    wanted = [t for name in known for t in (_RSA if name == "ssh-rsa" else (name,)) if t in types]
    return tuple(dict.fromkeys((*wanted, *types)))


def _authenticate(transport: Any, endpoint: Endpoint) -> None:
    """Offer the user's keys in turn.

    Raises:
        ConnectionFailed: none was accepted; the message lists them.
    """
    tried: list[str] = []
    agent = _agent()
    try:
        for name, key in _keys(endpoint, agent, tried):
            tried.append(name)
            try:
                remaining = transport.auth_publickey(endpoint.user, key)
            except paramiko.BadAuthenticationType as error:
                raise _denied(endpoint, tried, f"it only takes {error.allowed_types}") from error
            except paramiko.AuthenticationException:
                if not transport.is_active():
                    raise _denied(endpoint, tried, "then it hung up") from None
                continue
            if not remaining:
                return
            raise _denied(endpoint, tried, f"it also asks for {', '.join(remaining)}")
    except EdgekitError:
        raise
    except Exception as error:  # Whatever ended paramiko's thread, a damaged packet too, is here.
        raise ConnectionLost(
            f"{endpoint}: the connection was lost while logging in: {clean(str(error))}",
            "the server may limit how many connect at once",
        ) from error
    finally:
        if agent:
            agent.close()
    raise _denied(endpoint, tried, "")


def _denied(endpoint: Endpoint, tried: list[str], why: str) -> ConnectionFailed:
    message = f"{endpoint} does not let {endpoint.user} in; tried: {', '.join(tried) or 'no key'}"
    return ConnectionFailed(
        f"{message} ({clean(why)})" if why else message,
        f"give it your key with `ssh-copy-id -p {endpoint.port} {endpoint.user}@{endpoint.host}`, "
        "or load the right one with `ssh-add`; edgekit asks for no passwords",
    )


def _keys(endpoint: Endpoint, agent: Any, tried: list[str]) -> Iterator[tuple[str, Any]]:
    """The keys to offer: servers count attempts, so those that were named come first."""
    held = {key.asbytes(): key for key in (agent.get_keys() if agent else ())}
    for path in endpoint.identities:
        if (public := _public(path)) in held:
            yield f"{path.name} (ssh-agent)", held.pop(public)
        elif path.is_file():
            try:
                yield path.name, paramiko.PKey.from_path(path)
            except (paramiko.PasswordRequiredException, TypeError):
                tried.append(f"{path.name} (not usable: it needs a passphrase and the ssh-agent)")
            except (OSError, ValueError, paramiko.SSHException, paramiko.UnknownKeyType):
                tried.append(f"{path.name} (not usable: unreadable)")
    if not endpoint.identities_only:
        for key in held.values():
            yield f"{clean(key.comment or key.get_name(), 60)} (ssh-agent)", key


def _public(path: Path) -> bytes | None:
    """The public half that lies beside a private key."""
    try:
        return bytes(paramiko.PublicBlob.from_file(f"{path}.pub").key_blob)
    except (OSError, ValueError, paramiko.SSHException):
        return None


def _agent() -> Any:
    try:
        return paramiko.Agent()
    except (OSError, paramiko.SSHException):
        return None
