"""What happens when things go wrong: every fault of the table tried, survived or lost.

Goal: nothing lost, nothing hung, every error of a kind that is known. A fault is lost when
one of its tests fails: the device held something else than the old or the new bundle, a retry
did not succeed, a process was left behind, no error was raised where one was due. Needs root
for disks and cgroups; what cannot be tried here is listed with the reason.

    python benchmarks/faults.py [NUMBER ...]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _common import ROOT, Goal, finish

sys.path.insert(0, str(ROOT))
from tests.lab.faults.table import FAULTS, Fault

LIMIT_S = 600
_OURS = ("AssertionError", "assert ", "Failed: ", "edgekit.errors.", "subprocess.TimeoutExpired")


@dataclass(frozen=True)
class Outcome:
    """One fault: how its cases ended, or why it was not tried."""

    tried: int = 0
    failed: tuple[str, ...] = ()
    untyped: int = 0
    hung: bool = False
    not_here: str = ""

    @property
    def verdict(self) -> str:
        if self.not_here:
            return "not here"
        return "lost" if self.failed or self.hung else "survived"


def main() -> int:
    """Measure, print, and say by the status whether the goals hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("numbers", type=int, nargs="*", help="only these faults")
    arguments = parser.parse_args()
    started = time.monotonic()
    chosen = arguments.numbers or FAULTS
    outcomes = {number: tried(FAULTS[number]) for number in chosen}
    return finish("faults", figures(outcomes, time.monotonic() - started), goals(outcomes))


def tried(fault: Fault) -> Outcome:
    """Run the tests of a fault."""
    if fault.not_here:
        return Outcome(not_here=fault.not_here)
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        argv = [sys.executable, "-m", "pytest", "-m", "lab or not lab", f"--junitxml={report}"]
        try:
            subprocess.run(
                [*argv, *fault.tests], capture_output=True, cwd=ROOT, timeout=LIMIT_S, check=False
            )
        except subprocess.TimeoutExpired:
            return Outcome(hung=True)
        return read(ET.parse(report).getroot())


def read(report: ET.Element) -> Outcome:
    """The outcome that pytest's report tells."""
    cases = list(report.iter("testcase"))
    skipped = [case for case in cases if case.find("skipped") is not None]
    bad = [
        (c.get("name", ""), found)
        for c in cases
        for found in (*c.iter("failure"), *c.iter("error"))
    ]
    if cases and len(skipped) == len(cases):
        why = skipped[0].find("skipped")
        return Outcome(not_here=why.get("message", "") if why is not None else "")
    return Outcome(
        tried=len(cases) - len(skipped),
        failed=tuple(name for name, _ in bad) or (() if cases else ("no test was found",)),
        untyped=sum(not found.get("message", "").startswith(_OURS) for _, found in bad),
    )


def figures(outcomes: dict[int, Outcome], elapsed_s: float) -> dict[str, Any]:
    """What is printed."""
    verdicts = [outcome.verdict for outcome in outcomes.values()]
    return {
        "faults": len(outcomes),
        "tried": len(verdicts) - verdicts.count("not here"),
        "survived": verdicts.count("survived"),
        "lost": verdicts.count("lost"),
        "hung": sum(outcome.hung for outcome in outcomes.values()),
        "cases": sum(outcome.tried for outcome in outcomes.values()),
        "elapsed_s": round(elapsed_s, 1),
        "not_here": {n: o.not_here for n, o in outcomes.items() if o.not_here},
        "failed": {n: list(o.failed) for n, o in outcomes.items() if o.failed},
        "by_fault": {
            n: f"{FAULTS[n].what}: {o.verdict}, {o.tried} cases" for n, o in outcomes.items()
        },
    }


def goals(outcomes: dict[int, Outcome]) -> list[Goal]:
    """None may be lost, none hang, and no error be of an unknown kind."""
    found = outcomes.values()
    return [
        Goal("lost", sum(outcome.verdict == "lost" for outcome in found), 0),
        Goal("hung", sum(outcome.hung for outcome in found), 0),
        Goal("untyped", sum(outcome.untyped for outcome in found), 0),
    ]


if __name__ == "__main__":
    sys.exit(main())
