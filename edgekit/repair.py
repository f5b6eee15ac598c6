"""Leaving in float what must be: which nodes of a quantized network, and the fewest of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from edgekit.domain import NodeCost

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
