"""Trying one recipe: change the network, make the artifact, check the claim, validate."""

from __future__ import annotations

import contextlib
from pathlib import Path

from msgspec import Struct

from edgekit.calibrations import Basis
from edgekit.compression import balancing, pruning, storing
from edgekit.datasets import Dataset
from edgekit.domain import (
    Artifact,
    BalancingReport,
    DeviceProfile,
    Goal,
    Interface,
    ModelSummary,
    NodeCost,
    Plan,
    Price,
    PruningReport,
    Recipe,
    RoundingReport,
    ValidationReport,
)
from edgekit.errors import ModelError, ToolError
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
    basis: Basis = Basis()
    interface: Interface = Interface()


class Prepared(Struct, frozen=True):
    """What is converted: the source after all that a recipe does to it before.

    Attributes:
        pruned: what its pruning took away.
        rounded: how its weights were fitted to few bits.
        balanced: how it was made ready for static int8.
    """

    source: SourceModel
    pruned: PruningReport | None = None
    rounded: RoundingReport | None = None
    balanced: BalancingReport | None = None


class Made(Struct, frozen=True, kw_only=True):
    """What came of a recipe.

    Attributes:
        folder: holds the artifact.
        outputs: the artifact's outputs for the reference's samples, in its own layout.
        prepared: what it was converted from.
        sensitivity: what its nodes cost, where some had to be raised.
        price: what those add.
    """

    recipe: Recipe
    folder: Path
    artifact: Artifact
    outputs: tuple[Path, ...]
    validation: ValidationReport
    prepared: Prepared
    sensitivity: tuple[NodeCost, ...] = ()
    price: Price | None = None


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
    ready = prepared(bench, recipe, on_stage)
    on_stage("convert", recipe.label)
    artifact = spec.make(job(bench, recipe, folder, ready.source))
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
        prepared=ready,
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


def prepared(
    bench: Bench, recipe: Recipe, on_stage: OnStage, *, mixed: bool | None = None
) -> Prepared:
    """The source, pruned first, then made ready for its integers.

    Without calibration data it stays as it is, and balancing it may fail: it is no must.

    Args:
        mixed: nodes will stay in float; ``None``: as the recipe says.
    """
    source, calibration, cache = bench.reference.source, bench.calibration, bench.cache
    if calibration is None:
        return Prepared(source)
    pruned: PruningReport | None = None
    if recipe.pruning:
        on_stage("prune", f"{recipe.pruning.fraction:.0%} of {source.name}")
        source, pruned = pruning.pruned(source, recipe.pruning, calibration, cache)
    wanted = recipe.quantization
    if storing.rounds(wanted):
        on_stage("round", f"{source.name} to {recipe.precision}")
        source, rounded = storing.rounded(
            source, recipe.format, wanted, calibration, cache, recipe.eight_bit_nodes
        )
        return Prepared(source, pruned, rounded)
    if wanted and balancing.serves(source, recipe):
        on_stage("balance", f"{source.name} for {recipe.precision}")
        some = bool(recipe.float_nodes) if mixed is None else mixed
        with contextlib.suppress(ToolError, ModelError):
            made, report = balancing.balanced(source, wanted, calibration, cache, mixed=some)
            return Prepared(made, pruned, balanced=report)
    return Prepared(source, pruned)


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
