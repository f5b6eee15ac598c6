"""What a plan may spend: the goal's budgets and the device's limits, and what would fit them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from msgspec import Struct

from edgekit.domain import (
    MIB,
    DeviceProfile,
    Goal,
    Prediction,
    Range,
    Recipe,
)

_GIB = 1024 * MIB
_MS, _MB, _MJ = 1.0, 1e6, 1.0


class Budget(Struct, frozen=True, kw_only=True):
    """The most of one quantity that an artifact may take.

    Attributes:
        limit: in ``unit``.
        scale: how many of the prediction's own unit one ``unit`` is.
        weighs: the quantity shrinks with the weights.
    """

    what: str
    unit: str
    limit: float
    scale: float
    predicted: Callable[[Prediction], Range]
    weighs: bool = False

    def excess(self, prediction: Prediction) -> float:
        """The expected value over the limit: above 1 it is expected to pass the budget."""
        return self.predicted(prediction).mid / (self.limit * self.scale)

    def is_hopeless(self, prediction: Prediction) -> bool:
        """Even the low end of the prediction passes the budget."""
        return self.predicted(prediction).low > self.limit * self.scale

    def lies_inside(self, prediction: Prediction) -> bool:
        """Only measuring can tell: the high end passes the budget, the low end does not."""
        return self.predicted(prediction).high > self.limit * self.scale


Prices = Iterable[tuple[Recipe, Prediction]]


def budgets(profile: DeviceProfile, goal: Goal) -> tuple[Budget, ...]:
    """Every budget in force: what the device has, and what the goal asks for."""
    rows: tuple[tuple[str, str, float | None, float, Callable[[Prediction], Range], bool], ...] = (
        ("memory", "MiB", profile.memory.model_budget_mib, MIB, _memory, True),
        ("storage", "GiB", profile.storage.total_gib, _GIB, _size, True),
        ("memory", "MB", goal.max_memory_mb, _MB, _memory, True),
        ("size", "MB", goal.max_size_mb, _MB, _size, True),
        ("latency", "ms", goal.max_latency_ms, _MS, _latency, False),
        ("energy", "mJ", goal.max_energy_mj, _MJ, _energy, False),
    )
    return tuple(
        Budget(what=what, unit=unit, limit=limit, scale=scale, predicted=take, weighs=weighs)
        for what, unit, limit, scale, take, weighs in rows
        if limit is not None
    )


def over(prediction: Prediction, budgets: Iterable[Budget]) -> str | None:
    """The first budget that is out of reach: even the low end of the prediction passes it."""
    for budget in budgets:
        if budget.is_hopeless(prediction):
            least = budget.predicted(prediction).low / budget.scale
            return (
                f"{budget.what}: at least {least:.3g} {budget.unit}, the budget is {budget.limit:g}"
            )
    return None


def overrun(prediction: Prediction, budgets: Iterable[Budget]) -> float:
    """How far the expected values pass the worst budget, as a factor; 1 when they keep all."""
    return max([1.0, *(budget.excess(prediction) for budget in budgets)])


def what_would_fit(prices: Prices, budgets: tuple[Budget, ...]) -> str:
    """Which budgets would do for the recipe that comes nearest, or how many fewer weights.

    "Would do" is said of the low end of the prediction, as budgets are judged.
    """
    recipe, nearest = min(
        prices, key=lambda pair: (max(_shortfalls(pair[1], budgets)), pair[0].label)
    )
    missed = [budget for budget in budgets if budget.is_hopeless(nearest)]
    needed = " and ".join(
        f"a {b.what} budget of {_up(b.predicted(nearest).low / b.scale)} {b.unit}" for b in missed
    )
    return f"{recipe.label} would fit with {needed}{_fewer_weights(nearest, missed)}"


def _fewer_weights(prediction: Prediction, missed: list[Budget]) -> str:
    """The share of the weights that would have to go, where that alone would do."""
    if not all(budget.weighs for budget in missed):
        return ""
    weights = prediction.size_bytes.low
    share = max((b.predicted(prediction).low - b.limit * b.scale) / weights for b in missed)
    if share < 1:
        return f", or with {math.ceil(100 * share)} % fewer weights"
    return "; no number of weights less would do: its activations alone are too many"


def _shortfalls(prediction: Prediction, budgets: tuple[Budget, ...]) -> list[float]:
    return [b.predicted(prediction).low / (b.limit * b.scale) for b in budgets]


def _up(value: float) -> str:
    """Three figures, rounded up: what is named must suffice."""
    step = 10.0 ** (math.floor(math.log10(value)) - 2)
    return f"{math.ceil(value / step) * step:.3g}"


def _latency(prediction: Prediction) -> Range:
    return prediction.latency_ms


def _memory(prediction: Prediction) -> Range:
    return prediction.peak_memory_bytes


def _size(prediction: Prediction) -> Range:
    return prediction.size_bytes


def _energy(prediction: Prediction) -> Range:
    return prediction.energy_mj
