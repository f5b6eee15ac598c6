"""Raising what must be: the costliest nodes of a quantized network, and the fewest of them.

Each is raised by one precision. What computes in int8 goes back to float. Weights in four
bits go to eight, which lose as little as float does; where that does not do either, weights
are not to blame.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct, structs

from edgekit import store
from edgekit.compression import stage, storing
from edgekit.datasets import Dataset
from edgekit.domain import ModelSummary, NodeCost, Price, Recipe
from edgekit.errors import ToolError
from edgekit.formats import FORMATS, Job
from edgekit.observer import OnStage
from edgekit.planning.cost import raising_ms
from edgekit.planning.pruned import scaled
from edgekit.trial import CHECKED_FROM_BYTES, Bench, Made, job, prepared, refusal, tried

_COSTS = "costs.json"


class Step(Struct, frozen=True, kw_only=True):
    """From one precision to the next.

    Attributes:
        kept: the recipe's field that names the raised nodes.
        stored: bytes of the weights with none raised, as a share of those in float.
        more: how many more there may be, as the same share.
        most: share of the nodes that may be raised.
        weighed: a raise costs bytes only, so the cost of a node counts by its weights.
    """

    kept: str
    stored: float
    more: float
    most: float
    weighed: bool = False


TO_FLOAT = Step(kept="float_nodes", stored=0.25, more=0.15, most=0.5)
"""A fifth of the weights; with more nodes in float it is not a quantized network any more."""

TO_EIGHT_BITS = Step(kept="eight_bit_nodes", stored=0.125, more=0.0625, most=1.0, weighed=True)
"""A half of the weights: else four bits are not worth their while."""


def by_cost(costs: Sequence[NodeCost]) -> tuple[NodeCost, ...]:
    """Those that cost anything, the costliest first."""
    return tuple(sorted((c for c in costs if c.error > 0), key=lambda c: (-c.error, c.name)))


class TooMuch(Exception):
    """So many raised nodes leave too little that is quantized."""


def fewest[Made](
    names: Sequence[str], most: int, attempt: Callable[[tuple[str, ...]], Made | None]
) -> Made | None:
    """What is made with the fewest raised nodes that does; ``None``: nothing is.

    Doubles their number until an attempt does, then halves the gap: about
    ``2 log2(n)`` attempts for ``n`` nodes.

    Args:
        names: nodes, the costliest first.
        most: how many may be raised.
        attempt: makes the network with these raised; ``None``: it will not do. May raise
            ``TooMuch``.
    """
    most = min(len(names), most)
    works: Made | None = None
    fails, enough, count = 0, most + 1, 1
    while enough - fails > 1:
        try:
            made = attempt(tuple(names[:count]))
        except TooMuch:
            enough = count
        else:
            if made is None:
                fails = count
            else:
                enough, works = count, made
        doubling = enough == most + 1
        count = min(2 * fails, most) if doubling else (fails + enough) // 2
    return works


def repaired(
    bench: Bench, recipe: Recipe, naive_bytes: int | None, folder: Path, on_stage: OnStage
) -> Made | None:
    """The same recipe with the fewest costly nodes raised that passes; ``None``: none does.

    Args:
        naive_bytes: what the artifact takes with none raised; ``None``: it cannot be made.
    """
    step, find = _step(recipe), FORMATS[recipe.format].sensitivity
    if step is None or find is None or bench.calibration is None:
        return None
    on_stage("sensitivity", f"what each node of {recipe.label} costs")
    # Weights that were rounded already would lose nothing more.
    judged = recipe if recipe.is_static else structs.replace(recipe, quantization=None)
    try:
        source = prepared(bench, judged, on_stage, mixed=True).source
        asked = job(bench, recipe, folder, source)
        costs = _sensitivity(asked, find, bench.calibration, bench.cache)
    except ToolError:
        # Some runtimes do not survive every mixture; the next candidate is tried instead.
        return None
    harmful = by_cost(costs)
    floats = bench.summary.parameter_bytes
    allowed = (naive_bytes or step.stored * floats + CHECKED_FROM_BYTES) + step.more * floats

    def attempt(names: tuple[str, ...]) -> Made | None:
        apart = folder / f"{len(names)}-raised"
        apart.mkdir()
        mixed = structs.replace(recipe, **{step.kept: names})
        try:
            found = tried(bench, mixed, apart, on_stage)
        except ToolError:
            return None
        if found.artifact.size_bytes > allowed:
            raise TooMuch
        return None if refusal(bench.plan.goal, found) else found

    names = _by_worth(harmful, bench.summary) if step.weighed else harmful
    found = fewest([cost.name for cost in names], int(step.most * len(costs)), attempt)
    if found is None:
        return None
    found = structs.replace(found, sensitivity=harmful)
    return structs.replace(found, price=_price(bench, found, naive_bytes))


def _price(bench: Bench, made: Made, naive_bytes: int | None) -> Price | None:
    """What the raised nodes add; ``None``: it was not made for a device."""
    if bench.device is None:
        return None
    raised = {name for names in made.recipe.raised.values() for name in names}
    nodes = {cost.source for cost in made.sensitivity if cost.name in raised}
    summary = scaled(bench.summary, made.recipe.pruning)
    known = bench.basis.calibration
    return Price(
        size_bytes=None if naive_bytes is None else made.artifact.size_bytes - naive_bytes,
        latency_ms=raising_ms(summary, bench.device, made.recipe, nodes, known),
    )


def _step(recipe: Recipe) -> Step | None:
    """How nodes of a recipe are raised; ``None``: there is nothing to be raised."""
    if storing.rounds(recipe.quantization):
        return TO_EIGHT_BITS
    return TO_FLOAT if recipe.is_static else None


def _by_worth(costs: Sequence[NodeCost], summary: ModelSummary) -> list[NodeCost]:
    """Those first that cost most for each of their weights."""
    weights = {node.name: max(1, node.parameters) for node in summary.nodes}
    return sorted(costs, key=lambda cost: (-cost.error / weights.get(cost.name, 1), cost.name))


def _sensitivity(
    asked: Job, find: Callable[[Job], tuple[NodeCost, ...]], calibration: Dataset, cache: Path
) -> tuple[NodeCost, ...]:
    """Kept between builds by all that decides it."""
    how = (asked.recipe.format, asked.recipe.quantization)

    def fill(aside: Path) -> None:
        (aside / _COSTS).write_bytes(msgspec.json.encode(find(asked)))

    entry = stage.entry("sensitivity", asked.source, calibration, *how)
    kept = store.make(cache, entry, fill)
    return msgspec.json.decode((kept / _COSTS).read_bytes(), type=tuple[NodeCost, ...])
