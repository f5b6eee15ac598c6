"""Which of a network's windows to believe, on a device that others use as well.

Beside each window the runner counted for a moment: what slows counting (another thread of
the core, a clock that went down, a neighbour on the host) slows a network, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

_CALM = 1.06
_ONE_IN = 10


class Window(NamedTuple):
    """The median of a network's runs, and what counting took beside them; in nanoseconds."""

    median_ns: float
    counting_ns: float


def undisturbed(windows: Iterable[Window]) -> float:
    """What counting takes at its best; not its luckiest moment: one in ten was faster."""
    taken = sorted(window.counting_ns for window in windows)
    return taken[len(taken) // _ONE_IN]


def believed(windows: Sequence[Window], usual_ns: float) -> float:
    """Nanoseconds of one inference: of the calm windows the least.

    Where none was calm, the least disturbed one's, less what counting lost beside it.
    """
    calm = [w.median_ns for w in windows if w.counting_ns <= _CALM * usual_ns]
    if calm:
        return min(calm)
    nearest = min(windows, key=lambda window: window.counting_ns)
    return nearest.median_ns * usual_ns / nearest.counting_ns
