"""Made-up inputs, to compare two graphs where no data are at hand."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.domain import TensorSpec

Feeds = dict[str, NDArray[Any]]


def random_feeds(inputs: tuple[TensorSpec, ...], seed: int = 0) -> Feeds:
    """Seeded inputs: standard normal for floats, any byte for int8 and uint8, else 0 and 1.

    Bytes are quantized values, for which all of their range counts; wider integers are
    indices.
    """
    rng = np.random.default_rng(seed)
    return {spec.name: _draw(rng, spec) for spec in inputs}


def _draw(rng: np.random.Generator, spec: TensorSpec) -> NDArray[Any]:
    kind = np.dtype(spec.dtype)
    if kind.kind == "f":
        return rng.standard_normal(spec.shape).astype(kind)
    if kind.kind in "iu" and kind.itemsize == 1:
        bounds = np.iinfo(kind)
        return rng.integers(bounds.min, bounds.max, spec.shape, kind, endpoint=True)
    return rng.integers(0, 2, spec.shape).astype(kind)
