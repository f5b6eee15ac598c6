"""Do the verdicts hold? Equal bundles compared, two 5 % apart, and one measured again and again.

Goals: two equal artifacts are never called different; one that is 5 % slower by construction
(21 equal convolutions for 20) is found in nine of ten comparisons; repeated benches of one bundle
that claim to be right stay within 3 % of their median; the others are marked unstable or invalid.
The three take turns, so that whatever the machine does meanwhile is done to all of them. The
target is one that knows how fast it can be: it remembers the benches before.

    python benchmarks/verdicts.py [--tries 20] [--pairs 10] [--seconds 1.5] [--benches 10]
        [--on local]
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections import Counter
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnx
from _common import Goal, edgekit, finish
from onnx import TensorProto, helper, numpy_helper

DEPTH = 20
MISSED = 0.1
WITHIN = 0.03
SIDE, CHANNELS = 24, 32


def main() -> int:
    """Measure, print, and say by the status whether the goals hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tries", type=int, default=20, help="comparisons of each kind")
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=1.5, help="of each process")
    parser.add_argument("--benches", type=int, default=10)
    parser.add_argument("--on", default="local", help="the target of all")
    asked = parser.parse_args()
    equal, apart, benches = [], [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        here, turns = asked.on, (f"--pairs={asked.pairs}", f"--seconds={asked.seconds}")
        one, slower = (built(folder, depth) for depth in (DEPTH, DEPTH + 1))
        same = folder / "same.edgekit"
        shutil.copyfile(one, same)
        for number in range(max(asked.tries, asked.benches)):
            if number < asked.tries:
                equal.append(edgekit("compare", one, same, "--on", here, *turns))
                apart.append(edgekit("compare", one, slower, "--on", here, *turns))
                tell(number, equal[-1], apart[-1])
            if number < asked.benches:
                benches.append(edgekit("bench", one, "--on", here, "--no-energy"))
    figures = {
        "tries": asked.tries,
        "pairs": asked.pairs,
        "seconds": asked.seconds,
        "equal": verdicts(equal),
        "five_percent": verdicts(apart),
        "benches": repeated(benches),
    }
    return finish("verdicts", figures, goals(figures, asked.tries))


def tell(number: int, equal: dict[str, Any], apart: dict[str, Any]) -> None:
    """How far it is, on standard error: all of it takes long."""
    seen = [
        f"{name}: {one['verdict']} ({one['ratio']['low']:.3f} to {one['ratio']['high']:.3f})"
        for name, one in (("equal", equal), ("5 %", apart))
    ]
    print(f"{number + 1}: {', '.join(seen)}", file=sys.stderr, flush=True)


def goals(figures: dict[str, Any], tries: int) -> list[Goal]:
    """What must not happen, and how often it did."""
    equal, apart = figures["equal"]["verdicts"], figures["five_percent"]["verdicts"]
    return [
        Goal("equal, called different", equal.get("faster", 0) + equal.get("slower", 0), 0),
        Goal("5 % slower, not found", tries - apart.get("slower", 0), MISSED * tries),
        Goal(
            "5 % slower, called faster or the same",
            apart.get("faster", 0) + apart.get("same", 0),
            0,
        ),
        Goal("benches off by 3 % that claim to be right", figures["benches"]["off_and_trusted"], 0),
        Goal("too few claim to be right to compare", int(figures["benches"]["trusted"] < 2), 0),
    ]


def verdicts(found: list[dict[str, Any]]) -> dict[str, Any]:
    """How often each verdict, and what each comparison saw."""
    return {
        "verdicts": dict(Counter(one["verdict"] for one in found)),
        "ratios": [
            [round(one["ratio"][name], 4) for name in ("low", "value", "high")] for one in found
        ],
        "more_pairs_would_decide": [
            one["ratio"]["more_pairs"] for one in found if one["verdict"] == "inconclusive"
        ],
        "disturbed": sum(bool(one["doubts"]) for one in found),
    }


def repeated(benches: list[dict[str, Any]]) -> dict[str, Any]:
    """How far each bench is from the median of those that claim to be right, and which do."""
    medians = [one["latency_ms"]["p50"] for one in benches]
    doubts = [one["why_invalid"] or one["latency_ms"]["unstable_why"] for one in benches]
    trusted = [value for value, doubt in zip(medians, doubts, strict=True) if doubt is None]
    middle = median(trusted or medians)
    return {
        "off": [round(value / middle - 1, 4) for value in medians],
        "doubts": doubts,
        "trusted": len(trusted),
        "off_and_trusted": sum(abs(value / middle - 1) > WITHIN for value in trusted),
    }


def built(folder: Path, depth: int) -> Path:
    """A bundle of so many equal convolutions, one after another."""
    model, bundle = folder / f"{depth}.onnx", folder / f"{depth}.edgekit"
    onnx.save(chain(depth), model)
    words = ("--device", "generic-x86-64", "--format", "onnxruntime", "--precision", "float32")
    edgekit("build", model, *words, "--threads", "1", "-o", bundle)
    return bundle


def chain(depth: int) -> onnx.ModelProto:
    """Equal convolutions: each one more costs as much as each one before."""
    weight = np.random.default_rng(0).normal(0, 0.05, (CHANNELS, CHANNELS, 3, 3))
    names = [f"t{number}" for number in range(depth + 1)]
    nodes = [
        helper.make_node("Conv", [one, "w"], [other], pads=[1] * 4)
        for one, other in pairwise(names)
    ]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, CHANNELS, SIDE, SIDE])
        for name in (names[0], names[-1])
    ]
    initializer = numpy_helper.from_array(weight.astype(np.float32), "w")
    graph = helper.make_graph(nodes, "chain", ends[:1], ends[1:], [initializer])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


if __name__ == "__main__":
    sys.exit(main())
