"""Does the planner find what is fastest? Its choice, made unseen, against every recipe measured.

Goals: regret (chosen over best, among what passes the gate) at most 1.05 in the median and
1.15 at worst after `edgekit devices calibrate`, 1.5 at worst without; never slower than float.

    python benchmarks/planner_regret.py [--rounds 12] [--minutes 2] [--model NAME]
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import _oracle
import numpy as np
from _common import Goal, finish
from _oracle import Made, Task

from edgekit import domain as d
from edgekit import planning
from edgekit.calibrations import Basis


def main() -> int:
    """Measure, print, and say by the status whether the goals hold."""
    options = _oracle.arguments(__doc__)
    with tempfile.TemporaryDirectory() as name:
        session = _oracle.measured(options, Path(name), tool_defaults)
    rows = compare(session)
    figures = {"models": rows, "calibration": fit_of(session.calibration)}
    return finish("planner_regret", figures, goals(rows))


def compare(session: _oracle.Measured) -> list[dict[str, Any]]:
    """A row for each model."""
    return [
        compared(
            summary,
            session.profile,
            session.calibration,
            [one for one in session.made if one.task == name],
            [one for one in session.extra if one.task == name],
        )
        for name, summary in session.summaries.items()
    ]


def compared(
    summary: d.ModelSummary,
    profile: d.DeviceProfile,
    found: d.Calibration,
    made: list[Made],
    defaults: list[Made],
) -> dict[str, Any]:
    """One model: what was chosen with and without calibration, and what would have been best."""
    usable = {one.recipe.label: one for one in made if one.passed}
    best = min(usable.values(), key=lambda one: one.ns)
    plain = min((o for o in usable.values() if o.recipe.quantization is None), key=lambda o: o.ns)
    row: dict[str, Any] = {
        "model": made[0].task,
        "best": best.recipe.label,
        "best_ms": best.ns / 1e6,
        "float_ms": plain.ns / 1e6,
    }
    for name, basis in (("calibrated", Basis(calibration=found)), ("uncalibrated", Basis())):
        goal, choice = d.Goal(max_accuracy_drop=_oracle.MAX_DROP), planning.Choice(threads=1)
        plan = planning.plan(summary, profile, goal, choice, basis)
        chosen = next(usable[c.recipe.label] for c in plan.candidates if c.recipe.label in usable)
        row[name] = {
            "chosen": chosen.recipe.label,
            "ms": chosen.ns / 1e6,
            "regret": round(chosen.ns / best.ns, 3),
            "over_float": round(chosen.ns / plain.ns, 3),
        }
    row["recipes"] = {
        one.recipe.label: round(one.ns / 1e6, 4) if one.windows_ns else one.why for one in made
    }
    row["tool_defaults"] = {one.why: round(one.ns / best.ns, 2) for one in defaults}
    return row


def tool_defaults(task: Task, folder: Path) -> list[Made]:
    """What ONNX Runtime's own quantizers make of the model with their defaults."""
    from onnxruntime.quantization import quantize_dynamic, quantize_static

    work = folder / f"{task.name}.defaults"
    work.mkdir()
    graph, given = _oracle.graph_of(task, work)
    with np.load(_oracle.prepared(task, task.calibration, folder)) as archive:
        samples = iter([{given.name: x.reshape(given.shape)} for x in archive["x"]])

    class Reader:
        def get_next(self) -> dict[str, Any] | None:
            return next(samples, None)

    recipe = d.Recipe(format=d.Format.ONNXRUNTIME, runtime="onnxruntime")
    static, dynamic = work / "static.onnx", work / "dynamic.onnx"
    quantize_static(str(graph), str(static), Reader())
    quantize_dynamic(str(graph), str(dynamic))
    return [
        Made(task.name, recipe, artifact=static, why="onnxruntime quantize_static"),
        Made(task.name, recipe, artifact=dynamic, why="onnxruntime quantize_dynamic"),
    ]


def fit_of(found: d.Calibration) -> dict[str, Any]:
    """How well the calibration's own networks are predicted."""
    return {
        f"{format_} {precision}": round(rates.within_10_percent, 2)
        for format_, runtime in found.runtimes.items()
        for precision, rates in runtime.rates.items()
    }


def goals(rows: list[dict[str, Any]]) -> list[Goal]:
    """What must hold over all models."""
    known = [row["calibrated"]["regret"] for row in rows]
    unknown = [row["uncalibrated"]["regret"] for row in rows]
    floats = [row[kind]["over_float"] for row in rows for kind in ("calibrated", "uncalibrated")]
    return [
        Goal("median_regret_calibrated", median(known), 1.05),
        Goal("worst_regret_calibrated", max(known), 1.15),
        Goal("worst_regret_uncalibrated", max(unknown), 1.5),
        Goal("worst_over_float", max(floats), 1.0),
    ]


if __name__ == "__main__":
    sys.exit(main())
