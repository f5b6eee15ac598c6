"""Trying one recipe: change the network, make the artifact, check the claim, validate."""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

from edgekit.compression import pruning, storing
from edgekit.datasets import Dataset
from edgekit.domain import (
    Artifact,
    DeviceProfile,
    Goal,
    Interface,
    ModelSummary,
    NodeCost,
    Plan,
    PruningReport,
    Recipe,
    RoundingReport,
    ValidationReport,
)
from edgekit.errors import ToolError
from edgekit.formats import FORMATS, Job
from edgekit.observer import OnStage
from edgekit.sources import SourceModel
from edgekit.validation import Metric, Reference, validate

_WORTHWHILE = 0.9
"""A quantizer that leaves more than this share of the float weights has changed nothing."""

CHECKED_FROM_BYTES = 64 * 1024
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


class Made(Struct, frozen=True, kw_only=True):
    """What came of a recipe.

    Attributes:
        folder: holds the artifact.
        outputs: the artifact's outputs for the reference's samples, in its own layout.
        pruned: what its pruning took away.
        rounded: how its weights were fitted to few bits.
        sensitivity: what its nodes cost in int8, where some had to stay in float.
    """

    recipe: Recipe
    folder: Path
    artifact: Artifact
    outputs: tuple[Path, ...]
    validation: ValidationReport
    pruned: PruningReport | None
    rounded: RoundingReport | None
    sensitivity: tuple[NodeCost, ...] = ()


def tried(bench: Bench, recipe: Recipe, folder: Path, on_stage: OnStage) -> Made:
    """Make and validate what a recipe says.

    Args:
        bench: what it is made from and judged by.
        recipe: how.
        folder: exists; the artifact goes into it.
        on_stage: told the stages as they begin.

    Raises:
        ToolError: a tool failed, or did not do what it says.
        DataError: data that will not do.
    """
    spec = FORMATS[recipe.format]
    source, pruned = pruned_source(bench, recipe, on_stage)
    source, rounded = _rounded(bench, recipe, source, on_stage)
    on_stage("convert", recipe.label)
    artifact = spec.make(job(bench, recipe, folder, source))
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
    return Made(
        recipe=recipe,
        folder=folder,
        artifact=artifact,
        outputs=outputs,
        validation=report,
        pruned=pruned,
        rounded=rounded,
    )


def job(bench: Bench, recipe: Recipe, folder: Path, source: SourceModel) -> Job:
    """What a format is asked to make of ``source`` by a recipe."""
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


def pruned_source(
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
    worth_a_look = recipe.quantization is not None and floats >= CHECKED_FROM_BYTES
    if worth_a_look and artifact.size_bytes > _WORTHWHILE * floats:
        raise ToolError(
            f"quantizing brought nothing: {artifact.size_bytes} bytes where the float weights "
            f"take {floats}"
        )


def refusal(goal: Goal, made: Made) -> str | None:
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
