"""The main line: source, inspect, plan, compress and convert, validate, bundle."""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from edgekit import build_cache, bundle, fingerprint, interfaces, resources, store
from edgekit.calibrations import Basis
from edgekit.domain import (
    CPU,
    SCHEMA_VERSION,
    CleanUp,
    DeviceProfile,
    Explanation,
    Family,
    Format,
    Goal,
    GraphSize,
    Interface,
    Manifest,
    ModelSummary,
    Plan,
    Recipe,
)
from edgekit.errors import BundleError, DataError, InputError, ModelError
from edgekit.observer import OnStage, silent
from edgekit.planning import Choice, explain, plan
from edgekit.toolchain import isolation
from edgekit.toolchain.process import Limits

if TYPE_CHECKING:
    from edgekit import trial, trials
    from edgekit.datasets import Dataset
    from edgekit.diagnosis import Obstacle
    from edgekit.sources import SourceModel

Shapes = dict[str, tuple[int, ...]]

_LIMITS = Limits(seconds=600)
_MOBILE = (Family.ANDROID, Family.APPLE)


class Request(Struct, frozen=True, kw_only=True):
    """What is to be built.

    Attributes:
        model: the user's file.
        shapes: input name -> shape, for dynamic axes beyond the batch.
        trust: code that the model's file carries may run.
        calibration: ``.npz``, or a folder of samples, for static quantization.
        evaluation: ``.npz`` that decides, with labels ``y`` or without.
        metric: its name; ``None`` chooses by the labels.
        plan: made before; ``None``: made from the goal and the choice.
        basis: what predictions rest on.
        interface: what an application is to see of the model.
    """

    model: Path
    profile: DeviceProfile
    goal: Goal = Goal()
    choice: Choice = Choice()
    shapes: Shapes = {}
    trust: bool = False
    calibration: Path | None = None
    evaluation: Path | None = None
    metric: str | None = None
    plan: Plan | None = None
    basis: Basis = Basis()
    interface: Interface = Interface()


class Built(Struct, frozen=True, kw_only=True):
    """A finished bundle."""

    path: Path
    sha256: str
    manifest: Manifest
    cached: bool
    elapsed_s: float


class Inspection(Struct, frozen=True, kw_only=True):
    """What is known of a model, and of what edgekit made of it.

    Attributes:
        notes: what was changed to bring it into edgekit's form.
        written: the graph as the user wrote it; ``cleaned``: after the clean-up.
        passes: what each pass of the clean-up did.
        obstacles: what each format that was asked about is not known to take.
    """

    summary: ModelSummary
    notes: tuple[str, ...]
    written: GraphSize
    cleaned: GraphSize
    passes: tuple[CleanUp, ...]
    obstacles: dict[Format, tuple[Obstacle, ...]] = {}


def inspect(
    model: Path,
    shapes: Shapes | None = None,
    targets: tuple[Format, ...] = (),
    *,
    trust: bool = False,
    cache: Path | None = None,
) -> Inspection:
    """Everything there is to say about a model without a device, and about formats for it."""
    from edgekit import diagnosis, inspection, sources

    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        source = sources.load(model, Path(folder), shapes, trust=trust, cache=cache)
        summary = inspection.inspect(source)
        return Inspection(
            summary=summary,
            notes=source.notes,
            written=isolation.call(inspection.size, _LIMITS, source.written),
            cleaned=inspection.size(source.graph),
            passes=source.passes,
            obstacles={target: diagnosis.obstacles(summary, target) for target in targets},
        )


def summarise(
    model: Path, shapes: Shapes | None = None, *, trust: bool = False, cache: Path | None = None
) -> ModelSummary:
    """A model at a glance: what plans are made of."""
    from edgekit import inspection, sources

    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        source = sources.load(model, Path(folder), shapes, trust=trust, cache=cache)
        return inspection.inspect(source)


def decide(request: Request, cache: Path | None = None) -> tuple[Plan, Explanation]:
    """Decide what to build, without building anything, and explain it."""
    summary = summarise(request.model, request.shapes, trust=request.trust, cache=cache)
    made = _planned(request, summary)
    return made, explain(summary, request.profile, made, request.basis)


def _planned(request: Request, summary: ModelSummary) -> Plan:
    """The plan that was given, if it is one for this model; else a new one."""
    if request.plan is None:
        return plan(summary, request.profile, request.goal, request.choice, request.basis)
    if request.plan.model_sha256 != summary.sha256:
        raise InputError(
            f"the plan was made for another model than {request.model.name}", "plan again"
        )
    return request.plan


def _check_interface(request: Request, made: Plan, source: SourceModel) -> None:
    """Pictures and labels fit the model, and the formats that it may become."""
    from edgekit.formats import coreml_interface

    interfaces.check(request.interface, source.inputs, source.outputs)
    formats = {candidate.recipe.format for candidate in made.candidates}
    if request.interface.labels and Format.COREML in formats:
        coreml_interface.check(source.inputs, source.outputs)


def build(
    request: Request,
    destination: Path,
    *,
    cache: Path | None = None,
    on_stage: OnStage = silent,
) -> Built:
    """Build a bundle: the first candidate of the plan that passes its validation.

    Args:
        request: what is to be built.
        destination: ``*.edgekit``, or a folder; replaced in one step, untouched on failure.
        cache: where bundles, conversions and models that were read are kept; ``None``: nowhere.
        on_stage: told the stages as they begin.

    Raises:
        InputError: a file, a shape, data or a profile that will not do.
        GoalError: no recipe can meet the goal.
        GateError: every candidate failed its validation, or a budget of the goal.
        ToolError: no candidate could be made at all.
    """
    started = time.monotonic()
    _check_files(request, destination)
    with tempfile.TemporaryDirectory(prefix="edgekit-") as scratch:
        root = cache or Path(scratch) / "store"
        entry = build_cache.entry(request.model, request, (request.calibration, request.evaluation))
        cached = _is_whole(store.find(root, entry))
        kept = store.make(root, entry, lambda folder: _fill(folder, request, root, on_stage))
        on_stage("bundle", str(destination))
        manifest = bundle.parse((kept / bundle.MANIFEST).read_bytes())
        bundle.publish(kept, (*manifest.digests, bundle.MANIFEST), destination)
        sha256 = bundle.digest(kept / bundle.MANIFEST)
    return Built(
        path=destination,
        sha256=sha256,
        manifest=manifest,
        cached=cached,
        elapsed_s=time.monotonic() - started,
    )


def _is_whole(kept: Path | None) -> bool:
    """Whether an entry is there and undamaged; a damaged one is removed."""
    if kept is None:
        return False
    try:
        with bundle.opened(kept):
            return True
    except BundleError:
        shutil.rmtree(kept, ignore_errors=True)
        return False


def _check_files(request: Request, destination: Path) -> None:
    """What can be said before any work is done."""
    if not request.model.exists():
        raise ModelError(f"no such file: {request.model}")
    for what, path in (("calibration", request.calibration), ("evaluation", request.evaluation)):
        if path is not None and not path.exists():
            raise DataError(f"no such {what} file or folder: {path}")
    bundle.check_destination(destination)


def _loaded(path: Path, source: SourceModel, interface: Interface, root: Path) -> Dataset:
    """Data from a file, or gathered from a folder."""
    from edgekit import datasets, gathering

    folder = path.is_dir()
    file = gathering.gathered(path, source.inputs, interface, root) if folder else path
    return datasets.load(file, source.inputs)


def _fill(folder: Path, request: Request, root: Path, on_stage: OnStage) -> None:
    """Run the stages, from the source to the files of a bundle in ``folder``."""
    from edgekit import data_check, inspection, sources, trial, trials, validation

    with tempfile.TemporaryDirectory(prefix="edgekit-") as scratch:
        work = Path(scratch)
        on_stage("source", request.model.name)
        source = sources.load(request.model, work, request.shapes, trust=request.trust, cache=root)
        calibration, evaluation = (
            _loaded(path, source, request.interface, root) if path else None
            for path in (request.calibration, request.evaluation)
        )
        data_notes = data_check.checked(calibration, evaluation)
        on_stage("inspect", source.name)
        summary = inspection.inspect(source)
        on_stage("plan", request.profile.name)
        made = _planned(request, summary)
        _check_interface(request, made, source)
        on_stage("reference", f"running {source.name} itself")
        pictures = request.interface.pictures
        reference = validation.reference(source, evaluation, calibration, work, pictures)
        bench = trial.Bench(
            plan=made,
            summary=summary,
            reference=reference,
            metric=validation.choose_metric(request.metric, reference.labels),
            calibration=calibration,
            cache=root,
            mobile=request.profile.family in _MOBILE,
            device=request.profile,
            basis=request.basis,
            interface=request.interface,
        )
        passed = trials.first_that_passes(bench, work, on_stage)
        _write(folder, request.profile, bench, passed, data_notes)


def _write(
    folder: Path,
    profile: DeviceProfile,
    bench: trial.Bench,
    passed: trials.Passed,
    data_notes: tuple[str, ...],
) -> None:
    """Lay the bundle's files out and complete them with their manifest."""
    from edgekit.formats import FORMATS
    from edgekit.validation import write_golden

    made, recipe = passed.made, passed.made.recipe
    artifact = made.artifact
    spec = FORMATS[recipe.format]
    files = {name: made.folder / name for name in artifact.files}
    for name, path in {**files, **resources.runner_files(recipe.format)}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, folder / name)
    golden = write_golden(bench.reference, artifact, made.outputs, recipe, folder)
    manifest = Manifest(
        schema_version=SCHEMA_VERSION,
        model_name=bench.summary.name,
        model_sha256=bench.summary.sha256,
        device=profile.name,
        recipe=recipe,
        runtimes={
            spec.modules[runtime.name]: runtime.versions
            for runtime in profile.runtimes
            if spec.format in runtime.formats and runtime.name in spec.modules
        },
        delegate=_delegate(profile, recipe),
        artifact=artifact,
        validation=made.validation,
        golden=golden,
        plan=bench.plan,
        attempts=passed.attempts,
        tool_versions=fingerprint.versions(spec.tools) | spec.pinned_tools,
        digests={},
        sizes_bytes={},
        pruned=made.prepared.pruned,
        rounded=made.prepared.rounded,
        balanced=made.prepared.balanced,
        sensitivity=made.sensitivity,
        data_notes=data_notes,
        interface=bench.interface,
    )
    bundle.complete(folder, manifest)


def _delegate(profile: DeviceProfile, recipe: Recipe) -> str | None:
    """The delegate or execution provider that reaches the recipe's accelerator."""
    if recipe.accelerator == CPU:
        return None
    (found,) = [a for a in profile.accelerators if a.name == recipe.accelerator]
    return found.reached_by[recipe.runtime]
