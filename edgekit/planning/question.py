"""What is asked of a plan: the network, the device, the goal, and what narrows the search."""

from __future__ import annotations

from msgspec import Struct

from edgekit.calibrations import Basis
from edgekit.domain import DeviceProfile, Format, Goal, ModelSummary
from edgekit.errors import InputError
from edgekit.planning.budgets import Budget, budgets
from edgekit.planning.recipes import ALL_MODES, MAKES


class Choice(Struct, frozen=True, kw_only=True):
    """What the user narrows the search to, and what there is to work with.

    Attributes:
        calibration: calibration data are at hand: static quantization can be done.
        formats: only these; empty: every format the device takes.
        precisions: only these; empty: every precision.
        threads: only this many; ``None``: as many as serve the goal best.
        power_modes: the best of these modes of the profile, ``all`` for every one; empty:
            the default one. edgekit does not switch a device's mode.
        prune: the fraction of the multiply-accumulates that every candidate is to lose;
            ``None``: nothing is pruned.
    """

    calibration: bool = True
    formats: tuple[Format, ...] = ()
    precisions: tuple[str, ...] = ()
    threads: int | None = None
    power_modes: tuple[str, ...] = ()
    prune: float | None = None

    def __post_init__(self) -> None:
        if self.prune is not None and not 0 < self.prune < 1:
            raise InputError(
                f"{self.prune:g} of the multiply-accumulates cannot be pruned",
                "give a fraction between 0 and 1, such as 0.25",
            )


class Question(Struct, frozen=True, kw_only=True):
    """All that a plan follows from."""

    summary: ModelSummary
    profile: DeviceProfile
    goal: Goal
    choice: Choice
    budgets: tuple[Budget, ...]
    basis: Basis


def ask(
    summary: ModelSummary, profile: DeviceProfile, goal: Goal, choice: Choice, basis: Basis
) -> Question:
    """A question that can be answered.

    Raises:
        InputError: the device takes no format that edgekit makes or that was asked for, or
            has no such power mode.
    """
    _check_formats(profile, choice)
    _check_modes(profile, choice)
    return Question(
        summary=summary,
        profile=profile,
        goal=goal,
        choice=choice,
        budgets=budgets(profile, goal),
        basis=basis,
    )


def _check_formats(profile: DeviceProfile, choice: Choice) -> None:
    usable = [f for f in profile.formats if f in MAKES]
    made = ", ".join(f.value for f in MAKES)
    if not usable:
        takes = ", ".join(f.value for f in profile.formats)
        raise InputError(
            f"{profile.name} takes {takes}; this edgekit makes {made}",
            "choose a device of another format: `edgekit devices` shows them",
        )
    if choice.formats and not set(choice.formats) & set(usable):
        raise InputError(
            f"{profile.name} does not take {choice.formats[0].value}",
            f"it takes {', '.join(f.value for f in usable)}",
        )


def _check_modes(profile: DeviceProfile, choice: Choice) -> None:
    known = [mode.name for mode in profile.power.modes]
    for name in choice.power_modes:
        if name not in (*known, ALL_MODES):
            raise InputError(
                f"{profile.name} has no power mode {name!r}", f"it has {', '.join(known)}"
            )
