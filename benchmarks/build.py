"""What a build costs beyond the tools it drives, and what a second one costs.

Goals: a build within 1.5 times the bare calls of the same tools (onnx2tf, then
ai-edge-quantizer with the same samples, then running the evaluation samples through the
original and the artifact); the same build again, from the cache, within 0.1 times.

    python benchmarks/build.py [MODEL CALIBRATION EVALUATION] [--rounds 3]

Without arguments: ResNet-20 where the models for internal tests lie beside the checkout,
else the example. On a network as small as the example nothing but start-up is measured:
the processes that check and isolate take about a second and a half, whatever the model.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from statistics import median

from _common import DIGITS, ROOT, Goal, edgekit, finish, interleaved

from edgekit.toolchain import environments
from edgekit.toolchain.environments import ONNX2TF

BUILD_WITHIN, CACHED_WITHIN = 1.5, 0.1

EXAMPLE = [DIGITS, DIGITS.with_name("calibration.npz"), DIGITS.with_name("evaluation.npz")]
ASSETS = ROOT.parent / "shared" / "assets"
RESNET20 = [
    ASSETS / "models" / "resnet20_cifar10" / "resnet20_fp32.onnx",
    ASSETS / "data" / "cifar10_nchw.calib.npz",
    ASSETS / "data" / "cifar10_nchw.eval.npz",
]

# What a careful person would write by hand, with the same tools on the same data.
QUANTIZE = """
import sys
import numpy as np
from ai_edge_quantizer import quantizer, recipe
source, destination, calibration = sys.argv[1:]
tool = quantizer.Quantizer(source)
tool.load_quantization_recipe(recipe.static_wi8_ai8())
from ai_edge_litert.interpreter import Interpreter
(given,) = Interpreter(source).get_input_details()
x = np.load(calibration)["x"]
feeds = [{given["name"]: np.ascontiguousarray(s[None].transpose(0, 2, 3, 1))} for s in x]
ranges = tool.calibrate({"serving_default": feeds})
open(destination, "wb").write(tool.quantize(ranges).quantized_model)
"""
RUN_SOURCE = """
import sys
import numpy as np
import onnxruntime
model, evaluation = sys.argv[1:]
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
data = np.load(evaluation)
name = session.get_inputs()[0].name
print(np.mean([session.run(None, {name: s[None]})[0].argmax() == y
               for s, y in zip(data["x"], data["y"])]))
"""
RUN_ARTIFACT = """
import sys
import numpy as np
from ai_edge_litert.interpreter import Interpreter
model, evaluation = sys.argv[1:]
interpreter = Interpreter(model)
interpreter.allocate_tensors()
(given,), (taken,) = interpreter.get_input_details(), interpreter.get_output_details()
scale, zero = given["quantization"]
data, right = np.load(evaluation), 0
for s, y in zip(data["x"], data["y"]):
    s = np.clip(np.round(s[None].transpose(0, 2, 3, 1) / scale) + zero, -128, 127)
    interpreter.set_tensor(given["index"], s.astype(np.int8))
    interpreter.invoke()
    right += interpreter.get_tensor(taken["index"]).argmax() == y
print(right / len(data["y"]))
"""


def main() -> int:
    """Measure, print, and say by the status whether the goals hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    files = RESNET20 if all(file.is_file() for file in RESNET20) else EXAMPLE
    parser.add_argument("files", type=Path, nargs="*", default=files)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    if len(arguments.files) != len(files):
        parser.error("give a model, its calibration data and its evaluation data, or nothing")
    environments.install(ONNX2TF)
    measured = interleaved(
        arguments.rounds,
        partial(bare, *arguments.files),
        partial(built, *arguments.files, again=False),
        partial(built, *arguments.files, again=True),
    )
    build_ratio = median(built / bare for bare, built, _ in measured)
    cached_ratio = median(cached / built for _, built, cached in measured)
    names = ("bare_s", "build_s", "cached_s")
    columns = zip(*measured, strict=True)
    figures = {
        "model": arguments.files[0].name,
        **{name: median(column) for name, column in zip(names, columns, strict=True)},
        "build_over_bare": build_ratio,
        "cached_over_build": cached_ratio,
    }
    goals = [
        Goal("build_over_bare", build_ratio, BUILD_WITHIN),
        Goal("cached_over_build", cached_ratio, CACHED_WITHIN),
    ]
    return finish("build", figures, goals)


def bare(model: Path, calibration: Path, evaluation: Path) -> float:
    """Seconds of the tools alone, a process each."""
    with tempfile.TemporaryDirectory() as folder:
        # onnx2tf rewrites its input.
        graph = Path(folder) / "model.onnx"
        graph.write_bytes(model.read_bytes())
        quantized = Path(folder) / "int8.tflite"
        start = time.perf_counter()
        convert = [str(ONNX2TF.python), "-m", "onnx2tf", "-i", str(graph), "-o", folder, "-b", "1"]
        quiet(convert)
        (converted,) = Path(folder).glob("*_float32.tflite")
        python = [sys.executable, "-c"]
        quiet([*python, QUANTIZE, str(converted), str(quantized), str(calibration)])
        quiet([*python, RUN_SOURCE, str(model), str(evaluation)])
        quiet([*python, RUN_ARTIFACT, str(quantized), str(evaluation)])
        return time.perf_counter() - start


_CACHE = tempfile.TemporaryDirectory()


def built(model: Path, calibration: Path, evaluation: Path, *, again: bool) -> float:
    """Seconds of `edgekit build`: into an empty cache, or from the one that this filled."""
    cache = Path(_CACHE.name)
    if not again:
        _CACHE.cleanup()
        cache.mkdir()
    with tempfile.TemporaryDirectory() as folder:
        words: list[str | Path] = [
            "build",
            model,
            "--device",
            "raspberry-pi-5",
            "--format",
            "litert",
        ]
        data: list[str | Path] = [
            "--calibration",
            calibration,
            "--evaluate",
            evaluation,
            "--max-drop",
            "0.05",
        ]
        start = time.perf_counter()
        edgekit(*words, *data, "-o", f"{folder}/out.edgekit", EDGEKIT_CACHE=str(cache))
        return time.perf_counter() - start


def quiet(argv: list[str]) -> None:
    """Run to the end; show what was said when it fails."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{argv[:3]} failed:\n{done.stdout}\n{done.stderr}")


if __name__ == "__main__":
    sys.exit(main())
