"""Are predictions true? Every recipe of every model, timed and weighed; none was fitted to.

Goals: latency within 20 % for nine in ten, within 10 % for three in four; peak memory within
15 % for all.

    python benchmarks/prediction.py [--rounds 12] [--minutes 2] [--model NAME]
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import _oracle
from _common import Goal, finish

from edgekit import domain
from edgekit.planning import cost


def main() -> int:
    """Measure, print, and say by the status whether the goals hold."""
    options = _oracle.arguments(__doc__)
    with tempfile.TemporaryDirectory() as name:
        session = _oracle.measured(options, Path(name))
        rows = compare(session)
    return finish("prediction", *judged(rows))


def compare(session: _oracle.Measured) -> list[dict[str, Any]]:
    """A row for each artifact, whatever the gate said of it."""
    return [
        compared(one, session.summaries[one.task], session.profile, session.calibration)
        for one in session.made
        if one.artifact is not None
    ]


def judged(rows: list[dict[str, Any]]) -> tuple[dict[str, Any], list[Goal]]:
    """The figures over all rows, and what they must be."""
    latency = [abs(row["latency_ratio"] - 1) for row in rows]
    memory = [abs(row["memory_ratio"] - 1) for row in rows]
    shares = {
        "latency_within_10_percent": share(latency, 0.1),
        "latency_within_20_percent": share(latency, 0.2),
        "memory_within_15_percent": share(memory, 0.15),
        "inside_its_interval": sum(row["inside"] for row in rows) / len(rows),
    }
    goals = [
        Goal("latency_beyond_10_percent", 1 - shares["latency_within_10_percent"], 0.25),
        Goal("latency_beyond_20_percent", 1 - shares["latency_within_20_percent"], 0.10),
        Goal("worst_memory_off_by", max(memory), 0.15),
    ]
    return {**shares, "rows": rows}, goals


def compared(
    one: _oracle.Made,
    summary: domain.ModelSummary,
    profile: domain.DeviceProfile,
    found: domain.Calibration,
) -> dict[str, Any]:
    """One artifact: predicted over measured."""
    said = cost.predict(summary, profile, one.recipe, found)
    assumed = cost.predict(summary, profile, one.recipe)
    measured_ms, peak = one.ns / 1e6, _oracle.peak_bytes(one)
    return {
        "model": one.task,
        "recipe": one.recipe.label,
        "measured_ms": round(measured_ms, 4),
        "latency_ratio": round(said.latency_ms.mid / measured_ms, 3),
        "inside": said.latency_ms.low <= measured_ms <= said.latency_ms.high,
        "uncalibrated_ratio": round(assumed.latency_ms.mid / measured_ms, 3),
        "measured_memory_mb": round(peak / 1e6, 1),
        "memory_ratio": round(said.peak_memory_bytes.mid / peak, 3),
    }


def share(off_by: list[float], limit: float) -> float:
    """The share that is off by no more than the limit."""
    return sum(off <= limit for off in off_by) / len(off_by)


if __name__ == "__main__":
    sys.exit(main())
