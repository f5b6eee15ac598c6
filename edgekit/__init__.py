"""edgekit: a trained network, onto a device, small and fast enough, still right, measured there.

    import edgekit as ek

    model = ek.load("model.onnx")
    plan = ek.plan(model, device="raspberry-pi-5", goal=ek.Goal(max_accuracy_drop=0.01))
    bundle = ek.build(model, plan, calibration=x, evaluate=(x, y))
    result = ek.benchmark(bundle, on="ssh://pi@raspberry")

Names are loaded when they are first used: ``import edgekit`` pulls in nothing heavy.
"""

from __future__ import annotations

__version__ = "0.1.0"

# Not typing's own: importing typing takes longer than everything else that `--help` needs.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from edgekit.api import Model as Model
    from edgekit.api import benchmark as benchmark
    from edgekit.api import build as build
    from edgekit.api import build_best as build_best
    from edgekit.api import explain as explain
    from edgekit.api import export as export
    from edgekit.api import figures as figures
    from edgekit.api import load as load
    from edgekit.api import plan as plan
    from edgekit.contest import Terms as Terms
    from edgekit.devices.provision import Equipment as Equipment
    from edgekit.domain import BenchmarkResult as BenchmarkResult
    from edgekit.domain import Goal as Goal
    from edgekit.domain import Interface as Interface
    from edgekit.domain import Picture as Picture
    from edgekit.domain import Plan as Plan
    from edgekit.domain import Prefer as Prefer
    from edgekit.errors import EdgekitError as EdgekitError
    from edgekit.gate import check as check
    from edgekit.pipeline import Built as Built
    from edgekit.planning import Choice as Choice
    from edgekit.project import load_project as load_project
    from edgekit.project_build import build_project as build_project

_PUBLIC = {
    "Model": "edgekit.api",
    "benchmark": "edgekit.api",
    "build": "edgekit.api",
    "build_best": "edgekit.api",
    "explain": "edgekit.api",
    "export": "edgekit.api",
    "figures": "edgekit.api",
    "load": "edgekit.api",
    "plan": "edgekit.api",
    "Terms": "edgekit.contest",
    "Equipment": "edgekit.devices.provision",
    "BenchmarkResult": "edgekit.domain",
    "Goal": "edgekit.domain",
    "Interface": "edgekit.domain",
    "Picture": "edgekit.domain",
    "Plan": "edgekit.domain",
    "Prefer": "edgekit.domain",
    "EdgekitError": "edgekit.errors",
    "check": "edgekit.gate",
    "Built": "edgekit.pipeline",
    "Choice": "edgekit.planning",
    "load_project": "edgekit.project",
    "build_project": "edgekit.project_build",
}

__all__ = ["__version__", *_PUBLIC]  # noqa: PLE0604 - the names are strings


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'edgekit' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_PUBLIC[name]), name)
