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

_NOTHING = 1e-4
"""Added to what each step costs: below it, the step that saves most counts as the best."""

_BALANCE = 4.0
"""Multiply-accumulates in the time that a weight takes to be fetched, at least: layers of many
weights and few positions wait for them."""


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
        weights: how many each of them has.
        shares: ``[axes, dimensions]``: the share of each weight axis that one channel is.
        nodes: the node of each axis, as an index of ``macs``.
        fixed: MACs of all other nodes.
    """

    macs: NDArray[np.float64]
    weights: NDArray[np.float64]
    shares: NDArray[np.float64]
    nodes: NDArray[np.int64]
    fixed: float

    def left(self, removed: Sequence[int]) -> float:
        """MACs without so many channels of each dimension."""
        return float(self.macs @ self._factors(removed) + self.fixed)

    def work(self, removed: Sequence[int]) -> float:
        """The MACs that take as long as what is left: arithmetic, and weights that are fetched."""
        spent = self.macs + _BALANCE * self.weights
        return float(spent @ self._factors(removed) + self.fixed)

    def _factors(self, removed: Sequence[int]) -> NDArray[np.float64]:
        """What is left of each node, as a share."""
        kept = 1 - self.shares @ np.array(removed, np.float64)
        factors = np.ones(len(self.macs))
        np.multiply.at(factors, self.nodes, kept)
        return factors


def width(
    coupling: Coupling,
    dimensions: Sequence[Dimension],
    macs: dict[str, int],
    weights: dict[str, int],
) -> Width:
    """See ``Width``.

    Args:
        macs: of each node, by its name.
        weights: elements of each matrix, by the tensor's name.
    """
    members = [set(dimension.channels) for dimension in dimensions]
    axes: dict[tuple[str, int], list[float]] = {}
    elements: dict[str, int] = {}
    for slot in coupling.slots:
        counts = [sum(c in one for c in slot.channels) / len(one) for one in members]
        if macs.get(slot.node) and any(counts) and slot.tensor in weights:
            axes[slot.node, slot.axis] = [count / len(slot.channels) for count in counts]
            elements[slot.node] = weights[slot.tensor]
    names = list(elements)
    return Width(
        macs=np.array([macs[name] for name in names], np.float64),
        weights=np.array(list(elements.values()), np.float64),
        shares=np.array(list(axes.values()), np.float64).reshape(len(axes), len(members)),
        nodes=np.array([names.index(node) for node, _ in axes], np.int64),
        fixed=float(sum(count for name, count in macs.items() if name not in names)),
    )


def allocate(tables: Sequence[Sequence[Level]], width: Width, goal: float) -> tuple[int, ...]:
    """How many channels to remove of each dimension, for at most ``goal`` MACs.

    Greedy: the step with the least error for the work that it saves, whatever its length,
    until the goal is met; then whatever was not needed is given back. Errors of dimensions
    are taken to add up. All there is to remove, when even that does not meet the goal.
    """
    chosen = [0] * len(tables)

    def removed(at: Sequence[int]) -> list[int]:
        return [table[index].removed for table, index in zip(tables, at, strict=True)]

    def moved(which: int, to: int) -> list[int]:
        return removed([*chosen[:which], to, *chosen[which + 1 :]])

    def price(which: int, to: int) -> float:
        """Error for the work that lies between, forth or back."""
        fewer, more = sorted((chosen[which], to))
        saved = width.work(moved(which, fewer)) - width.work(moved(which, more))
        error = tables[which][more].error - tables[which][fewer].error
        return (error + _NOTHING) / max(saved, 1e-9)

    while width.left(removed(chosen)) > goal:
        steps = [
            (price(which, to), which, to)
            for which, table in enumerate(tables)
            for to in range(chosen[which] + 1, len(table))
        ]
        if not steps:
            break
        _, which, to = min(steps)
        chosen[which] = to
    spare = [
        (price(which, to), which, to) for which in range(len(tables)) for to in range(chosen[which])
    ]
    for _, which, to in sorted(spare, reverse=True):
        if to < chosen[which] and width.left(moved(which, to)) <= goal:
            chosen[which] = to
    return tuple(removed(chosen))
