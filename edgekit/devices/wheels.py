"""The wheels of a runtime for a device's Python, fetched and packed on this machine.

What will not run there (another processor, C library or Python) is refused here: the tags of
the wheels are held against the device's interpreter, and every library in them is looked into.
"""

from __future__ import annotations

import hashlib
import re
import struct
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec import Struct
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from edgekit.domain import DeviceFacts
from edgekit.errors import DeviceRuntimeMissing, ToolError
from edgekit.toolchain import process
from edgekit.toolchain.process import Limits


class Needs(Struct, frozen=True):
    """What a runtime is installed with, and what has to be imported to load its libraries."""

    numpy: str
    imported: str


RUNTIMES = {
    "ai_edge_litert": Needs("numpy", "ai_edge_litert.interpreter"),
    "onnxruntime": Needs("numpy", "onnxruntime"),
    # Its last release was compiled against NumPy 1, and says so nowhere.
    "tflite_runtime": Needs("numpy<2", "tflite_runtime.interpreter"),
}
"""The runtimes that edgekit installs, by module."""

_GLIBC = (17, 28, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40)
"""The versions 2.x of manylinux that uv resolves for."""

_ABI = re.compile(r"cpython-(?P<python>\d+)-(?P<machine>aarch64|x86_64)-linux-(gnu|musl)")
_ELF_MACHINES = {183: "aarch64", 62: "x86_64", 40: "arm", 3: "i386"}
_ELF_HEAD = struct.Struct("<4s12x2xH")
_LIMITS = Limits(seconds=900)
_NO_SOLUTION = 1
"""uv's status when there are no such wheels; whatever else goes wrong has another."""

_SAID = 700
_LEVEL = 1
"""Harder work takes three times as long for a tenth fewer bytes."""

# An archive of the same files is the same archive: the moment of its making is no part of it.
_EPOCH = (1980, 1, 1, 0, 0, 0)


class Packed(Struct, frozen=True, kw_only=True):
    """A runtime, ready to be sent.

    Attributes:
        name: package, version, Python and a digest: what it is called on the device.
        imported: the module that loads its libraries.
        archive: a zip of what belongs into ``site-packages``; its ``sha256``.
        unpacked_bytes: what it takes on the device.
    """

    name: str
    imported: str
    version: str
    archive: Path
    sha256: str
    unpacked_bytes: int


def pack(
    facts: DeviceFacts,
    runtimes: Mapping[str, str],
    folder: Path,
    *,
    preferred: Mapping[str, str] | None = None,
    wheels: Path | None = None,
) -> Packed:
    """Fetch the first of some runtimes that there are wheels of, and pack it.

    Args:
        facts: of the interpreter it is for.
        runtimes: module -> PEP 440 specifier, in order of preference.
        folder: where to work, and to leave the archive.
        preferred: package -> the version to take where there is a wheel of it: the one that
            a bundle was validated with.
        wheels: a folder to take them from, without any network.

    Raises:
        DeviceRuntimeMissing: nothing for this interpreter; the message says why.
        ToolError: no network, or no such folder.
    """
    platform = _platform(facts)
    refusals: list[str] = []
    for module, versions in _offered(runtimes).items():
        for pin in _pins(module, versions, preferred or {}):
            tree = folder / f"tree-{len(refusals)}"
            refusal = _fetch([pin, RUNTIMES[module].numpy], facts, platform, tree, wheels)
            if refusal is None:
                _check_machine(tree, facts)
                return _packed(tree, module, facts, folder / "runtime.zip")
            refusals.append(f"{pin}: {refusal}")
    raise DeviceRuntimeMissing(
        f"no wheels for {_described(facts)}: " + "; ".join(refusals),
        "build the bundle for a runtime that this Python can have, or give the device another "
        "Python",
    )


def _offered(runtimes: Mapping[str, str]) -> dict[str, str]:
    offered = {module: v for module, v in runtimes.items() if module in RUNTIMES}
    if not offered:
        raise DeviceRuntimeMissing(
            f"edgekit cannot install what the bundle needs: {', '.join(runtimes)}",
            f"what it can install: {', '.join(map(_package, RUNTIMES))}",
        )
    return offered


def _pins(module: str, versions: str, preferred: Mapping[str, str]) -> list[str]:
    """The requirements to try in turn: the version that was validated, then any that will do."""
    package = _package(module)
    pin = preferred.get(package)
    exact = [f"{package}=={pin}"] if pin and SpecifierSet(versions).contains(pin, True) else []
    return [*exact, f"{package}{versions}"]


def _package(module: str) -> str:
    return module.replace("_", "-")


def _platform(facts: DeviceFacts) -> str:
    """uv's name for what wheels have to be made for.

    Raises:
        DeviceRuntimeMissing: there are no wheels for such a device.
    """
    abi = _ABI.match(facts.abi)
    if facts.system != "Linux" or abi is None:
        raise DeviceRuntimeMissing(
            f"edgekit installs no runtime for {_described(facts)}: expected 64-bit CPython on "
            "Linux, aarch64 or x86_64",
            "a 32-bit system on a 64-bit processor counts as 32-bit; install a runtime there "
            "yourself, or a 64-bit system",
        )
    machine = abi["machine"]
    if "musl" in facts.libc or facts.abi.endswith("musl"):
        return f"{machine}-unknown-linux-musl"
    glibc = re.search(r"glibc 2\.(\d+)", facts.libc)
    fitting = [minor for minor in _GLIBC if glibc and minor <= int(glibc[1])]
    if not fitting:
        raise DeviceRuntimeMissing(
            f"there are no wheels for {_described(facts)}", "they need glibc 2.17 or newer"
        )
    return f"{machine}-manylinux_2_{fitting[-1]}"


def _described(facts: DeviceFacts) -> str:
    return f"Python {facts.python_version} ({facts.abi or 'of an unknown ABI'}), {facts.libc}"


def _fetch(
    requirements: Sequence[str],
    facts: DeviceFacts,
    platform: str,
    tree: Path,
    wheels: Path | None,
) -> str | None:
    """Have uv resolve, fetch and unpack; nothing is built, and nothing of it runs here.

    Returns:
        Why there are no such wheels; ``None``: they are in ``tree``.
    """
    import uv

    source = ["--no-index", "--find-links", str(wheels)] if wheels else []
    there = ["--python-platform", platform, "--python-version", facts.python_version]
    argv = [uv.find_uv_bin(), "pip", "install", "--quiet", "--no-progress", "--link-mode", "copy"]
    argv += ["--only-binary", ":all:", *there, "--target", str(tree), *source, *requirements]
    done = process.run(argv, what="fetching wheels", limits=_LIMITS, accept=(0, _NO_SOLUTION))
    return " ".join(done.said.split())[-_SAID:] if done.status else None


def _check_machine(tree: Path, facts: DeviceFacts) -> None:
    """Every library is for the device's processor, whatever its wheel was called."""
    for path in sorted(tree.rglob("*.so*")):
        with path.open("rb") as file:
            head = file.read(_ELF_HEAD.size)
        if len(head) < _ELF_HEAD.size or not head.startswith(b"\x7fELF"):
            continue
        machine = _ELF_MACHINES.get(_ELF_HEAD.unpack(head)[1], "another processor")
        if machine not in facts.abi:
            raise DeviceRuntimeMissing(
                f"{path.relative_to(tree)} is for {machine}, the device's Python is {facts.abi}",
                "the wheel is not what its name says; take another one",
            )


def _packed(tree: Path, module: str, facts: DeviceFacts, archive: Path) -> Packed:
    version = _version(tree, module)
    # Scripts name the interpreter of this machine.
    files = [p for p in sorted(tree.rglob("*")) if p.is_file() and p.parent != tree / "bin"]
    with zipfile.ZipFile(archive, "w") as out:
        for path in files:
            entry = zipfile.ZipInfo(path.relative_to(tree).as_posix(), _EPOCH)
            out.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED, _LEVEL)
    with archive.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    python = "".join(facts.python_version.split(".")[:2])
    return Packed(
        name=f"{_package(module)}-{version}-cp{python}-{sha256[:8]}",
        imported=RUNTIMES[module].imported,
        version=version,
        archive=archive,
        sha256=sha256,
        unpacked_bytes=sum(path.stat().st_size for path in files),
    )


def _version(tree: Path, module: str) -> str:
    for folder in tree.glob("*.dist-info"):
        name, _, version = folder.name.removesuffix(".dist-info").partition("-")
        if canonicalize_name(name) == canonicalize_name(module):
            return version
    raise ToolError(f"what was fetched for {module} does not hold {module}")
