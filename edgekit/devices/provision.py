"""A runtime onto a device that has none: packed here, pushed, and installed there offline.

``<workdir>/runtimes/<name>`` is a whole environment, or absent; :mod:`edgekit.devices.probe`
looks there. What was sent is removed once it is installed.
"""

from __future__ import annotations

import posixpath
import secrets
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from edgekit import resources
from edgekit.devices import wheels
from edgekit.devices.output import clean
from edgekit.devices.probe import probe
from edgekit.devices.push import MARGIN_BYTES, Parcel, send
from edgekit.devices.transport import Transport
from edgekit.devices.wheels import Packed
from edgekit.domain import DeviceFacts
from edgekit.errors import DeviceError, DeviceRuntimeMissing
from edgekit.observer import OnStage, silent

_SHELF = "wheels"
_INSTALL_S = 1800.0


class Equipment(Struct, frozen=True, kw_only=True):
    """Which Python on the device runs a bundle, and what may be done for it.

    Attributes:
        python: that one; ``None``: the first that has the runtime.
        provision: install the runtime there, if none will do.
        wheels: a folder of wheels to install from; ``None``: the package index that uv is
            configured for.
    """

    python: str | None = None
    provision: bool = False
    wheels: Path | None = None


AS_IT_IS = Equipment()


def provision(
    transport: Transport,
    facts: Sequence[DeviceFacts],
    runtimes: Mapping[str, str],
    *,
    preferred: Mapping[str, str] | None = None,
    source: Path | None = None,
    on_stage: OnStage = silent,
) -> DeviceFacts:
    """Install the first runtime that one of the device's interpreters can have.

    Args:
        transport: an open connection; the device itself needs no other.
        facts: of the interpreters there, in the order to try them.
        runtimes: module -> PEP 440 specifier, in order of preference.
        preferred: package -> the version to take where there is a wheel of it.
        source: a folder of wheels; ``None``: the package index that uv is configured for.
        on_stage: told what is under way.

    Returns:
        The facts of the interpreter that has it now.

    Raises:
        DeviceRuntimeMissing: no interpreter there, or no wheels for any; nothing was sent.
        ToolError: no network here, or no such folder of wheels.
        ConnectionFailed: the connection was lost; a retry continues where it broke.
        DeviceError: no space, or what was installed does not load there.
    """
    if not facts:
        raise DeviceRuntimeMissing(
            f"{transport.target}: there is no Python, and edgekit installs runtimes, not Python",
            "install Python 3.8 or newer there (with its module venv), and try again; on a phone "
            "Termux has it",
        )
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        on_stage("provision", f"wheels for {facts[0].machine}, Python {facts[0].python_version}")
        base, packed = _packed(facts, runtimes, Path(folder), preferred or {}, source)
        on_stage("provision", f"{packed.name}, {packed.archive.stat().st_size / 1e6:.1f} MB")
        home = _sent(transport, packed)
        on_stage("provision", f"installing into {transport.workdir}/runtimes/{packed.name}")
        python = _installed(transport, base, packed, home)
    return probe(transport, python=python)[0]


def _packed(
    facts: Sequence[DeviceFacts],
    runtimes: Mapping[str, str],
    folder: Path,
    preferred: Mapping[str, str],
    source: Path | None,
) -> tuple[DeviceFacts, Packed]:
    """The first interpreter that there is something for, and what."""
    refused: list[DeviceRuntimeMissing] = []
    for index, fact in enumerate(facts):
        work = folder / str(index)
        work.mkdir()
        try:
            packed = wheels.pack(fact, runtimes, work, preferred=preferred, wheels=source)
        except DeviceRuntimeMissing as error:
            refused.append(error)
        else:
            return fact, packed
    raise refused[0]


def _sent(transport: Transport, packed: Packed) -> str:
    transport.mkdir(transport.workdir)
    free = transport.free_bytes(transport.workdir)
    needed = packed.archive.stat().st_size + packed.unpacked_bytes + MARGIN_BYTES
    if free is not None and free < needed:
        raise DeviceError(
            f"{transport.target}: not enough space for {packed.name} under {transport.workdir}: "
            f"{needed} bytes are needed, {free} are free",
            "make room there, or use a working folder on another disk",
        )
    parcel = Parcel(
        what=packed.name,
        shelf=_SHELF,
        root=packed.archive.parent,
        digests={packed.archive.name: packed.sha256},
        sha256=packed.sha256,
    )
    return send(transport, parcel).path


def _installed(transport: Transport, base: DeviceFacts, packed: Packed, home: str) -> str:
    """Unpack and try it there; the path of its interpreter."""
    final = posixpath.join(transport.workdir, "runtimes", packed.name)
    staging = posixpath.join(transport.workdir, "staging", f"runtime-{secrets.token_hex(8)}")
    archive = posixpath.join(home, packed.archive.name)
    done = transport.run(
        [base.python, "-", archive, staging, final, packed.imported],
        stdin=resources.installer().read_bytes(),
        timeout_s=_INSTALL_S,
    )
    transport.remove(home)
    if not done.ok:
        why = clean(done.stderr) or done.signal or f"status {done.exit_status}"
        raise DeviceError(
            f"{transport.target}: {packed.name} cannot be installed: {why}",
            f"it was made for {base.abi}, {base.libc}; nothing of it was left there",
        )
    return posixpath.join(final, "bin", "python3")
