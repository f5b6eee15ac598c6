"""Made-up inputs, to compare two graphs where no data are at hand."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.domain import TensorSpec

_INDICES = 2
Feeds = dict[str, NDArray[Any]]


def random_feeds(
    inputs: tuple[TensorSpec, ...], seed: int = 0, *, integers: int = _INDICES
) -> Feeds:
    """Seeded inputs: standard normal for floats, any byte for int8 and uint8, else 0 and 1.

    Bytes are quantized values, for which all of their range counts; wider integers are
    taken for indices, of which there are at least two; ``integers`` is how many there are.
    """
    rng = np.random.default_rng(seed)
    return {spec.name: _draw(rng, spec, integers) for spec in inputs}


def wide_integers(inputs: tuple[TensorSpec, ...]) -> bool:
    """Whether there are integers of which ``random_feeds`` draws only 0 and 1."""
    return any(_wide(np.dtype(spec.dtype)) for spec in inputs)


def _wide(kind: np.dtype[Any]) -> bool:
    return kind.kind in "iu" and kind.itemsize > 1


def _draw(rng: np.random.Generator, spec: TensorSpec, integers: int) -> NDArray[Any]:
    kind = np.dtype(spec.dtype)
    if kind.kind == "f":
        return rng.standard_normal(spec.shape).astype(kind)
    if kind.kind in "iu" and kind.itemsize == 1:
        bounds = np.iinfo(kind)
        return rng.integers(bounds.min, bounds.max, spec.shape, kind, endpoint=True)
    return rng.integers(0, integers if _wide(kind) else 2, spec.shape).astype(kind)
