"""A device profile drafted from what a device said: measured where it could be, else estimated.

The nearest known profile is the base. What was not measured keeps its number, and its source
begins with ``estimate``: whoever knows better writes it down.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, get_args

import msgspec
from msgspec import Struct, structs

from edgekit import profiles
from edgekit.devices.survey import CoreCluster, Survey
from edgekit.domain import MIB, Cpu, CpuCluster, DeviceProfile, Family, Memory
from edgekit.domain.device import Architecture, Slug
from edgekit.errors import ProfileError

_GIB = 1024 * MIB
_MEASURED = "measured: what the device's kernel says"
_ESTIMATE = "estimate"
_LINUX = "linux"
"""A distribution's name is one of Linux; Android has none."""

_UNLIKE_CORE, _UNLIKE_EXTENSIONS = 2.0, 1.5


class Draft(Struct, frozen=True, kw_only=True):
    """A profile, what it rests on, and what is only estimated.

    Attributes:
        base: the nearest known profile.
        why: how near that is.
        estimates: the dotted keys that nobody measured.
    """

    profile: DeviceProfile
    base: str
    why: str

    @property
    def estimates(self) -> tuple[str, ...]:
        sources = self.profile.sources
        return tuple(key for key, source in sources.items() if source.startswith(_ESTIMATE))


def draft(name: str, found: Survey, known: Iterable[DeviceProfile]) -> Draft:
    """Make a profile of a survey.

    Args:
        name: of the profile: lower case with hyphens.
        found: what the device said.
        known: the profiles to choose the base from.

    Raises:
        ProfileError: a device that no profile can describe: of another architecture, or one
            that does not tell its cores and memory.
    """
    if not (found.clusters and found.memory_total_bytes):
        raise ProfileError(
            f"{found.target} does not say what it is: {found.system or 'nothing at all'}",
            "edgekit reads Linux's /proc and /sys; write the profile by hand",
        )
    if found.machine not in get_args(Architecture):
        raise ProfileError(
            f"{found.target} is {found.machine}, and profiles are of "
            f"{' or '.join(get_args(Architecture))}",
            "a 32-bit system on a 64-bit processor counts as 32-bit",
        )
    base = min(
        (p for p in known if p.cpu.architecture == found.machine and p.family is not Family.APPLE),
        key=lambda profile: (_distance(profile, found), profile.name),
    )
    profile = _drafted(name, found, base)
    return Draft(profile=profile, base=base.name, why=_likeness(base, found))


def destination(name: str, *, force: bool = False) -> Path:
    """Where a profile of that name goes: the user's configuration folder.

    Raises:
        ProfileError: there is one of that name, and ``force`` is not set; or the name will
            not do.
    """
    try:
        msgspec.convert(name, Slug)
    except msgspec.ValidationError as error:
        raise ProfileError(
            f"{name!r} is no name for a profile", "lower case, digits and hyphens: kitchen-pi-4"
        ) from error
    if name in profiles.names() and not force:
        raise ProfileError(
            f"a profile is named {name} already", "choose another name; --force replaces it"
        )
    return profiles.folders()[1] / f"{name}.toml"


def save(drafted: Draft, path: Path) -> None:
    """Write the profile, once it reads back.

    Raises:
        ProfileError: it does not, or it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".drafting-") as folder:
            aside = Path(folder) / path.name
            aside.write_text(text(drafted), encoding="utf-8")
            profiles.read(aside)
            aside.replace(path)
    except OSError as error:
        raise ProfileError(f"cannot write {path}: {error.strerror}") from error


def _distance(profile: DeviceProfile, found: Survey) -> float:
    """How unlike a known device is: its fastest cores, then their number, clock, memory."""
    ours, theirs = found.clusters[0], profile.cpu.clusters[0]
    core = _UNLIKE_CORE * (ours.core != theirs.core)
    both, either = set(ours.extensions) & set(theirs.extensions), {*ours.extensions}
    either |= set(theirs.extensions)
    extensions = _UNLIKE_EXTENSIONS * (1 - len(both) / max(1, len(either)))
    cores = abs(math.log2(found.cores / profile.cpu.cores))
    clock = abs(math.log2((ours.max_clock_mhz or theirs.max_clock_mhz) / theirs.max_clock_mhz))
    memory = abs(math.log2(_memory_mib(found) / profile.memory.total_mib))
    clusters = abs(len(found.clusters) - len(profile.cpu.clusters))
    return core + extensions + cores + clock + clusters + memory / 2


def _likeness(base: DeviceProfile, found: Survey) -> str:
    ours, theirs = found.clusters[0], base.cpu.clusters[0]
    same = ours.core == theirs.core
    core = f"the same core, {theirs.core}" if same else f"{theirs.core} for {ours.core}"
    lacking = {e.value for e in theirs.extensions} ^ {e.value for e in ours.extensions}
    extensions = f"differing in {', '.join(sorted(lacking))}" if lacking else "the same extensions"
    return (
        f"{core}, {extensions}, {base.cpu.cores} cores for {found.cores}, "
        f"{base.memory.total_mib:g} MiB for {_memory_mib(found):g}"
    )


def _memory_mib(found: Survey) -> float:
    return float(round((found.memory_total_bytes or 0) / MIB))


def _drafted(name: str, found: Survey, base: DeviceProfile) -> DeviceProfile:
    clusters = tuple(_cluster(cluster, base) for cluster in found.clusters)
    memory_mib = _memory_mib(found)
    share = base.memory.model_budget_mib / base.memory.total_mib
    total_bytes = found.storage_total_bytes
    total_gib = round(total_bytes / _GIB, 1) if total_bytes else base.storage.total_gib
    return structs.replace(
        base,
        name=name,
        title=found.board or found.os or found.system,
        os=_LINUX if found.os else base.os,
        cpu=Cpu(architecture=base.cpu.architecture, clusters=clusters),
        memory=Memory(
            total_mib=memory_mib,
            model_budget_mib=float(round(memory_mib * share)),
            bandwidth_gb_per_s=base.memory.bandwidth_gb_per_s,
        ),
        storage=structs.replace(base.storage, total_gib=max(0.1, total_gib)),
        power=base.power,
        sources=dict(_sources(found, base)),
    )


def _cluster(found: CoreCluster, base: DeviceProfile) -> CpuCluster:
    """A cluster as it was found; what it computes in a cycle is that of the base's nearest."""
    like = next((c for c in base.cpu.clusters if c.core == found.core), base.cpu.clusters[0])
    return CpuCluster(
        core=found.core or f"like-{like.core}",
        cores=found.cores,
        max_clock_mhz=found.max_clock_mhz or like.max_clock_mhz,
        extensions=found.extensions,
        macs_per_cycle=like.macs_per_cycle,
    )


def _sources(found: Survey, base: DeviceProfile) -> Iterator[tuple[str, str]]:
    """Where each number is from; the longest key that fits a number is the one that holds."""
    yield "family", f"{_ESTIMATE}: as {base.name}"
    yield "os", f"{_MEASURED}: {found.os}" if found.os else f"{_ESTIMATE}: as {base.name}"
    yield "cpu.clusters", _MEASURED
    if not all(cluster.max_clock_mhz for cluster in found.clusters):
        yield (
            "cpu.clusters.max_clock_mhz",
            f"{_ESTIMATE}: as {base.name}, where the device does not tell its clock",
        )
    yield "cpu.clusters.macs_per_cycle", _as(base, "cpu.clusters.macs_per_cycle")
    yield "memory.total_mib", f"{_MEASURED}, less what it keeps to itself"
    yield "memory.model_budget_mib", f"{_ESTIMATE}: the same share of the memory as {base.name}"
    yield "memory.bandwidth_gb_per_s", _as(base, "memory.bandwidth_gb_per_s")
    yield "power", _as(base, "power")
    if found.storage_total_bytes:
        yield "storage.total_gib", f"{_MEASURED}: the filesystem of edgekit's folder"
    else:
        yield "storage.total_gib", _as(base, "storage.total_gib")
    yield "storage.read_mb_per_s", _as(base, "storage.read_mb_per_s")
    if base.accelerators:
        seen = ", ".join(found.accelerators) or "none"
        yield "accelerators", f"{_ESTIMATE}: those of {base.name}; the device shows: {seen}"
    yield "runtimes", f"{_ESTIMATE}: those that {base.name} takes; there now: {_installed(found)}"


def _as(base: DeviceProfile, key: str) -> str:
    """The source of a number that is the base's."""
    fitting = [known for known in base.sources if key == known or key.startswith(f"{known}.")]
    said = base.sources[max(fitting, key=len)] if fitting else ""
    return f"{_ESTIMATE}: as {base.name} ({said.removeprefix(f'{_ESTIMATE}: ')})"


def _installed(found: Survey) -> str:
    runtimes = {f"{r.name} {r.version}" for python in found.pythons for r in python.runtimes}
    return ", ".join(sorted(runtimes)) or "none"


def text(drafted: Draft) -> str:
    """The profile as TOML, in the order of the others."""
    plain = msgspec.to_builtins(drafted.profile)
    head = f"# Drafted by `edgekit devices add` after {drafted.base}: {drafted.why}.\n"
    return head + "\n".join(_table("", plain)) + "\n"


def _table(path: str, table: dict[str, Any]) -> Iterator[str]:
    """A table's own keys, then the tables in it."""
    inner = {key: value for key, value in table.items() if _is_table(key, value)}
    if path:
        yield f"\n[{path}]"
    yield from _keys({key: value for key, value in table.items() if key not in inner})
    for key, value in inner.items():
        where = f"{path}.{key}".lstrip(".")
        if isinstance(value, dict):
            yield from _table(where, value)
        else:
            for row in value:
                yield f"\n[[{where}]]"
                yield from _keys(row)


def _is_table(key: str, value: Any) -> bool:
    if isinstance(value, dict):
        return key not in ("macs_per_cycle", "tops", "reached_by")
    return isinstance(value, list | tuple) and bool(value) and isinstance(value[0], dict)


def _keys(table: dict[str, Any]) -> Iterator[str]:
    for key, value in table.items():
        if value is not None:
            yield f"{key if key.replace('_', '').isalnum() else _quoted(key)} = {_value(value)}"


def _value(value: Any) -> str:
    if isinstance(value, dict):
        inner = ", ".join(_keys(value))
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return _quoted(value) if isinstance(value, str) else str(value)


def _quoted(text: str) -> str:
    """A TOML string: JSON's escapes are a part of TOML's, which wants DEL escaped, too."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
