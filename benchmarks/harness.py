"""Does measuring cost anything? The median of `edgekit bench` against a bare loop.

Goal: within 3 %. Both are fresh processes around the same runtime with one thread, on the
same input, in turn.

    python benchmarks/harness.py [MODEL.onnx] [--format litert|onnxruntime] [--rounds 21]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from statistics import median

from _common import DIGITS, Goal, edgekit, finish, interleaved

WITHIN = 0.03
# Short and many: what disturbs the machine then disturbs few of them.
RUNS, SECONDS, WARMUP_RUNS, WARMUP_SECONDS = 50, 0.5, 3, 0.5

# What a careful person would write by hand: nothing of the runner is in it.
BARE = """
import statistics, sys, time
import numpy as np
model, sample, runs, seconds, warmup_runs, warmup_seconds = sys.argv[1:]
x = np.load(sample)[0]
if model.endswith(".onnx"):
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    feed, names = {session.get_inputs()[0].name: x}, [o.name for o in session.get_outputs()]
    def infer():
        session.run(names, feed)
else:
    from ai_edge_litert.interpreter import Interpreter
    interpreter = Interpreter(model_path=model, num_threads=1)
    interpreter.allocate_tensors()
    given, = interpreter.get_input_details()
    taken = [output["index"] for output in interpreter.get_output_details()]
    def infer():
        interpreter.set_tensor(given["index"], x)
        interpreter.invoke()
        for index in taken:
            interpreter.get_tensor(index)
def loop(runs, seconds):
    times, start = [], time.perf_counter()
    while len(times) < runs or time.perf_counter() - start < seconds:
        before = time.perf_counter_ns()
        infer()
        times.append(time.perf_counter_ns() - before)
    return times
loop(int(warmup_runs), float(warmup_seconds))
print(statistics.median(loop(int(runs), float(seconds))))
"""


def main() -> int:
    """Measure, print, and say by the status whether the goal holds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, nargs="?", default=DIGITS)
    parser.add_argument("--format", choices=("litert", "onnxruntime"), default="onnxruntime")
    parser.add_argument("--rounds", type=int, default=21)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder) / "bundle"
        words = ["build", arguments.model, "--device", "generic-x86-64", "--precision", "float32"]
        built = edgekit(*words, "--format", arguments.format, "-o", bundle)
        artifact = bundle / built["artifact"]["path"]
        measured = interleaved(
            arguments.rounds,
            partial(by_edgekit, bundle, f"local:{folder}/device"),
            partial(by_hand, artifact, bundle / "golden" / "input_0.npy"),
        )
    ratios = [ours / bare for ours, bare in measured]
    figures = {
        "model": arguments.model.name,
        "format": arguments.format,
        "edgekit_median_ms": median(ours for ours, _ in measured),
        "bare_median_ms": median(bare for _, bare in measured),
        "ratio_per_round": [round(ratio, 4) for ratio in ratios],
        "ratio": median(ratios),
    }
    return finish("harness", figures, [Goal("off_by", abs(median(ratios) - 1), WITHIN)])


def by_edgekit(bundle: Path, on: str) -> float:
    """Milliseconds: the median that `edgekit bench` gives for one process."""
    options = ("--runs", str(RUNS), "--seconds", str(SECONDS), "--processes", "1")
    document = edgekit("bench", bundle, "--on", on, "--threads", "1", *options)
    return float(document["latency_ms"]["p50"])


def by_hand(artifact: Path, sample: Path) -> float:
    """Milliseconds: the median of the bare loop."""
    settings = map(str, (RUNS, SECONDS, WARMUP_RUNS, WARMUP_SECONDS))
    command = [sys.executable, "-c", BARE, str(artifact), str(sample), *settings]
    done = subprocess.run(command, check=True, capture_output=True)
    return float(done.stdout) / 1e6


if __name__ == "__main__":
    sys.exit(main())
