"""Whether calibration data are fit to calibrate with: finite, varied, like what they stand for."""

from __future__ import annotations

from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from edgekit.datasets import Dataset
from edgekit.errors import DataError

Array = NDArray[Any]

_FEW = 16
_UNLIKE, _OTHER_UNIT = 2.0, 8.0
"""Times as wide, or as far away, as the evaluation data: worth a note, and surely a mistake."""


class Spread(Struct, frozen=True, kw_only=True):
    """How the values of one input lie, over all samples."""

    low: float
    high: float
    mean: float
    deviation: float


def checked(calibration: Dataset | None, evaluation: Dataset | None) -> tuple[str, ...]:
    """What whoever calibrates with these data should know.

    Args:
        calibration: read once, a sample at a time.
        evaluation: what they should be like.

    Raises:
        DataError: values that are no numbers, samples that are all the same, or data in
            another unit than those of the evaluation.
    """
    if calibration is None:
        return ()
    spreads = _spreads(calibration)
    notes = []
    if calibration.count < _FEW:
        notes.append(
            f"{calibration.count} calibration samples: ranges may be too narrow, 100 are usual"
        )
    if evaluation is not None:
        for name, told in _spreads(evaluation, strict=False).items():
            notes += _unlike(calibration, name, spreads[name], told)
    return tuple(notes)


def _spreads(data: Dataset, *, strict: bool = True) -> dict[str, Spread]:
    sums: dict[str, NDArray[np.float64]] = {}
    first: dict[str, Array] = {}
    varied = data.count == 1 or not strict
    for index, sample in enumerate(data.samples()):
        for name, array in sample.items():
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise DataError(
                    f"{data.path}: sample {index} of {name!r} holds values that are no numbers",
                    "leave it out, or mend what made it",
                )
            varied = varied or not np.array_equal(first.setdefault(name, array), array)
            values = array.astype(np.float64)
            now = [values.size, values.sum(), (values**2).sum(), -values.min(), values.max()]
            had = sums.setdefault(name, np.array([0, 0, 0, -np.inf, -np.inf]))
            had[:3] += now[:3]
            had[3:] = np.maximum(had[3:], now[3:])
    if not varied:
        raise DataError(
            f"{data.path}: all {data.count} samples are the same",
            "calibrate with samples like those that the model will see",
        )
    return {name: _spread(*had.tolist()) for name, had in sums.items()}


def _spread(count: float, total: float, squares: float, low: float, high: float) -> Spread:
    mean = total / count
    deviation = max(squares / count - mean**2, 0.0) ** 0.5
    return Spread(low=-low, high=high, mean=mean, deviation=deviation)


def _unlike(data: Dataset, name: str, mine: Spread, told: Spread) -> list[str]:
    """What is said of an input whose values lie otherwise than those of the evaluation."""
    if not mine.deviation or not told.deviation:
        return []
    wider = max(mine.deviation, told.deviation) / min(mine.deviation, told.deviation)
    away = abs(mine.mean - told.mean) / max(mine.deviation, told.deviation)
    said = (
        f"{name!r} runs from {mine.low:.4g} to {mine.high:.4g} (mean {mine.mean:.4g}) in the "
        f"calibration data, from {told.low:.4g} to {told.high:.4g} (mean {told.mean:.4g}) in the "
        "evaluation data"
    )
    if max(wider, away) > _OTHER_UNIT:
        raise DataError(
            f"{data.path}: {said}",
            "one of them was prepared otherwise: scaled, shifted, or not at all",
        )
    return [said] if max(wider, away) > _UNLIKE else []
