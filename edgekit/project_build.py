"""Building what ``edgekit.toml`` declares: what has changed, and nothing else.

What a bundle is made of and what came out stands in the lock. A bundle whose file is the one
that the lock knows, made of what is there now, is left alone; the rest goes through the
pipeline and its cache, several bundles side by side. The lock is written after every bundle:
whatever ends a build, the next one goes on from there.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
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
from edgekit.observer import OnRow, OnStage, silent, silent_rows
from edgekit.project import Model, Pair, Project
from edgekit.toolchain import fitting, workers
from edgekit.toolchain.workers import Call

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


OnEnd = Callable[[Outcome], None]


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
    jobs: int | None = None,
    cache: Path | None = None,
    on_row: OnRow = silent_rows,
) -> ProjectBuilt:
    """Build every model for every target, as far as anything has changed.

    Args:
        project: as ``load_project`` gave it.
        output: the folder of the bundles; ``None``: ``build`` beside the declaration.
        locked: nothing may differ from the lock, which is left as it is.
        jobs: how many are built at a time; 1: one after the other, in this process. ``None``:
            as many as ``fitting.jobs`` finds.
        cache: as in ``pipeline.build``; ``None``: the user's.
        on_row: told the stages of each bundle as they begin.

    Returns:
        What became of each; one that fails does not keep the others from being built.

    Raises:
        LockError: ``locked``, and something that bundles are made of is not what the lock says.
        ProjectError: the lock cannot be read or written.
    """
    path, found = lock.path_of(project), lock.inputs(project)
    old = lock.read(path)
    if locked:
        _refuse_other(old, found, project)
    known = lock.unchanged(old, found, project.pairs)
    outcomes: dict[Pair, Outcome] = {}

    def ended(outcome: Outcome) -> None:
        outcomes[outcome.pair] = outcome
        if not locked:
            known.update({outcome.pair.name: outcome.locked} if outcome.locked else {})
            lock.write(path, Lock(version=lock.VERSION, inputs=found, bundles=known))

    todo = []
    for pair in project.pairs:
        destination = bundle_path(project, pair, output)
        made = _Making(project, pair, destination, known.get(pair.name))
        if unchanged := _unchanged(made):
            ended(unchanged)
        else:
            todo.append(made)
    # The models in turn: all builds of one begin with the same work, which is then kept.
    targets = list(project.declared.targets)
    todo.sort(key=lambda made: targets.index(made.pair.target))
    at_once = fitting.jobs([project.folder / made.model.source for made in todo], jobs)
    _build_all(todo, at_once, cache or store.default_root(), locked, on_row, ended)
    return ProjectBuilt(project=project, outcomes=tuple(outcomes[p] for p in project.pairs))


def bundle_path(project: Project, pair: Pair, output: str | Path | None = None) -> Path:
    """Where a bundle of a project lies; ``output`` as in ``build_project``."""
    folder = Path(output) if output else project.folder / FOLDER
    return folder / f"{pair.name}{SUFFIX}"


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
            built, _ = _built(made, folder / "cache", on_stage)
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

    @property
    def model(self) -> Model:
        return self.project.declared.models[self.pair.model]


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


def _unchanged(made: _Making) -> Outcome | None:
    """A bundle whose file is the one that the lock knows; ``None``: it is not."""
    pair, path, known = made.pair, made.destination, made.known
    if known and path.is_file() and digest(path) == known.file:
        return Outcome(pair=pair, path=path, state=State.UNCHANGED, locked=known)
    return None


def _build_all(
    todo: list[_Making], jobs: int, cache: Path, locked: bool, on_row: OnRow, ended: OnEnd
) -> None:
    """Build what there is to build: several in processes of their own, one in this."""
    by_name = {str(made.pair): made for made in todo}
    calls = [_call(made, cache, locked) for made in todo]

    def done(call: Call[Published], result: Published | EdgekitError) -> None:
        made = by_name[call.name]
        outcome = _outcome(made, result)
        on_row(call.name, outcome.state.value, str(outcome.error or made.destination))
        ended(outcome)

    if min(jobs, len(calls)) > 1:
        workers.each(calls, jobs, on_row, done)
        return
    for call in calls:
        done(call, _done_here(call, on_row))


def _done_here(call: Call[Published], on_row: OnRow) -> Published | EdgekitError:
    try:
        return call.function(**call.arguments, on_stage=partial(on_row, call.name))
    except EdgekitError as error:
        return error


def _call(made: _Making, cache: Path, locked: bool) -> Call[Published]:
    arguments = {
        "project": made.project,
        "pair": made.pair,
        "destination": made.destination,
        "wanted": made.known if locked else None,
        "cache": cache,
    }
    return Call(str(made.pair), published, arguments)


def _outcome(made: _Making, result: Published | EdgekitError) -> Outcome:
    pair, path = made.pair, made.destination
    if isinstance(result, EdgekitError):
        return Outcome(pair=pair, path=path, state=State.FAILED, error=result)
    state = State.CACHED if result.cached else State.BUILT
    return Outcome(pair=pair, path=path, state=state, locked=result.row, missed=result.missed)


class Published(Struct, frozen=True):
    """A bundle in its place: what the lock says of it, and the budgets that no recipe meets."""

    row: Locked
    cached: bool
    missed: str


def published(
    project: Project,
    pair: Pair,
    destination: Path,
    wanted: Locked | None,
    cache: Path,
    on_stage: OnStage,
) -> Published:
    """Build a bundle aside, hold it against the lock where that decides, and put it in its place.

    Args:
        wanted: what must come out; ``None``: anything may.

    Raises:
        EdgekitError: it cannot be built, or is another.
    """

    def say(stage: str, detail: str) -> None:
        on_stage(stage, str(destination) if stage == "bundle" else detail)

    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=destination.parent, prefix=".edgekit-") as aside:
            made = _Making(project, pair, Path(aside) / destination.name, wanted)
            built, missed = _built(made, cache, say)
            row = _row(built)
            if wanted and (different := tuple(lock.differences(wanted, row))):
                raise LockError(
                    f"another bundle than the lock's came out: {'; '.join(different)}",
                    "the same recipe may give other bytes on another kind of processor",
                )
            built.path.replace(destination)
    except OSError as error:
        raise SystemRefused(error) from error
    return Published(row, built.cached, missed)


def _built(made: _Making, cache: Path, on_stage: OnStage) -> tuple[Built, str]:
    """The bundle, and which budgets no recipe meets; it is then built without them."""
    from edgekit import pipeline

    request = _request(made.project, made.pair)
    build = partial(pipeline.build, destination=made.destination, cache=cache, on_stage=on_stage)
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
