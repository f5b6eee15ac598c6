"""Trying a plan's candidates in order until one passes: make, check the claim, validate, gate."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
from msgspec import Struct, structs

from edgekit import fingerprint, repair, store
from edgekit.compression import pruning, storing
from edgekit.datasets import Dataset
from edgekit.domain import (
    Artifact,
    Attempt,
    Candidate,
    DeviceProfile,
    Format,
    Goal,
    Interface,
    Mode,
    ModelSummary,
    NodeCost,
    Outcome,
    Plan,
    PruningReport,
    Recipe,
    RoundingReport,
    ValidationReport,
)
from edgekit.errors import ConversionFailed, GateError, ToolError, ToolMissing
from edgekit.formats import FORMATS, Job
from edgekit.observer import OnStage
from edgekit.sources import SourceModel
from edgekit.validation import Metric, Reference, validate

_WORTHWHILE = 0.9
"""A quantizer that leaves more than this share of the float weights has changed nothing."""

_INT8 = 0.25
_BACK_IN_FLOAT = 0.15
"""Of the float weights' bytes: a fifth of the weights may go back from int8 to float."""

_COSTS = "costs.json"

_CHECKED_FROM_BYTES = 64 * 1024
"""In smaller networks the graph itself outweighs the weights."""


class Bench(Struct, frozen=True, kw_only=True):
    """What every candidate is made from and judged by."""

    plan: Plan
    summary: ModelSummary
    reference: Reference
    metric: Metric
    calibration: Dataset | None
    cache: Path
    mobile: bool
    device: DeviceProfile | None = None
    interface: Interface = Interface()


class Passed(Struct, frozen=True, kw_only=True):
    """The candidate that passed.

    Attributes:
        folder: holds the artifact.
        outputs: the artifact's outputs for the reference's samples, in its own layout.
        attempts: it, and all that were tried before it.
        pruned: what its pruning took away.
        rounded: how its weights were fitted to few bits.
        sensitivity: what its nodes cost in int8, where some had to stay in float.
    """

    candidate: Candidate
    artifact: Artifact
    folder: Path
    outputs: tuple[Path, ...]
    validation: ValidationReport
    attempts: tuple[Attempt, ...]
    pruned: PruningReport | None = None
    rounded: RoundingReport | None = None
    sensitivity: tuple[NodeCost, ...] = ()


def first_that_passes(bench: Bench, work: Path, on_stage: OnStage) -> Passed:
    """Make and judge the candidates, the plan's first choice first.

    Args:
        bench: what they are made from and judged by.
        work: scratch space; what fails is removed again.
        on_stage: told the stages as they begin.

    Raises:
        GateError: every candidate was made, none passed.
        ToolError: no candidate could be made.
        ToolMissing: a tool is not installed and cannot be.
        DataError: calibration or evaluation data that will not do.
    """
    attempts: list[Attempt] = []
    unconvertible: dict[Format, ConversionFailed] = {}
    for index, candidate in enumerate(bench.plan.candidates):
        folder = work / f"candidate-{index}"
        folder.mkdir()
        recipe = candidate.recipe
        if bench.calibration is None and (_is_static(recipe) or recipe.pruning):
            reason = f"{'pruning' if recipe.pruning else 'static int8'} needs calibration data"
            attempts.append(Attempt(recipe=recipe, outcome=Outcome.REJECTED, reason=reason))
            continue
        try:
            if recipe.format in unconvertible:
                raise unconvertible[recipe.format]
            made = _tried(bench, recipe, folder, on_stage)
            refusal = _refusal(bench.plan.goal, made)
            attempts.append(_attempt(made, refusal))
            mendable = refusal is not None and not made.validation.passed
        except ToolMissing:
            # Not a verdict on the candidate: where the tool is there, it might be the best.
            raise
        except ToolError as error:
            if isinstance(error, ConversionFailed):
                unconvertible[recipe.format] = error
            reason = f"{error.message} ({error.hint[-300:]})" if error.hint else error.message
            attempts.append(Attempt(recipe=recipe, outcome=Outcome.FAILED, reason=reason))
            mendable = not isinstance(error, ConversionFailed)
            refusal = reason
        if mendable and (
            mended := _repaired(bench, recipe, attempts[-1].size_bytes, folder, on_stage)
        ):
            made, refusal = mended, None
            attempts.append(_attempt(made, None))
        if not refusal:
            return Passed(
                candidate=structs.replace(candidate, recipe=made.recipe),
                artifact=made.artifact,
                folder=made.folder,
                outputs=made.outputs,
                validation=made.validation,
                attempts=tuple(attempts),
                pruned=made.pruned,
                rounded=made.rounded,
                sensitivity=made.sensitivity,
            )
        shutil.rmtree(folder)
    raise _none_passed(attempts)


def _is_static(recipe: Recipe) -> bool:
    return recipe.quantization is not None and recipe.quantization.mode is Mode.STATIC


class _Made(Struct, frozen=True, kw_only=True):
    recipe: Recipe
    folder: Path
    artifact: Artifact
    outputs: tuple[Path, ...]
    validation: ValidationReport
    pruned: PruningReport | None
    rounded: RoundingReport | None
    sensitivity: tuple[NodeCost, ...] = ()


def _attempt(made: _Made, refusal: str | None) -> Attempt:
    kept = len(made.recipe.float_nodes)
    passed = f"passed with {kept} nodes in float" if kept else "the first candidate to pass"
    return Attempt(
        recipe=made.recipe,
        outcome=Outcome.REJECTED if refusal else Outcome.CHOSEN,
        reason=refusal or passed,
        size_bytes=made.artifact.size_bytes,
        validation=made.validation,
    )


def _repaired(
    bench: Bench, recipe: Recipe, naive_bytes: int | None, folder: Path, on_stage: OnStage
) -> _Made | None:
    """The same recipe with the fewest costly nodes in float that passes; ``None``: none does.

    Args:
        naive_bytes: what the artifact takes with all nodes in int8; ``None``: it cannot be made.
    """
    spec = FORMATS[recipe.format]
    if spec.sensitivity is None or bench.calibration is None or not _is_static(recipe):
        return None
    on_stage("sensitivity", f"what each node of {recipe.label} costs")
    try:
        costs = _sensitivity(bench, recipe, spec.sensitivity, folder, on_stage)
    except ToolError:
        # Some runtimes do not survive every mixture; the next candidate is tried instead.
        return None
    harmful = repair.by_cost(costs)
    floats = bench.summary.parameter_bytes
    allowed = (naive_bytes or _INT8 * floats + _CHECKED_FROM_BYTES) + _BACK_IN_FLOAT * floats

    def attempt(names: tuple[str, ...]) -> _Made | None:
        apart = folder / f"{len(names)}-in-float"
        apart.mkdir()
        mixed = structs.replace(recipe, float_nodes=names)
        try:
            found = _tried(bench, mixed, apart, on_stage)
        except ToolError:
            return None
        if found.artifact.size_bytes > allowed:
            raise repair.TooMuch
        return None if _refusal(bench.plan.goal, found) else found

    found = repair.fewest([cost.name for cost in harmful], len(costs), attempt)
    return structs.replace(found, sensitivity=harmful) if found else None


def _sensitivity(
    bench: Bench,
    recipe: Recipe,
    find: Callable[[Job], tuple[NodeCost, ...]],
    folder: Path,
    on_stage: OnStage,
) -> tuple[NodeCost, ...]:
    """Kept between builds by all that decides it."""
    source, _ = _pruned(bench, recipe, on_stage)
    job = _job(bench, recipe, folder, source)
    form = msgspec.json.encode((recipe.format, recipe.quantization))
    samples = bench.calibration.sha256 if bench.calibration else ""
    decided: list[bytes | str] = [form, samples, source.graph.read_bytes(), fingerprint.code()]

    def fill(aside: Path) -> None:
        (aside / _COSTS).write_bytes(msgspec.json.encode(find(job)))

    kept = store.make(bench.cache, f"sensitivity/{store.key(decided)}", fill)
    return msgspec.json.decode((kept / _COSTS).read_bytes(), type=tuple[NodeCost, ...])


def _tried(bench: Bench, recipe: Recipe, folder: Path, on_stage: OnStage) -> _Made:
    spec = FORMATS[recipe.format]
    source, pruned = _pruned(bench, recipe, on_stage)
    source, rounded = _rounded(bench, recipe, source, on_stage)
    on_stage("convert", recipe.label)
    artifact = spec.make(_job(bench, recipe, folder, source))
    _check_claim(bench.summary, recipe, artifact)
    on_stage("validate", recipe.label)
    report, outputs = validate(
        bench.reference,
        artifact,
        folder,
        spec.host_runtime,
        infer=spec.infer,
        metric=bench.metric,
        max_drop=bench.plan.goal.max_accuracy_drop,
    )
    return _Made(
        recipe=recipe,
        folder=folder,
        artifact=artifact,
        outputs=outputs,
        validation=report,
        pruned=pruned,
        rounded=rounded,
    )


def _job(bench: Bench, recipe: Recipe, folder: Path, source: SourceModel) -> Job:
    return Job(
        source=source,
        recipe=recipe,
        folder=folder,
        calibration=bench.calibration,
        cache=bench.cache,
        mobile=bench.mobile,
        device=bench.device,
        interface=bench.interface,
    )


def _pruned(
    bench: Bench, recipe: Recipe, on_stage: OnStage
) -> tuple[SourceModel, PruningReport | None]:
    """What is converted: the source, without what the recipe's pruning removes."""
    source = bench.reference.source
    if recipe.pruning is None or bench.calibration is None:
        return source, None
    on_stage("prune", f"{recipe.pruning.fraction:.0%} of {source.name}")
    return pruning.pruned(source, recipe.pruning, bench.calibration, bench.cache)


def _rounded(
    bench: Bench, recipe: Recipe, source: SourceModel, on_stage: OnStage
) -> tuple[SourceModel, RoundingReport | None]:
    """The source with weights that lie where the recipe's few bits can store them.

    Without calibration data a tool rounds them to nearest.
    """
    wanted = recipe.quantization
    if bench.calibration is None or not storing.rounds(wanted):
        return source, None
    on_stage("round", f"{source.name} to {recipe.precision}")
    return storing.rounded(source, recipe.format, wanted, bench.calibration, bench.cache)


def _check_claim(summary: ModelSummary, recipe: Recipe, artifact: Artifact) -> None:
    """A quantizer that says it is done must have made the weights smaller."""
    floats = summary.parameter_bytes
    worth_a_look = recipe.quantization is not None and floats >= _CHECKED_FROM_BYTES
    if worth_a_look and artifact.size_bytes > _WORTHWHILE * floats:
        raise ToolError(
            f"quantizing brought nothing: {artifact.size_bytes} bytes where the float weights "
            f"take {floats}"
        )


def _refusal(goal: Goal, made: _Made) -> str | None:
    """Why a finished artifact is not good enough; ``None`` when it is."""
    artifact, report = made.artifact, made.validation
    if not report.passed:
        return (
            f"{report.metric} fell from {report.baseline:.4g} to {report.value:.4g}, "
            f"{report.drop:.4g} where {report.max_drop:g} is allowed"
        )
    if goal.max_size_mb is not None and artifact.size_bytes > goal.max_size_mb * 1e6:
        return f"{artifact.size_bytes / 1e6:.4g} MB, the budget is {goal.max_size_mb:g}"
    return None


def _none_passed(attempts: list[Attempt]) -> GateError | ToolError:
    told = "\n".join(f"  {a.recipe.label}: {a.reason}" for a in attempts)
    if all(attempt.outcome is Outcome.FAILED for attempt in attempts):
        return ToolError(
            f"no candidate could be made:\n{told}", "`--verbose` shows what the tools said"
        )
    return GateError(
        f"no candidate passed:\n{told}",
        "allow a larger drop with --max-drop, give more calibration data, or a larger budget",
    )
