"""Which channels of a graph belong together: what is removed at once, and what cannot be.

Every output channel of a convolution or a dense layer is numbered. The numbers travel with
the tensors (``propagation``), and where an operator joins two channels they become one
number. What is not understood fixes the channels that reach it, with its reason. The taps
along each axis of a convolution's kernel are numbered as well; they stay where they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum
from itertools import chain, takewhile, zip_longest

import numpy as np
import onnx
from msgspec import Struct
from numpy.typing import NDArray

Numbers = NDArray[np.int64]

NO_CHANNEL = -1
"""Stands where a tensor holds something else than a channel: padding, a constant."""


FIRST_TAPS = 2
"""The axis of a convolution's weight that its kernel begins with."""


class Use(Enum):
    """What a weight's axis has to do with the channels along it."""

    MADE = "made"
    READ = "read"
    EACH = "each"
    TAP = "tap"


class Slot(Struct, frozen=True):
    """An axis of a node's weight, and the channel behind each of its indices.

    Attributes:
        use: the node makes these channels, reads them, or has a value for each; or they are
            its kernel's taps.
        channels: as many as the axis is long.
    """

    node: str
    tensor: str
    axis: int
    use: Use
    channels: tuple[int, ...]


class Counted(Struct, frozen=True):
    """A number in a node that counts channels: a shape's entry, a convolution's groups."""

    node: str
    axis: int
    channels: tuple[int, ...]


class Dimension(Struct, frozen=True):
    """Channels of one width: the layers that make it, and those of its channels that are free.

    Attributes:
        size: how many channels there are, the fixed ones too.
        channels: those that may be removed, each on its own; of taps each after those
            before it.
        narrowest: how many channels the layer makes that makes fewest of them.
        reason: why there are fewer than ``size``; empty: there are not.
        kernel_axis: these are no channels but the taps along this axis of a kernel.
    """

    layers: tuple[str, ...]
    size: int
    channels: tuple[int, ...]
    narrowest: int
    reason: str = ""
    kernel_axis: int | None = None


class Coupling(Struct, frozen=True):
    """All that is known of a graph's channels."""

    slots: tuple[Slot, ...]
    shapes: tuple[Counted, ...]
    groups: tuple[Counted, ...]
    dimensions: tuple[Dimension, ...]


class Channels(Struct, frozen=True, eq=False):
    """The channels along one axis of a tensor; ``numbers`` is as long as the axis."""

    axis: int
    numbers: Numbers


class Ledger:
    """The numbers given so far, which of them are one, and where weights hold them."""

    def __init__(self) -> None:
        self._parents: list[int] = []
        self._fixed: dict[int, str] = {}
        self._slots: list[tuple[str, str, int, Use, Numbers]] = []
        self._shapes: list[tuple[str, int, Numbers]] = []
        self._groups: list[tuple[str, int, Numbers]] = []

    def new(self, count: int) -> Numbers:
        """As many new channels."""
        first = len(self._parents)
        self._parents.extend(range(first, first + count))
        return np.arange(first, first + count)

    def join(self, one: Numbers, other: Numbers, reason: str) -> None:
        """Channels that must go together; one that is joined to no channel is fixed."""
        for a, b in zip(one.tolist(), other.tolist(), strict=True):
            if NO_CHANNEL in (a, b):
                self.fix(np.array([a, b]), reason)
                continue
            first, second = sorted((self._root(a), self._root(b)))
            self._parents[second] = first
            if second in self._fixed:
                self._fixed.setdefault(first, self._fixed[second])

    def fix(self, numbers: Numbers, reason: str) -> None:
        """Channels that have to stay."""
        for number in set(numbers.tolist()) - {NO_CHANNEL}:
            self._fixed.setdefault(self._root(number), reason)

    def slot(self, node: str, tensor: str, axis: int, use: Use, numbers: Numbers) -> None:
        self._slots.append((node, tensor, axis, use, numbers))

    def shape(self, node: str, axis: int, numbers: Numbers) -> None:
        self._shapes.append((node, axis, numbers))

    def group(self, node: str, numbers: Numbers) -> None:
        self._groups.append((node, 0, numbers))

    def fix_shared(self, uses: dict[str, int]) -> None:
        """A weight that several nodes use keeps its channels unless all use them alike.

        Args:
            uses: how many nodes take a tensor, by its name.
        """
        rows: dict[str, dict[int, list[Numbers]]] = {}
        for _, tensor, axis, _, numbers in self._slots:
            if uses[tensor] > 1:
                rows.setdefault(tensor, {}).setdefault(axis, []).append(numbers)
        for tensor, axes in rows.items():
            for found in axes.values():
                for other in found[1:]:
                    self.join(found[0], other, f"the weight {tensor!r} is shared")
                if len(found) < uses[tensor]:
                    self.fix(found[0], f"the weight {tensor!r} is shared")

    def closed(self) -> Coupling:
        """The ledger's result."""
        slots = tuple(
            Slot(node, tensor, axis, use, self._roots(numbers))
            for node, tensor, axis, use, numbers in self._slots
        )
        return Coupling(
            slots=slots,
            shapes=self._counted(self._shapes),
            groups=self._counted(self._groups),
            dimensions=(*self._dimensions(slots), *self._kernels(slots)),
        )

    def _dimensions(self, slots: Sequence[Slot]) -> Iterable[Dimension]:
        """Widths: layers that make a channel in common make the same one."""
        widths: list[tuple[set[int], list[str]]] = []
        for slot in slots:
            if slot.use is not Use.MADE:
                continue
            channels, layers = set(slot.channels) - {NO_CHANNEL}, [slot.node]
            for width in [w for w in widths if w[0] & channels]:
                widths.remove(width)
                channels, layers = width[0] | channels, width[1] + layers
            widths.append((channels, layers))
        for channels, layers in widths:
            reasons = [self._fixed[c] for c in sorted(channels) if c in self._fixed]
            yield Dimension(
                layers=tuple(dict.fromkeys(layers)),
                size=len(channels),
                channels=tuple(sorted(c for c in channels if c not in self._fixed)),
                narrowest=min(
                    len(set(slot.channels))
                    for slot in slots
                    if slot.use is Use.MADE and channels & set(slot.channels)
                ),
                reason=reasons[0] if reasons else "",
            )

    def _kernels(self, slots: Sequence[Slot]) -> Iterable[Dimension]:
        """Taps go from a kernel's ends only: the first of them, then in turn with the last.

        What is left of a kernel that was padded alike at both ends is then padded as "SAME"
        pads it, which every runtime's convolution does by itself.
        """
        layers: dict[tuple[int, tuple[int, ...]], list[str]] = {}
        for slot in slots:
            if slot.use is Use.TAP:
                layers.setdefault((slot.axis, slot.channels), []).append(slot.node)
        for (axis, taps), names in layers.items():
            ends = [takewhile(lambda tap: tap not in self._fixed, t) for t in (taps, taps[::-1])]
            free = [tap for tap in chain(*zip_longest(*ends)) if tap is not None]
            yield Dimension(
                layers=tuple(names),
                size=len(taps),
                channels=tuple(dict.fromkeys(free)),
                narrowest=len(taps),
                kernel_axis=axis - FIRST_TAPS,
            )

    def _counted(self, rows: list[tuple[str, int, Numbers]]) -> tuple[Counted, ...]:
        return tuple(Counted(node, axis, self._roots(numbers)) for node, axis, numbers in rows)

    def _roots(self, numbers: Numbers) -> tuple[int, ...]:
        return tuple(n if n == NO_CHANNEL else self._root(n) for n in numbers.tolist())

    def _root(self, number: int) -> int:
        while (parent := self._parents[number]) != number:
            self._parents[number] = self._parents[parent]
            number = parent
        return number


def coupling(model: onnx.ModelProto) -> Coupling:
    """The channels of a normalised graph.

    Args:
        model: weights as initializers, fixed shapes; it is not changed.
    """
    from edgekit.compression import propagation

    return propagation.followed(model).closed()
