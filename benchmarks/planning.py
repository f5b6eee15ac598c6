"""How long a plan for a 100 MB model takes, on every device that edgekit can plan for.

Goal: under 2 s at worst, from the model's summary to the explained plan, and nothing built:
the store stays empty. Told beside it: how long reading the model into a summary takes before
that, and the whole command in a fresh process.

    python benchmarks/planning.py [--rounds 3]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import onnx
from _common import Goal as Target
from _common import edgekit, finish, interleaved
from onnx import TensorProto, helper, numpy_helper

from edgekit import pipeline, profiles
from edgekit.domain import DeviceProfile, Goal, ModelSummary
from edgekit.planning import MAKES, explain, plan

WITHIN_S = 2.0
BLOCKS, WIDTH, SIDE = 42, 256, 14
COMMAND_DEVICE = "raspberry-pi-5"


def main() -> int:
    """Measure, print, and say by the status whether the goal holds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    found = (profiles.find(name) for name in profiles.names())
    devices = [profile for profile in found if set(profile.formats) & set(MAKES)]
    with tempfile.TemporaryDirectory(prefix="edgekit-benchmark-") as folder:
        model = write_model(Path(folder) / "large.onnx")
        store = Path(folder) / "store"
        start = time.perf_counter()
        summary = pipeline.summarise(model)
        reading = time.perf_counter() - start
        measured = interleaved(rounds, *(partial(planned, summary, one) for one in devices))
        command = [commanded(model, store) for _ in range(rounds)]
        kept = sorted(path.name for path in store.glob("**/*"))
        megabytes = model.stat().st_size / 1e6
    medians = [median(column) for column in zip(*measured, strict=True)]
    figures = {
        "model_mb": megabytes,
        "devices": len(devices),
        "plan_s": dict(zip((one.name for one in devices), medians, strict=True)),
        "reading_s": reading,
        "command_s": median(command),
        "left_in_the_store": kept,
    }
    goals = [Target("worst_plan_s", max(medians), WITHIN_S), Target("built", len(kept), 0)]
    return finish("planning", figures, goals)


def write_model(path: Path) -> Path:
    """Residual blocks of 3x3 convolutions: 25 million random weights."""
    rng = np.random.default_rng(0)
    nodes, constants, last = [], [], "x"
    for index in range(BLOCKS):
        weight = rng.normal(0, 0.02, (WIDTH, WIDTH, 3, 3)).astype(np.float32)
        constants.append(numpy_helper.from_array(weight, f"w{index}"))
        conv, act, out = (f"{what}{index}" for what in ("conv", "relu", "sum"))
        nodes += [
            helper.make_node("Conv", [last, f"w{index}"], [conv], name=conv, pads=[1] * 4),
            helper.make_node("Relu", [conv], [act], name=act),
            helper.make_node("Add", [act, last], [out], name=out),
        ]
        last = out
    shape = [1, WIDTH, SIDE, SIDE]
    tensors = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("x", last)
    ]
    graph = helper.make_graph(nodes, "large", tensors[:1], tensors[1:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path


def planned(summary: ModelSummary, profile: DeviceProfile) -> float:
    """One plan in this process, explained."""
    start = time.perf_counter()
    explain(summary, profile, plan(summary, profile, Goal()))
    return time.perf_counter() - start


def commanded(model: Path, store: Path) -> float:
    """One `edgekit plan`, from its start to its end."""
    start = time.perf_counter()
    edgekit("plan", model, "--device", COMMAND_DEVICE, EDGEKIT_CACHE=str(store))
    return time.perf_counter() - start


if __name__ == "__main__":
    sys.exit(main())
