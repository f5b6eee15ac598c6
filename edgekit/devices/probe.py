"""What a device is and holds: its Python interpreters, and which of them can run a bundle."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from edgekit import resources
from edgekit.devices.output import clean
from edgekit.devices.transport import Completed, Transport
from edgekit.domain import DeviceFacts, DeviceRuntimeFound
from edgekit.errors import BundleError, DeviceError, DeviceRuntimeMissing, RunnerFailed

_FACTS_S = 120.0
"""Importing a runtime from an SD card takes its time."""

_IDENTITY_S = 30.0
# An environment's python links to the one it was made from, but is not the same: see its prefix.
_IDENTITY = (
    "import json, os, sys; print(json.dumps([os.path.realpath(sys.executable), sys.prefix]))"
)
_OF_THE_SYSTEM = {
    "coreml": (
        "a Mac with Xcode, and macOS",
        "measure on a Mac: install Xcode there, open it once, then: "
        "sudo xcode-select --switch /Applications/Xcode.app",
    )
}
"""Runtimes that no package manager installs: what they are part of, and how to get that."""

_MAX_TEXT = 4000
_MAX_RUNTIMES = 32


def probe(transport: Transport, *, python: str | None = None) -> tuple[DeviceFacts, ...]:
    """The facts of every interpreter on the device that answers, each once.

    Args:
        transport: an open connection.
        python: an interpreter to ask first; it must answer.

    Returns:
        One per interpreter, in order: ``python``, those the transport knows of (its own,
        on this machine), those edgekit provisioned, ``python3`` and ``python`` from the
        PATH. Empty when the device has no Python.

    Raises:
        ConnectionFailed: the connection was lost.
        RunnerFailed: ``python``, or every interpreter there is, gave no facts.
    """
    runner = resources.runner().read_bytes()
    seen: set[tuple[str, ...]] = set()
    found: list[DeviceFacts] = []
    failed: list[RunnerFailed] = []
    for candidate in _candidates(transport, python):
        identity = _identity(transport, candidate)
        if identity is None and candidate == python:
            raise RunnerFailed(
                f"{transport.target}: {python} is not a Python interpreter there",
                "give its absolute path, or leave it out to have edgekit look for one",
            )
        if identity is None or identity in seen:
            continue
        seen.add(identity)
        try:
            found.append(_facts(transport, candidate, runner))
        except RunnerFailed as error:
            if candidate == python:
                raise
            failed.append(error)
    if failed and not found:
        raise failed[0]
    return tuple(found)


def choose(
    facts: Sequence[DeviceFacts], runtimes: Mapping[str, str]
) -> tuple[DeviceFacts, DeviceRuntimeFound]:
    """The first interpreter with a runtime that will do, and NumPy where that needs it.

    Args:
        facts: as :func:`probe` gives them.
        runtimes: module that provides the runtime -> PEP 440 specifier of the versions
            that will do, in order of preference; prereleases count.

    Raises:
        DeviceRuntimeMissing: there is none; the message says what there is.
        BundleError: a specifier that is none.
    """
    wanted = {module: _specifiers(versions) for module, versions in runtimes.items()}
    for fact in facts:
        for module, specifiers in wanted.items():
            for runtime in fact.runtimes:
                able = fact.numpy_version or module in _OF_THE_SYSTEM
                if able and runtime.module == module and _fits(runtime, specifiers):
                    return fact, runtime
    raise _missing(facts, runtimes)


def _specifiers(versions: str) -> SpecifierSet:
    try:
        return SpecifierSet(versions, prereleases=True)
    except InvalidSpecifier as error:
        raise BundleError(f"the bundle asks for the versions {versions!r}: {error}") from error


def _candidates(transport: Transport, python: str | None) -> Iterator[str]:
    if python:
        yield python
    yield from transport.pythons
    runtimes = posixpath.join(transport.workdir, "runtimes")
    for name in transport.listdir(runtimes)[:_MAX_RUNTIMES]:
        yield posixpath.join(runtimes, name, "bin", "python3")
    yield from ("python3", "python")


def _identity(transport: Transport, python: str) -> tuple[str, ...] | None:
    """What tells an interpreter from another name of itself; ``None`` when there is none."""
    done = transport.run([python, "-c", _IDENTITY], timeout_s=_IDENTITY_S)
    if not done.ok:
        return None
    try:
        return msgspec.json.decode(_last_line(done), type=tuple[str, ...])
    except msgspec.DecodeError:
        return None


def _facts(transport: Transport, python: str, runner: bytes) -> DeviceFacts:
    done = transport.run([python, "-", "facts"], stdin=runner, timeout_s=_FACTS_S)
    if not done.ok:
        how = done.signal or f"status {done.exit_status}"
        raise RunnerFailed(
            f"{transport.target}: {python} gave no facts but ended with {how}: "
            f"{clean(done.stderr) or 'it said nothing'}",
            "edgekit needs Python 3.8 or newer on the device",
        )
    try:
        raw = msgspec.json.decode(_last_line(done), type=dict[str, Any])
        if raw.get("event") != "facts":
            raise RunnerFailed(f"{transport.target}: {python} spoke of something else than facts")
        return msgspec.convert(_cleaned(raw), DeviceFacts)
    except msgspec.MsgspecError as error:
        raise RunnerFailed(
            f"{transport.target}: the facts that {python} gave make no sense: {error}"
        ) from error


def _last_line(done: Completed) -> bytes:
    """Login scripts and libraries print what they like before."""
    return (done.stdout.strip().splitlines() or [b""])[-1]


def _cleaned(value: Any) -> Any:
    """Texts from the device end up on terminals and in reports: bound and disarm them all."""
    if isinstance(value, str):
        return clean(value, _MAX_TEXT)
    if isinstance(value, list):
        return [_cleaned(item) for item in value]
    if isinstance(value, dict):
        return {key: _cleaned(item) for key, item in value.items()}
    return value


def _fits(runtime: DeviceRuntimeFound, wanted: SpecifierSet) -> bool:
    try:
        return Version(runtime.version) in wanted
    except InvalidVersion:
        return False


def _missing(facts: Sequence[DeviceFacts], runtimes: Mapping[str, str]) -> DeviceError:
    for module in runtimes.keys() & _OF_THE_SYSTEM.keys():
        needed, hint = _OF_THE_SYSTEM[module]
        found = "; ".join(_described(fact) for fact in facts) or "no Python"
        return DeviceRuntimeMissing(
            f"the bundle needs {needed} {runtimes[module]}".rstrip() + f"; found {found}", hint
        )
    packages = {module.replace("_", "-"): versions for module, versions in runtimes.items()}
    needed = " or ".join(f"{package} {versions}".strip() for package, versions in packages.items())
    first = "".join(next(iter(packages.items())))
    if not facts:
        return DeviceRuntimeMissing(
            f"the device has no Python; the bundle needs NumPy and {needed}",
            f"install Python 3.8 or newer there, then: python3 -m pip install numpy '{first}'; "
            "on a phone Termux has it, and an SSH server (pkg install python openssh), which "
            "ssh://PHONE:8022 reaches",
        )
    return DeviceRuntimeMissing(
        f"the device lacks what the bundle needs: NumPy and {needed} in one Python; found "
        + "; ".join(_described(fact) for fact in facts),
        "--provision has edgekit install it there, without network on the device; or do it "
        f"yourself: {facts[0].python} -m pip install numpy '{first}'",
    )


def _described(fact: DeviceFacts) -> str:
    numpy = f"NumPy {fact.numpy_version}" if fact.numpy_version else "no NumPy"
    runtimes = ", ".join(f"{r.module} {r.version}" for r in fact.runtimes) or "no runtime"
    return f"{fact.python} ({fact.python_version}): {numpy}, {runtimes}"
