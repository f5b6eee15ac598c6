"""How many channels each dimension gives up: from what each costs the output, to a goal."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from edgekit.compression.groups import Coupling, Dimension

_LEVELS = 8
"""At how many sizes a dimension's cost is looked at, at most."""

_HOPELESS = 1.0
"""An output error as large as the output's own variance: removing more is not looked at."""


class Level(Struct, frozen=True):
    """A dimension without ``removed`` channels, and the output error of that alone."""

    removed: int
    error: float


def levels(dimension: Dimension, multiple: int) -> tuple[int, ...]:
    """How many channels may be removed, so that multiples of ``multiple`` are left."""
    first = dimension.size - (dimension.size - 1) // multiple * multiple
    most = min(len(dimension.channels), dimension.narrowest - multiple)
    counts = range(first, most + 1, multiple)
    stride = -(-len(counts) // _LEVELS)
    return tuple(counts[:: stride or 1])


def sensitivity(
    dimension: Dimension, multiple: int, error: Callable[[int], float]
) -> tuple[Level, ...]:
    """What removing channels of one dimension alone costs, the least first.

    Args:
        dimension: whose channels are removed.
        multiple: of what the channels left over are a multiple.
        error: of the network's output, without so many of them.
    """
    found = [Level(0, 0.0)]
    for removed in levels(dimension, multiple):
        found.append(Level(removed, error(removed)))
        if found[-1].error > _HOPELESS:
            break
    return tuple(found)


class Width(Struct, frozen=True, eq=False):
    """How a network's MACs follow from the channels left in its dimensions.

    Attributes:
        macs: of each node that a dimension runs through.
        shares: ``[axes, dimensions]``: the share of each weight axis that one channel is.
        nodes: the node of each axis, as an index of ``macs``.
        fixed: MACs of all other nodes.
    """

    macs: NDArray[np.float64]
    shares: NDArray[np.float64]
    nodes: NDArray[np.int64]
    fixed: float

    def left(self, removed: Sequence[int]) -> float:
        """MACs without so many channels of each dimension."""
        kept = 1 - self.shares @ np.array(removed, np.float64)
        factors = np.ones(len(self.macs))
        np.multiply.at(factors, self.nodes, kept)
        return float(self.macs @ factors + self.fixed)


def width(
    coupling: Coupling, dimensions: Sequence[Dimension], macs: dict[str, int], weights: set[str]
) -> Width:
    """See ``Width``; ``macs`` are those of each node by name, ``weights`` its matrices."""
    members = [set(dimension.channels) for dimension in dimensions]
    axes: dict[tuple[str, int], list[float]] = {}
    for slot in coupling.slots:
        counts = [sum(c in one for c in slot.channels) / len(one) for one in members]
        if macs.get(slot.node) and any(counts) and slot.tensor in weights:
            axes[slot.node, slot.axis] = [count / len(slot.channels) for count in counts]
    names = list(dict.fromkeys(node for node, _ in axes))
    return Width(
        macs=np.array([macs[name] for name in names], np.float64),
        shares=np.array(list(axes.values()), np.float64).reshape(len(axes), len(members)),
        nodes=np.array([names.index(node) for node, _ in axes], np.int64),
        fixed=float(sum(count for name, count in macs.items() if name not in names)),
    )


def allocate(tables: Sequence[Sequence[Level]], width: Width, goal: float) -> tuple[int, ...]:
    """How many channels to remove of each dimension, for at most ``goal`` MACs.

    Greedy: the step with the least error for the MACs that it saves, whatever its length,
    until the goal is met; then whatever was not needed is given back. Errors of dimensions
    are taken to add up. All there is to remove, when even that does not meet the goal.
    """
    chosen = [0] * len(tables)

    def removed(at: Sequence[int]) -> list[int]:
        return [table[index].removed for table, index in zip(tables, at, strict=True)]

    while (now := width.left(removed(chosen))) > goal:
        steps = [
            (
                _price(tables[d], chosen[d], to, now - width.left(removed(_with(chosen, d, to)))),
                d,
                to,
            )
            for d in range(len(tables))
            for to in range(chosen[d] + 1, len(tables[d]))
        ]
        if not steps:
            break
        _, which, to = min(steps)
        chosen = _with(chosen, which, to)
    spare = [
        (tables[d][chosen[d]].error - tables[d][to].error, d, to)
        for d in range(len(tables))
        for to in range(chosen[d])
    ]
    for _, which, to in sorted(spare, reverse=True):
        back = _with(chosen, which, to)
        if to < chosen[which] and width.left(removed(back)) <= goal:
            chosen = back
    return tuple(removed(chosen))


def _price(table: Sequence[Level], at: int, to: int, saved: float) -> float:
    """Error per MAC saved."""
    return (table[to].error - table[at].error) / max(saved, 1e-9)


def _with(chosen: Sequence[int], which: int, to: int) -> list[int]:
    return [to if index == which else old for index, old in enumerate(chosen)]
