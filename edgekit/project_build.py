"""Building what ``edgekit.toml`` declares: what has changed, and nothing else.

What a bundle is made of and what came out stands in the lock. A bundle whose file is the one
that the lock knows, made of what is there now, is left alone; the rest goes through the
pipeline and its cache. The lock is written after every bundle: whatever ends a build, the next
one goes on from there.
"""

from __future__ import annotations

import tempfile
from enum import Enum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from edgekit import interfaces, lock, store
from edgekit.content import digest
from edgekit.domain import Goal, Interface
from edgekit.errors import EdgekitError, GateError, GoalError, LockError, SystemRefused
from edgekit.lock import Inputs, Lock, Locked
from edgekit.observer import OnStage, silent
from edgekit.project import Model, Pair, Project

if TYPE_CHECKING:
    from edgekit.pipeline import Built, Request

FOLDER = "build"
SUFFIX = ".edgekit"
_BUDGETS = ("max_latency_ms", "max_size_mb", "max_memory_mb", "max_energy_mj")


class State(Enum):
    """What became of a bundle."""

    UNCHANGED = "unchanged"
    CACHED = "cached"
    BUILT = "built"
    FAILED = "failed"


class Outcome(Struct, frozen=True, kw_only=True):
    """One bundle of a project.

    Attributes:
        locked: what the lock says of it; ``None``: it failed.
        error: why it failed.
        missed: the budgets that no recipe meets; it was built all the same.
    """

    pair: Pair
    path: Path
    state: State
    locked: Locked | None = None
    error: EdgekitError | None = None
    missed: str = ""


class ProjectBuilt(Struct, frozen=True, kw_only=True):
    """A project's bundles, in the order of the file."""

    project: Project
    outcomes: tuple[Outcome, ...]

    @property
    def failures(self) -> tuple[Outcome, ...]:
        return tuple(outcome for outcome in self.outcomes if outcome.error)

    @property
    def exit_code(self) -> int:
        """That of the worst failure; 0: there is none."""
        return max((o.error.exit_code for o in self.outcomes if o.error), default=0)


def build_project(
    project: Project,
    output: str | Path | None = None,
    *,
    locked: bool = False,
    cache: Path | None = None,
    on_stage: OnStage = silent,
) -> ProjectBuilt:
    """Build every model for every target, as far as anything has changed.

    Args:
        project: as ``load_project`` gave it.
        output: the folder of the bundles; ``None``: ``build`` beside the declaration.
        locked: nothing may differ from the lock, which is left as it is.
        cache: as in ``pipeline.build``; ``None``: the user's.
        on_stage: told the stages as they begin.

    Returns:
        What became of each; one that fails does not keep the others from being built.

    Raises:
        LockError: ``locked``, and something that bundles are made of is not what the lock says.
        ProjectError: the lock cannot be read or written.
    """
    folder = Path(output) if output else project.folder / FOLDER
    path, found = lock.path_of(project), lock.inputs(project)
    old = lock.read(path)
    if locked:
        _refuse_other(old, found, project)
    known = lock.unchanged(old, found, project.pairs)
    outcomes: list[Outcome] = []
    for pair in project.pairs:
        made = _Making(project, pair, folder / f"{pair.name}{SUFFIX}", known.get(pair.name))
        outcomes.append(_outcome(made, cache or store.default_root(), locked, on_stage))
        if not locked:
            known |= {pair.name: row} if (row := outcomes[-1].locked) else {}
            lock.write(path, Lock(version=lock.VERSION, inputs=found, bundles=known))
    return ProjectBuilt(project=project, outcomes=tuple(outcomes))


def rebuild(project: Project, *, on_stage: OnStage = silent) -> dict[Pair, tuple[str, ...]]:
    """Build everything again, with an empty cache, and compare it with the lock.

    Returns:
        Of each bundle what differs: nothing, where it is the same to the last byte.

    Raises:
        LockError: there is no lock, or something that bundles are made of has changed.
        EdgekitError: a bundle cannot be built.
    """
    old, found = lock.read(lock.path_of(project)), lock.inputs(project)
    known = _refuse_other(old, found, project)
    differing = {}
    for pair in project.pairs:
        with tempfile.TemporaryDirectory(prefix="edgekit-rebuild-") as scratch:
            folder = Path(scratch)
            made = _Making(project, pair, folder / f"{pair.name}{SUFFIX}", None)
            built, _ = _built(made, made.destination, folder / "cache", on_stage)
            row = _row(built)
        where = f"bundles.{pair.name}"
        differing[pair] = tuple(lock.differences(known.bundles[pair.name], row, where))
    return differing


class _Making(Struct, frozen=True):
    """A bundle to be made; ``known`` is what the lock says it must be, where it still counts."""

    project: Project
    pair: Pair
    destination: Path
    known: Locked | None


def _refuse_other(old: Lock | None, found: Inputs, project: Project) -> Lock:
    """The lock, if it is one of what is there now, and of all bundles."""
    if old is None:
        raise LockError(f"there is no {lock.FILE}", "`edgekit build` writes it")
    hint = "`edgekit build` without --locked builds what has changed, and writes the lock anew"
    if different := tuple(lock.differences(old.inputs, found)):
        raise LockError("\n".join(different), hint)
    if lacking := [pair for pair in project.pairs if pair.name not in old.bundles]:
        raise LockError(f"{lock.FILE} lacks {', '.join(map(str, lacking))}", hint)
    return old


def _outcome(made: _Making, cache: Path, locked: bool, on_stage: OnStage) -> Outcome:
    pair, path, known = made.pair, made.destination, made.known
    if known and path.is_file() and digest(path) == known.file:
        return Outcome(pair=pair, path=path, state=State.UNCHANGED, locked=known)

    def say(stage: str, detail: str) -> None:
        on_stage(f"{pair}: {stage}", str(path) if stage == "bundle" else detail)

    try:
        return _published(made, cache, locked, say)
    except EdgekitError as error:
        return Outcome(pair=pair, path=path, state=State.FAILED, error=error)
    except OSError as error:
        return Outcome(pair=pair, path=path, state=State.FAILED, error=SystemRefused(error))


def _published(made: _Making, cache: Path, locked: bool, on_stage: OnStage) -> Outcome:
    """Build aside, hold it against the lock where that decides, and put it in its place."""
    path, known = made.destination, made.known
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".edgekit-") as aside:
        built, missed = _built(made, Path(aside) / path.name, cache, on_stage)
        row = _row(built)
        if locked and known and (different := tuple(lock.differences(known, row))):
            raise LockError(
                f"another bundle than the lock's came out: {'; '.join(different)}",
                "the same recipe may give other bytes on another kind of processor",
            )
        built.path.replace(path)
    state = State.CACHED if built.cached else State.BUILT
    return Outcome(pair=made.pair, path=path, state=state, locked=row, missed=missed)


def _built(made: _Making, destination: Path, cache: Path, on_stage: OnStage) -> tuple[Built, str]:
    """The bundle, and which budgets no recipe meets; it is then built without them."""
    from edgekit import pipeline

    request = _request(made.project, made.pair)
    build = partial(pipeline.build, destination=destination, cache=cache, on_stage=on_stage)
    try:
        return build(request), ""
    except (GoalError, GateError) as error:
        free = Goal(max_accuracy_drop=request.goal.max_accuracy_drop, prefer=request.goal.prefer)
        if free == request.goal:
            raise
        return build(msgspec.structs.replace(request, goal=free)), error.message


def _row(built: Built) -> Locked:
    """What the lock says of a bundle."""
    from edgekit import bundle
    from edgekit.formats import FORMATS

    artifact, proof = built.manifest.artifact, built.manifest.validation
    with bundle.opened(built.path) as opened:
        counted = FORMATS[artifact.format].operators(opened.artifact)
    return Locked(
        recipe=built.manifest.recipe,
        bundle=built.sha256,
        file=digest(built.path),
        artifact=artifact.sha256,
        size_bytes=artifact.size_bytes,
        metric=proof.metric,
        value=proof.value,
        baseline=proof.baseline,
        sample_count=proof.sample_count,
        operators=counted,
    )


def _request(project: Project, pair: Pair) -> Request:
    """What is asked of the pipeline.

    Predictions rest on the profile alone, never on a calibration of the user's own: the same
    recipe is to be chosen on every machine.
    """
    from edgekit.pipeline import Request
    from edgekit.planning import Choice

    model, target = project.declared.models[pair.model], project.declared.targets[pair.target]
    budget = project.budget(pair)
    return Request(
        model=project.folder / model.source,
        profile=project.devices[pair.target],
        goal=Goal(
            **{name: getattr(budget, name) for name in _BUDGETS},
            max_accuracy_drop=model.max_drop,
            prefer=target.prefer,
        ),
        choice=Choice(
            calibration=model.calibration is not None,
            formats=target.formats,
            precisions=target.precisions,
            threads=target.threads,
            power_modes=target.power_modes,
            prune=target.prune,
        ),
        shapes=model.shapes,
        trust=model.trust,
        calibration=project.folder / model.calibration if model.calibration else None,
        evaluation=project.folder / model.evaluation if model.evaluation else None,
        metric=model.metric,
        interface=_interface(project, model),
    )


def _interface(project: Project, model: Model) -> Interface:
    labels = interfaces.read_labels(project.folder / model.labels) if model.labels else ()
    return Interface(pictures=model.pictures, labels=labels)
