"""Which nodes an accelerator takes, what stays on the CPU, and what going to and fro costs."""

from __future__ import annotations

from collections import Counter
from itertools import groupby, pairwise

from msgspec import Struct, structs

from edgekit.domain import CPU, Calibration, DeviceProfile, ModelSummary, NodeSummary, Recipe
from edgekit.planning import cost, kernels
from edgekit.planning.delegates import DELEGATES, Delegate

CALL_MS = 0.15
"""Of one call into a delegate: queueing, waking the device, waiting for it. Published
measurements of mobile GPUs and of TensorRT on Jetsons go from 0.05 to 0.3 ms."""


class Placement(Struct, frozen=True, kw_only=True):
    """A graph split between an accelerator and the CPU.

    Nodes are looked at in their order of execution: a stretch of taken ones is a partition.
    In a graph with branches the runtime may find fewer of them.

    Attributes:
        taken: for each node of the summary, whether the accelerator runs it.
        partitions: stretches that the accelerator runs, one call each.
        fallen_back: operator -> how many of its nodes stay on the CPU.
        boundary_elements: elements of the activations that cross between the two.
    """

    taken: tuple[bool, ...]
    partitions: int
    fallen_back: dict[str, int]
    boundary_elements: int


class Fallback(Struct, frozen=True, kw_only=True):
    """What the nodes that stay on the CPU add to an inference; milliseconds and bytes."""

    compute_ms: float
    transfer_ms: float
    transfer_bytes: float

    @property
    def total_ms(self) -> float:
        return self.compute_ms + self.transfer_ms


NO_FALLBACK = Fallback(compute_ms=0.0, transfer_ms=0.0, transfer_bytes=0.0)


def place(summary: ModelSummary, delegate: str) -> Placement:
    """Split a graph as a delegate or execution provider of that name would."""
    known = DELEGATES.get(delegate, Delegate())
    taken = _limited(_sides(summary.nodes, known), summary.nodes, known.max_partitions)
    crossings = [
        before.output_elements
        for (before, here), (_, there) in pairwise(zip(summary.nodes, taken, strict=True))
        if here != there
    ]
    left = Counter(
        node.op
        for node, here in zip(summary.nodes, taken, strict=True)
        if not here and not kernels.is_folded(node)
    )
    return Placement(
        taken=taken,
        partitions=sum(here for here, _ in groupby(taken)),
        fallen_back=dict(sorted(left.items(), key=lambda item: (-item[1], item[0]))),
        boundary_elements=sum(crossings),
    )


def fallback(
    summary: ModelSummary,
    profile: DeviceProfile,
    recipe: Recipe,
    placement: Placement,
    calibration: Calibration | None = None,
) -> Fallback:
    """What it costs that not all of the graph runs on the recipe's accelerator.

    The nodes left take the CPU's time instead of the accelerator's; each boundary moves an
    activation through the memory; each partition but the first is a call more.
    """
    if all(placement.taken):
        return NO_FALLBACK
    there = cost.node_costs(summary, profile, recipe)
    on_cpu = structs.replace(recipe, accelerator=CPU)
    here = cost.node_costs(summary, profile, on_cpu, calibration)
    moved = zip(placement.taken, here, there, strict=True)
    transferred = placement.boundary_elements * float(recipe.activation_bytes)
    calls = max(0, placement.partitions - 1) * CALL_MS
    return Fallback(
        compute_ms=sum(cpu - accelerated for taken, cpu, accelerated in moved if not taken),
        # Bytes per nanosecond are gigabytes per second.
        transfer_ms=calls + transferred / profile.memory.bandwidth_gb_per_s / 1e6,
        transfer_bytes=transferred,
    )


def _sides(nodes: tuple[NodeSummary, ...], delegate: Delegate) -> tuple[bool, ...]:
    """Whether each node is taken; what is fused goes where its predecessor goes."""
    sides: list[bool] = []
    for node in nodes:
        follows = kernels.is_folded(node) and bool(sides)
        sides.append(sides[-1] if follows else kernels.is_folded(node) or delegate.takes(node))
    return tuple(sides)


def _limited(
    sides: tuple[bool, ...], nodes: tuple[NodeSummary, ...], most: int | None
) -> tuple[bool, ...]:
    """Only partitions that do something stay, and of those the ones of most work."""
    stretches = [
        tuple(group) for here, group in groupby(range(len(nodes)), key=sides.__getitem__) if here
    ]
    working = [s for s in stretches if any(not kernels.is_folded(nodes[index]) for index in s)]
    working.sort(key=lambda stretch: -sum(nodes[index].macs for index in stretch))
    kept = {index for stretch in working[:most] for index in stretch}
    return tuple(index in kept for index in range(len(nodes)))
