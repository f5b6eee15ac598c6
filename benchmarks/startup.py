"""How long until `edgekit --help` answers, against a Python that does nothing.

Goal: within 5 times. Both are fresh processes, in turn.

    python benchmarks/startup.py [--rounds 21]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from functools import partial
from statistics import median

from _common import Goal, finish, interleaved

WITHIN = 5.0
COMMANDS = {
    "bare": ["-c", "pass"],
    "help": ["-m", "edgekit", "--help"],
    "build_help": ["-m", "edgekit", "build", "--help"],
}


def main() -> int:
    """Measure, print, and say by the status whether the goal holds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=21)
    rounds = parser.parse_args().rounds
    measured = interleaved(rounds, *(partial(seconds, words) for words in COMMANDS.values()))
    medians = dict(
        zip(COMMANDS, (median(column) for column in zip(*measured, strict=True)), strict=True)
    )
    ratios = [helped / bare for bare, helped, _ in measured]
    figures = {f"{name}_ms": value * 1e3 for name, value in medians.items()}
    figures["ratio"] = median(ratios)
    return finish("startup", figures, [Goal("help_over_bare", median(ratios), WITHIN)])


def seconds(words: list[str]) -> float:
    """One process, from its start to its end."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


if __name__ == "__main__":
    sys.exit(main())
