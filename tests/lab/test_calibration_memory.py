"""Calibration streams its samples: its memory does not grow with their number."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit.domain import Format
from edgekit.formats import FORMATS

pytestmark = pytest.mark.lab

FEW, MANY = 50, 1000
SIDE = 96

QUANTIZE = """
import sys
from pathlib import Path
from edgekit import datasets, sources
from edgekit.domain import Format, Mode, Quantization, Recipe
from edgekit.formats import FORMATS, Job
from edgekit.toolchain import isolation
isolation.call = lambda function, limits, *args: function(*args)
model, data, folder, cache, name = sys.argv[1:]
source = sources.load(Path(model), Path(folder))
recipe = Recipe(
    format=Format(name),
    runtime="any",
    quantization=Quantization(mode=Mode.STATIC, weights="int8", activations="int8"),
)
FORMATS[Format(name)].make(
    Job(
        source=source,
        recipe=recipe,
        folder=Path(folder),
        calibration=datasets.load(Path(data), source.inputs),
        cache=Path(cache),
    )
)
status = Path("/proc/self/status").read_text()
print(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))
"""


def network(path: Path) -> Path:
    """Two convolutions on a picture: activations larger than the weights."""
    weights = np.random.default_rng(0).normal(size=(8, 3, 3, 3)).astype(np.float32)
    second = np.random.default_rng(1).normal(size=(8, 8, 3, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"], pads=[1] * 4, strides=[2, 2]),
        helper.make_node("Relu", ["a"], ["r"]),
        helper.make_node("Conv", ["r", "w2"], ["y"], pads=[1] * 4, strides=[2, 2]),
    ]
    graph = helper.make_graph(
        nodes,
        "pictures",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 8, SIDE // 4, SIDE // 4])],
        [numpy_helper.from_array(weights, "w1"), numpy_helper.from_array(second, "w2")],
    )
    opset = [helper.make_opsetid("", 13)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    return path


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
@pytest.mark.parametrize("format_", list(FORMATS))
def test_twenty_times_the_samples_take_the_same_memory(format_: Format, tmp_path: Path) -> None:
    model = network(tmp_path / "pictures.onnx")
    peaks = {}
    for count in (FEW, MANY):
        data, folder = tmp_path / f"{count}.npz", tmp_path / str(count)
        samples = np.random.default_rng(2).random((count, 3, SIDE, SIDE), dtype=np.float32)
        np.savez(data, x=samples)
        folder.mkdir()
        argv = [str(model), str(data), str(folder), str(tmp_path / "cache"), format_.value]
        command = [sys.executable, "-c", QUANTIZE, *argv]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks[count] = int(done.stdout.splitlines()[-1])
    assert peaks[MANY] <= 1.1 * peaks[FEW], peaks
