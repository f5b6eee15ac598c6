"""What the measurements share: the machine, the goals, the one JSON object, running edgekit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgekit import resources

ROOT = Path(__file__).parents[1]
DIGITS = ROOT / "examples" / "digits" / "digits.onnx"


@dataclass(frozen=True)
class Goal:
    """A figure and what it must not pass."""

    name: str
    value: float
    goal: float

    @property
    def holds(self) -> bool:
        return self.value <= self.goal


def finish(name: str, figures: dict[str, Any], goals: Sequence[Goal]) -> int:
    """Print the measurement; returns the exit status: 1 when a goal does not hold."""
    report = {
        "name": name,
        "machine": machine(),
        "figures": figures,
        "goals": [{**asdict(goal), "holds": goal.holds} for goal in goals],
    }
    print(json.dumps(report, indent=2))
    return 0 if all(goal.holds for goal in goals) else 1


def machine() -> dict[str, Any]:
    """What this measurement was made on."""
    argv = [sys.executable, str(resources.runner()), "facts"]
    facts = json.loads(subprocess.run(argv, capture_output=True, check=True).stdout)
    shown = ("cpu_model", "cores", "memory_total_bytes", "system", "machine", "libc")
    return {name: facts[name] for name in (*shown, "python_version", "runtimes")}


def edgekit(*words: str | Path, **env: str) -> dict[str, Any]:
    """Run a command of edgekit; its JSON document."""
    argv = [sys.executable, "-m", "edgekit", *map(str, words), "--json"]
    done = subprocess.run(argv, capture_output=True, text=True, env=os.environ | env, check=False)
    if done.returncode:
        raise SystemExit(f"edgekit {words[0]}: {done.stdout}\n{done.stderr}")
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def interleaved(rounds: int, *measure: Callable[[], float]) -> list[tuple[float, ...]]:
    """Measure A, B, A, B, ...: whatever drifts drifts for all of them alike."""
    return [tuple(one() for one in measure) for _ in range(rounds)]
