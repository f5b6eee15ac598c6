"""``edgekit.lock``: what every bundle was made of, and what came out; JSON, in one order.

It holds no time and no absolute path: what is built again from the same is the same lock.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct, structs

from edgekit import build_cache, store
from edgekit.content import content, data_digest
from edgekit.domain import Recipe
from edgekit.errors import ProjectError
from edgekit.project import Model, Pair, Project, Target

FILE = "edgekit.lock"
VERSION = 1
_FILES = ("source", "calibration", "evaluation", "labels")
_MISSING = "missing"
_SHA256 = "sha256"
_DIGEST = re.compile("[0-9a-f]{64}")

Table = dict[str, Any]


class Inputs(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """All that decides what comes out.

    Attributes:
        edgekit: its version, and a digest of its code.
        tools: the version of every tool that is installed.
        models: what each declares, with the digests of its files.
        targets: what each declares, with the digest of its device's profile.
        budgets: those that the plan of a bundle aims for.
    """

    edgekit: dict[str, str]
    tools: dict[str, str]
    models: dict[str, Table]
    targets: dict[str, Table]
    budgets: dict[str, Table]

    def of(self, pair: Pair) -> Table:
        """What one bundle is made of, by dotted name."""
        return {
            "edgekit": self.edgekit,
            "tools": self.tools,
            f"models.{pair.model}": self.models.get(pair.model),
            f"targets.{pair.target}": self.targets.get(pair.target),
            f"budgets.{pair.name}": self.budgets.get(pair.name),
        }


class Locked(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A bundle.

    Attributes:
        bundle: its identity: the sha256 of its manifest.
        file: the sha256 of the ``.edgekit`` file.
        artifact: the artifact's sha256; ``size_bytes`` is the artifact's, too.
        value: of the metric; ``baseline`` is the original model's.
        operators: of the artifact's graph, with their number.
    """

    recipe: Recipe
    bundle: str
    file: str
    artifact: str
    size_bytes: int
    metric: str
    value: float
    baseline: float
    sample_count: int
    operators: dict[str, int] = {}


class Lock(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What was built: every bundle was made of ``inputs``; what failed is not there."""

    version: int
    inputs: Inputs
    bundles: dict[str, Locked]


def path_of(project: Project) -> Path:
    """Beside the declaration."""
    return project.path.with_name(FILE)


def read(path: Path) -> Lock | None:
    """Read a lock; ``None``: there is none.

    Raises:
        ProjectError: a file that is no lock, or one of a version that is not known here.
    """
    hint = "`edgekit build` writes a new one once it is deleted"
    try:
        raw = msgspec.json.decode(path.read_bytes())
        if isinstance(raw, dict) and raw.get("version") != VERSION:
            raise ProjectError(
                f"{path} has version {raw.get('version')!r:.40}, this edgekit knows {VERSION}", hint
            )
        return msgspec.convert(raw, Lock)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ProjectError(f"cannot read {path}: {error.strerror}") from error
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ProjectError(f"{path} is not a lock of edgekit: {error}", hint) from error


def write(path: Path, lock: Lock) -> None:
    """Write a lock in one step; a file that says the same already is left alone.

    Raises:
        ProjectError: it cannot be written.
    """
    encoded = msgspec.json.encode(lock, order="deterministic")
    text = msgspec.json.format(encoded, indent=2) + b"\n"
    aside = path.with_name(f".{path.name}.part")
    try:
        if path.is_file() and path.read_bytes() == text:
            return
        aside.write_bytes(text)
        aside.replace(path)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise ProjectError(f"cannot write {path}: {error.strerror}") from error


def inputs(project: Project) -> Inputs:
    """What the project's bundles are made of, as it lies there now."""
    declared, pairs = project.declared, project.pairs
    budgets = {pair.name: _plain(project.aims(pair)) for pair in pairs}
    versions = build_cache.tools()
    return Inputs(
        edgekit={"version": versions.pop("edgekit"), "code": build_cache.code()},
        tools=versions,
        models={name: _model(project.folder, model) for name, model in declared.models.items()},
        targets={name: _target(project, name, target) for name, target in declared.targets.items()},
        budgets={name: budget for name, budget in budgets.items() if budget},
    )


def unchanged(lock: Lock | None, found: Inputs, pairs: tuple[Pair, ...]) -> dict[str, Locked]:
    """The bundles of a lock that are made of what is there now."""
    if lock is None:
        return {}
    return {
        pair.name: lock.bundles[pair.name]
        for pair in pairs
        if pair.name in lock.bundles and lock.inputs.of(pair) == found.of(pair)
    }


def differences(locked: object, found: object, where: str = "") -> Iterator[str]:
    """What is not as it was locked, each by its dotted name: ``models.a.calibration: ... changed``.

    Args:
        locked: a struct or a table.
        found: the same as it is now.
        where: the dotted name of both.
    """
    old, new = _plain(locked), _plain(found)
    if old == new:
        return
    if not (isinstance(old, dict) and isinstance(new, dict)) or _SHA256 in {*old, *new}:
        yield f"{where}: {_told(old, new)}"
        return
    for key in sorted({*old, *new}):
        yield from differences(old.get(key), new.get(key), f"{where}.{key}".lstrip("."))


def _plain(value: object) -> Any:
    """A value as it is read from a lock."""
    return msgspec.json.decode(msgspec.json.encode(value))


def _told(old: Any, new: Any) -> str:
    """In what way one value differs."""
    if isinstance(new, dict) and new.get(_SHA256) == _MISSING:
        return f"{new['file']} is missing"
    if isinstance(old, dict) and isinstance(new, dict) and old.get("file") == new.get("file"):
        return f"{new.get('file', 'it')} changed"
    if _DIGEST.fullmatch(str(old)) and _DIGEST.fullmatch(str(new)):
        return "changed"
    return f"{_shown(new)}, the lock has {_shown(old)}"


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return str(value.get("file") or ", ".join(f"{k} = {v}" for k, v in value.items()))
    return str(value)


def _model(folder: Path, model: Model) -> Table:
    table: Table = _plain(model)
    for key in _FILES:
        if name := table.get(key):
            table[key] = {"file": name, _SHA256: _digest(key, folder / name)}
    return table


def _digest(key: str, path: Path) -> str:
    """Of a model with the external data it names, or of data; else that it is missing."""
    if not path.exists():
        return _MISSING
    return store.key(content(path)) if key == "source" else data_digest(path)


def _target(project: Project, name: str, target: Target) -> Table:
    profile = project.devices[name]
    encoded = msgspec.json.encode(structs.asdict(profile), order="deterministic")
    made = structs.replace(target, on=None)  # where it is measured does not change what it is
    return {**_plain(made), "device": profile.name, "profile": store.key([encoded])}
