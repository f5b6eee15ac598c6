"""A decision as it is explained: the device's limits, the layers that weigh, the alternatives."""

from __future__ import annotations

from msgspec import Struct

from edgekit.domain.plan import Recipe


class LayerCost(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What one layer takes of the chosen recipe's time, and of the model's weights.

    Attributes:
        latency_share: of all layers' time together.
        weight_bytes: its weights as the source stores them.
    """

    name: str
    op: str
    latency_ms: float
    latency_share: float
    weight_bytes: int
    weight_share: float
    activation_elements: int


class MemorySplit(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where the chosen recipe's expected peak memory goes; bytes.

    Attributes:
        activations: live at once in the source's types, at most.
        rest: the runtime itself, and what it packs and reserves.
        budget: what one model may take on the device.
    """

    peak: float
    weights: float
    activations: float
    rest: float
    budget: float


class Alternative(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A recipe that was not chosen, against the one that was.

    Attributes:
        latency: how many times the chosen one's, by the expected values; so the others.
        why_not: why it was ruled out; ``None``: it would be tried next.
    """

    recipe: Recipe
    latency: float
    size: float
    memory: float
    energy: float
    why_not: str | None


class Explanation(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Why a plan is as it is.

    Attributes:
        limits: what bounds the device in the assumed power mode, a sentence each.
        layers: the heaviest, by time, the heaviest first.
        alternatives: every other recipe that could be predicted, in the plan's order.
    """

    limits: tuple[str, ...]
    layers: tuple[LayerCost, ...]
    memory: MemorySplit
    alternatives: tuple[Alternative, ...]
