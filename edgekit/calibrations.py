"""Calibrations of devices: JSON beside the user's own profiles, one for each device."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec import Struct
from platformdirs import user_config_path

from edgekit.domain import CALIBRATION_VERSION, Calibration, DeviceFacts
from edgekit.errors import InputError

_NONE = "not calibrated: the profile's numbers serve"


class Basis(Struct, frozen=True, kw_only=True):
    """What predictions rest on.

    Attributes:
        calibration: ``None``: the profile's published numbers.
        said: the same in words; also why a calibration that is there is not used.
    """

    calibration: Calibration | None = None
    said: str = _NONE


def path_of(device: str) -> Path:
    """Where a device's calibration is kept."""
    return user_config_path("edgekit") / "devices" / f"{device}.calibration.json"


def basis(device: str, facts: tuple[DeviceFacts, ...] = ()) -> Basis:
    """The calibration of a device, if there is one that may be used.

    Args:
        device: the profile's name.
        facts: of the interpreters on the very device that is planned for, where it was
            asked: a calibration of another machine, or of other runtimes, is then not used.
    """
    path = path_of(device)
    hint = f"`edgekit devices calibrate {device} --on TARGET` measures it"
    if not path.is_file():
        return Basis(said=f"{_NONE} ({hint})")
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Calibration)
    except (OSError, msgspec.MsgspecError) as error:
        return Basis(said=f"{_NONE}; {path} cannot be used: {error} ({hint})")
    if reason := _stale(found, device, facts):
        return Basis(said=f"{_NONE}; the calibration of {found.made} is not used: {reason}")
    runtimes = ", ".join(f"{r.module} {r.version}" for r in found.runtimes.values())
    said = f"calibrated on {found.made} with {runtimes} on {found.cpu_model}"
    return Basis(calibration=found, said=said)


def save(calibration: Calibration) -> Path:
    """Keep a calibration, in place of an earlier one; where it lies.

    Raises:
        InputError: it cannot be written.
    """
    path = path_of(calibration.device)
    aside = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside.write_bytes(msgspec.json.format(msgspec.json.encode(calibration), indent=1))
        aside.replace(path)
    except OSError as error:
        with suppress(OSError):
            aside.unlink()
        raise InputError(f"cannot write {path}: {error.strerror}") from error
    return path


def _stale(found: Calibration, device: str, facts: tuple[DeviceFacts, ...]) -> str | None:
    """Why a calibration says nothing about the device; ``None``: it does."""
    if found.version != CALIBRATION_VERSION:
        return "another version of edgekit made it"
    if found.device != device:
        return f"it is of {found.device}"
    if not facts:
        return None
    if all(fact.fingerprint != found.fingerprint for fact in facts):
        return f"it is of another machine ({found.cpu_model}, here {facts[0].cpu_model})"
    there = {(r.module, r.version) for fact in facts for r in fact.runtimes}
    gone = [r for r in found.runtimes.values() if (r.module, r.version) not in there]
    if gone:
        return f"it was made with {gone[0].module} {gone[0].version}, which is not there any more"
    return None
