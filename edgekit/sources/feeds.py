"""Made-up inputs, to compare two graphs where no data are at hand."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.domain import TensorSpec

Feeds = dict[str, NDArray[Any]]


def random_feeds(inputs: tuple[TensorSpec, ...], seed: int = 0) -> Feeds:
    """Seeded inputs: standard normal for floats, 0 and 1 for everything else."""
    rng = np.random.default_rng(seed)
    feeds: Feeds = {}
    for spec in inputs:
        kind = np.dtype(spec.dtype)
        normal = kind.kind == "f"
        draw = rng.standard_normal(spec.shape) if normal else rng.integers(0, 2, spec.shape)
        feeds[spec.name] = draw.astype(kind)
    return feeds
