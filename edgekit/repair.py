"""Leaving in float what must be: which nodes of a quantized network, and the fewest of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
from msgspec import structs

from edgekit import store
from edgekit.compression import stage
from edgekit.datasets import Dataset
from edgekit.domain import NodeCost, Recipe
from edgekit.errors import ToolError
from edgekit.formats import FORMATS, Job
from edgekit.observer import OnStage
from edgekit.trial import CHECKED_FROM_BYTES, Bench, Made, job, prepared, refusal, tried

_INT8 = 0.25
_BACK_IN_FLOAT = 0.15
"""Of the float weights' bytes: a fifth of the weights may go back from int8 to float."""

_COSTS = "costs.json"

_MOST = 0.5
"""Share of the nodes; with more of them in float it is not a quantized network any more."""


def by_cost(costs: Sequence[NodeCost]) -> tuple[NodeCost, ...]:
    """Those that cost anything, the costliest first."""
    return tuple(sorted((c for c in costs if c.error > 0), key=lambda c: (-c.error, c.name)))


class TooMuch(Exception):
    """So many nodes in float leave too little that is quantized."""


def fewest[Made](
    names: Sequence[str], total: int, attempt: Callable[[tuple[str, ...]], Made | None]
) -> Made | None:
    """What is made with the fewest nodes in float that does; ``None``: nothing is.

    Doubles their number until an attempt does, then halves the gap: about
    ``2 log2(n)`` attempts for ``n`` nodes.

    Args:
        names: nodes, the costliest first.
        total: how many nodes there are.
        attempt: makes the network with these in float; ``None``: it will not do. May raise
            ``TooMuch``.
    """
    most = min(len(names), int(_MOST * total))
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
    """The same recipe with the fewest costly nodes in float that passes; ``None``: none does.

    Args:
        naive_bytes: what the artifact takes with all nodes in int8; ``None``: it cannot be made.
    """
    spec = FORMATS[recipe.format]
    if spec.sensitivity is None or bench.calibration is None or not recipe.is_static:
        return None
    on_stage("sensitivity", f"what each node of {recipe.label} costs")
    try:
        source = prepared(bench, recipe, on_stage, mixed=True).source
        asked = job(bench, recipe, folder, source)
        costs = _sensitivity(asked, spec.sensitivity, bench.calibration, bench.cache)
    except ToolError:
        # Some runtimes do not survive every mixture; the next candidate is tried instead.
        return None
    harmful = by_cost(costs)
    floats = bench.summary.parameter_bytes
    allowed = (naive_bytes or _INT8 * floats + CHECKED_FROM_BYTES) + _BACK_IN_FLOAT * floats

    def attempt(names: tuple[str, ...]) -> Made | None:
        apart = folder / f"{len(names)}-in-float"
        apart.mkdir()
        mixed = structs.replace(recipe, float_nodes=names)
        try:
            found = tried(bench, mixed, apart, on_stage)
        except ToolError:
            return None
        if found.artifact.size_bytes > allowed:
            raise TooMuch
        return None if refusal(bench.plan.goal, found) else found

    found = fewest([cost.name for cost in harmful], len(costs), attempt)
    return structs.replace(found, sensitivity=harmful) if found else None


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
