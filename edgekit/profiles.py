"""Device profiles: TOML files read into :class:`DeviceProfile`, strictly.

A profile is looked for in the project's folder, then in the user's configuration
folder, then among those that ship with edgekit; the first wins. An unknown key, a
missing unit or a number without a source is an error that names file and line.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import msgspec
from platformdirs import user_config_path

from edgekit import resources
from edgekit.domain import DeviceProfile
from edgekit.errors import ProfileError

PROJECT_FOLDER = "device_profiles"
_AT = re.compile(r" - at `\$\.?(?P<path>[^`]*)`$")
_UNKNOWN = re.compile(r"unknown field `(?P<field>[^`]*)`")
_MISSING = re.compile(r"missing required field `(?P<field>[^`]*)`")


def folders() -> tuple[Path, ...]:
    """Where profiles are looked for, the first wins."""
    return (
        Path.cwd() / PROJECT_FOLDER,
        user_config_path("edgekit") / "devices",
        resources.folder(PROJECT_FOLDER),
    )


def names() -> tuple[str, ...]:
    """The names of every profile that can be found, sorted."""
    return tuple(sorted(_files()))


def find(name: str) -> DeviceProfile:
    """The profile of that name.

    Raises:
        ProfileError: no such profile (the nearest names are offered), or a malformed one.
    """
    files = _files()
    if name not in files:
        near = difflib.get_close_matches(name.lower(), files, n=3, cutoff=0.4)
        offer = f"did you mean {' or '.join(near)}? " if near else ""
        raise ProfileError(
            f"no device profile is named {name!r}",
            f"{offer}`edgekit devices` lists all {len(files)}; your own go into "
            f"{folders()[1]} as NAME.toml",
        )
    return read(files[name])


def read(path: Path) -> DeviceProfile:
    """Read one profile.

    Raises:
        ProfileError: not TOML, an unknown or missing key, a value out of range, or a
            number without a source; the message names file and line.
    """
    try:
        text = path.read_text(encoding="utf-8")
        raw = tomllib.loads(text)
    except OSError as error:
        raise ProfileError(f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ProfileError(f"{path} is not valid TOML: {error}") from error
    try:
        profile = msgspec.convert(raw, DeviceProfile)
    except msgspec.ValidationError as error:
        raise _explained(path, text, str(error)) from error
    _check(path, text, raw, profile)
    return profile


def _files() -> dict[str, Path]:
    found: dict[str, Path] = {}
    for folder in reversed(folders()):
        found |= {file.stem: file for file in sorted(folder.glob("*.toml"))}
    return found


def _explained(path: Path, text: str, error: str) -> ProfileError:
    """Turn msgspec's message, which ends in a JSON path, into file, line and hint."""
    at = _AT.search(error)
    where = at["path"] if at else ""
    what = error[: at.start()] if at else error
    if unknown := _UNKNOWN.search(error):
        field = unknown["field"]
        line = _line(text, f"{where}.{field}".lstrip("."))
        fields = _fields(where)
        if unit := [name for name in fields if name.startswith(f"{field}_")]:
            hint = f"the unit is missing: write {unit[0]}"
        else:
            near = difflib.get_close_matches(field, fields, n=1)
            hint = (f"did you mean {near[0]}? " if near else "") + f"known: {', '.join(fields)}"
        return ProfileError(
            f"{path}:{line}: unknown key {field!r} in [{where or 'top level'}]", hint
        )
    line = _line(text, where)
    if missing := _MISSING.search(error):
        return ProfileError(
            f"{path}:{line}: [{where or 'top level'}] lacks the key {missing['field']!r}"
        )
    return ProfileError(f"{path}:{line}: {where}: {what[0].lower()}{what[1:]}")


def _check(path: Path, text: str, raw: dict[str, object], profile: DeviceProfile) -> None:
    if profile.name != path.stem:
        raise ProfileError(
            f"{path}:{_line(text, 'name')}: name is {profile.name!r}, the file says {path.stem!r}",
            "name the file after the device",
        )
    if profile.memory.model_budget_mib > profile.memory.total_mib:
        raise ProfileError(
            f"{path}:{_line(text, 'memory.model_budget_mib')}: model_budget_mib "
            f"({profile.memory.model_budget_mib:g}) is more than total_mib "
            f"({profile.memory.total_mib:g})"
        )
    for key in _numbers({k: v for k, v in raw.items() if k != "sources"}):
        plain = re.sub(r"\[\d+\]", "", key)
        if not any(plain == s or plain.startswith(f"{s}.") for s in profile.sources):
            raise ProfileError(
                f"{path}:{_line(text, key)}: {plain} has no source",
                f'say where the number is from: "{plain}" = "..." under [sources]',
            )


def _numbers(value: object, path: str = "") -> Iterator[str]:
    """The dotted paths of every number."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _numbers(inner, f"{path}.{key}".lstrip("."))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _numbers(inner, f"{path}[{index}]")
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield path


def _fields(where: str) -> list[str]:
    """The keys known at a dotted path of the schema."""
    kind: type = DeviceProfile
    for part in re.sub(r"\[[^\]]*\]", "", where).split("."):
        inner = {f.name: f.type for f in msgspec.structs.fields(kind)}.get(part)
        kind = next(iter(_structs(inner)), kind)
    return [field.encode_name for field in msgspec.structs.fields(kind)]


def _structs(kind: object) -> Iterator[type]:
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        yield kind
    for inner in getattr(kind, "__args__", ()):
        yield from _structs(inner)


def _line(text: str, path: str) -> int:
    """The line of a dotted path (``cpu.clusters[1].cores``); of the nearest table otherwise."""
    seen: dict[str, int] = {}
    table, found = "", {"": 1}
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*(\[\[?)\s*([^\]]+?)\s*\]", line):
            table = _indexed(header[2], seen, new=header[1] == "[[")
            found.setdefault(table, number)
        elif key := re.match(r'\s*"?([\w.-]+)"?\s*=', line):
            found.setdefault(f"{table}.{key[1]}".lstrip("."), number)
    while path not in found:
        shorter = re.sub(r"\[\d+\]$", "", path)
        path = shorter if shorter != path else path.rpartition(".")[0]
    return found[path]


def _indexed(header: str, seen: dict[str, int], *, new: bool) -> str:
    """``cpu.clusters`` as ``cpu.clusters[1]`` when it is the second of its array."""
    path = ""
    parts = header.split(".")
    for depth, part in enumerate(parts):
        path = f"{path}.{part}".lstrip(".")
        if new and depth == len(parts) - 1:
            seen[path] = seen.get(path, -1) + 1
        if path in seen:
            path = f"{path}[{seen[path]}]"
    return path
