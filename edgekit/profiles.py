"""Device profiles: TOML files read into :class:`DeviceProfile`, strictly.

A profile is looked for in the project's folder, then in the user's configuration
folder, then among those that ship with edgekit; the first wins. An unknown key, a
missing unit or a number without a source is an error that names file and line.
"""

from __future__ import annotations

import difflib
import re
from pathlib import Path

from platformdirs import user_config_path

from edgekit import resources, strict_toml
from edgekit.domain import DeviceProfile
from edgekit.errors import ProfileError
from edgekit.strict_toml import Document

PROJECT_FOLDER = "device_profiles"


def folders(project: Path | None = None) -> tuple[Path, ...]:
    """Where profiles are looked for, the first wins.

    Args:
        project: the project's folder; ``None``: the current one.
    """
    return (
        (project or Path.cwd()) / PROJECT_FOLDER,
        user_config_path("edgekit") / "devices",
        resources.folder(PROJECT_FOLDER),
    )


def names() -> tuple[str, ...]:
    """The names of every profile that can be found, sorted."""
    return tuple(sorted(_files()))


def find(name: str, project: Path | None = None) -> DeviceProfile:
    """The profile of that name; ``project`` as in ``folders``.

    Raises:
        ProfileError: no such profile (the nearest names are offered), or a malformed one.
    """
    files = _files(project)
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
    document = strict_toml.read(path, ProfileError)
    profile = strict_toml.decoded(document, DeviceProfile)
    _check(document, profile)
    return profile


def _files(project: Path | None = None) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for folder in reversed(folders(project)):
        found |= {file.stem: file for file in sorted(folder.glob("*.toml"))}
    return found


def _check(document: Document, profile: DeviceProfile) -> None:
    name, memory = document.path.stem, profile.memory
    if profile.name != name:
        raise document.fault(
            "name",
            f"name is {profile.name!r}, the file says {name!r}",
            "name the file after the device",
        )
    if memory.model_budget_mib > memory.total_mib:
        raise document.fault(
            "memory.model_budget_mib",
            f"model_budget_mib ({memory.model_budget_mib:g}) is more than total_mib "
            f"({memory.total_mib:g})",
        )
    for key, _ in strict_toml.numbers({k: v for k, v in document.raw.items() if k != "sources"}):
        plain = re.sub(r"\[\d+\]", "", key)
        if not any(plain == s or plain.startswith(f"{s}.") for s in profile.sources):
            raise document.fault(
                key,
                f"{plain} has no source",
                f'say where the number is from: "{plain}" = "..." under [sources]',
            )
