"""Ranges of activations for static quantization: what samples show, and what to keep of it.

From the smallest to the largest value seen nothing is cut off, but a few large values make
every step coarse. The range with the least squared error weighs the two, tensor by
tensor; candidates are percentiles and shares of the whole range (as TensorRT's, ONNX
Runtime's and Torch's calibrators offer by flag; for the squared error: Choukroun et al.,
"Low-bit Quantization of Neural Networks for Efficient Inference", ICCV-W 2019).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from edgekit import fingerprint, store

Array = NDArray[Any]
Floats = NDArray[np.float64]

Values = Callable[[], Iterable[Mapping[str, Array]]]
"""Runs a network on every sample, and tells the values of its tensors."""

_FILE = "ranges.json"
_BINS = 2048
_LEVELS = 256
_SHARES = np.linspace(0.2, 1.0, 41)
_CUT_OFF = (1e-4, 1e-3, 1e-2)
_BETTER = 0.98
"""A range is cut only where that leaves clearly less error than the whole one."""


class Range(NamedTuple):
    """What a tensor's integers reach from and to."""

    low: float
    high: float


Ranges = dict[str, Range]
"""By the tensors' names."""


class Reach(Struct, frozen=True):
    """Two sets of ranges of the same tensors.

    Attributes:
        whole: from the smallest to the largest value seen.
        narrowed: the same, but inside the network with the least squared error.
    """

    whole: Ranges
    narrowed: Ranges


class Histogram(Struct, frozen=True, eq=False):
    """How often a tensor's values fall between ``edges``."""

    counts: Floats
    edges: Floats


def found(values: Values, inside: Iterable[str], *, symmetric: bool = False) -> Reach:
    """Both sets, of what a network shows.

    Args:
        values: run twice.
        inside: the tensors that are neither inputs nor outputs.
        symmetric: the zero point is to be zero.
    """
    seen = whole(values)
    narrowed = {name: seen[name] for name in inside if name in seen}
    return Reach(seen, {**seen, **least_error(values, narrowed, symmetric=symmetric)})


def kept(cache: Path | None, decided_by: Iterable[bytes | str], find: Callable[[], Reach]) -> Reach:
    """What ``find`` gives; found once for what is decided by the same.

    Args:
        cache: where it is kept; ``None``: nowhere.
        decided_by: the network, the samples, and what else matters.
        find: runs the network on the samples.
    """
    if cache is None:
        return find()

    def fill(folder: Path) -> None:
        (folder / _FILE).write_bytes(msgspec.json.encode(find()))

    entry = f"ranges/{store.key([*decided_by, fingerprint.tools()])}"
    made = store.make(cache, entry, fill)
    return msgspec.json.decode((made / _FILE).read_bytes(), type=Reach)


def whole(values: Values) -> Ranges:
    """The smallest and the largest value of every tensor over all samples.

    What is not finite, and tensors without elements, are passed over.
    """
    seen: Ranges = {}
    for tensors in values():
        for name, array in tensors.items():
            finite = array[np.isfinite(array)]
            if finite.size:
                low, high = seen.get(name, (np.inf, -np.inf))
                reach = Range(min(low, float(finite.min())), max(high, float(finite.max())))
                seen[name] = reach
    return seen


def least_error(values: Values, seen: Mapping[str, Range], *, symmetric: bool = False) -> Ranges:
    """For every tensor the range whose 256 steps leave the least squared error.

    Args:
        values: run once more.
        seen: of ``whole``.
        symmetric: the zero point is to be zero.
    """
    return {
        name: chosen(histogram, symmetric=symmetric)
        for name, histogram in histograms(values, seen).items()
    }


def histograms(values: Values, seen: Mapping[str, Range]) -> dict[str, Histogram]:
    """The values of every tensor that takes more than one, over all samples."""
    edges = {
        name: np.linspace(reach.low, reach.high, _BINS + 1)
        for name, reach in seen.items()
        if np.isfinite(reach.high - reach.low) and reach.high > reach.low
    }
    counts = {name: np.zeros(_BINS) for name in edges}
    for tensors in values():
        for name, array in tensors.items():
            if name in counts:
                counts[name] += np.histogram(array, edges[name])[0]
    return {name: Histogram(counts[name], edges[name]) for name in counts}


def chosen(histogram: Histogram, *, symmetric: bool = False) -> Range:
    """The range with the least squared error; zero lies in it."""
    middles = (histogram.edges[1:] + histogram.edges[:-1]) / 2
    tried = _candidates(histogram, symmetric=symmetric)
    errors = [_error(reach, middles, histogram.counts) for reach in tried]
    best = int(np.argmin(errors))
    return tried[best] if errors[best] < _BETTER * errors[0] else tried[0]


def _candidates(histogram: Histogram, *, symmetric: bool) -> list[Range]:
    """The whole range first."""
    low, high = min(histogram.edges[0], 0.0), max(histogram.edges[-1], 0.0)
    below = np.cumsum(histogram.counts) / histogram.counts.sum()
    cuts = [
        (
            min(histogram.edges[np.searchsorted(below, share)], 0.0),
            max(histogram.edges[np.searchsorted(below, 1 - share) + 1], 0.0),
        )
        for share in _CUT_OFF
    ]
    pairs = [(low, high), *((low * s, high * s) for s in _SHARES), *cuts]
    if symmetric:
        pairs = [(-max(-low, high), max(-low, high)) for low, high in pairs]
    return [Range(float(low), float(high)) for low, high in pairs if high > low]


def _error(reach: Range, middles: Floats, counts: Floats) -> float:
    """Squared, of what integers of 8 bits make of the values."""
    step = (reach.high - reach.low) / (_LEVELS - 1)
    made = np.clip(np.round(middles / step) * step, reach.low, reach.high)
    return float(np.sum(counts * (made - middles) ** 2))
