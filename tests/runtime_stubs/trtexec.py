"""A stand-in for NVIDIA's ``trtexec``, which runs on its GPUs only: its flags, messages and files.

Written after github.com/NVIDIA/TensorRT, ``samples/trtexec`` and ``samples/common``. Its "engine"
is the ONNX file, which ONNX Runtime runs: what it says of outputs is computed. ``TRTEXEC_VERSION``
is the version it claims, ``TRTEXEC_FAULT`` what goes wrong with it.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from pathlib import Path

VERSION = os.environ.get("TRTEXEC_VERSION", "100300")
FAULT = os.environ.get("TRTEXEC_FAULT", "")
STAMP = "[09/07/2024-21:35:18]"
OLD = int(VERSION) < 8500
KNOWN = ["onnx", "saveEngine", "loadEngine", "loadInputs", "exportOutput", "exportTimes"]
KNOWN += ["iterations", "duration", "warmUp", "workspace" if OLD else "memPoolSize"]
KNOWN += ["stronglyTyped"] if int(VERSION) >= 100000 else ["fp16", "int8"]


def install(folder: Path) -> str:
    """Put it into a folder of programs; the ``PATH`` that finds it."""
    folder.mkdir()
    program = folder / "trtexec"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {__file__} "$@"\n')
    program.chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def main() -> int:
    whole = f"TensorRT.trtexec [TensorRT v{VERSION}] # {' '.join(sys.argv)}"
    say(f"&&&& RUNNING {whole}")
    if "--help" in sys.argv:
        say("=== Model Options ===\n=== Help ===\n  --help, -h   Print this message")
        return 0
    given = dict(word[2:].partition("=")[::2] for word in sys.argv[1:])
    error = next((f"Unknown option: --{name}" for name in given if name not in KNOWN), "")
    error = error or worked(given)
    if error:
        say(f"{STAMP} [E] {error}\n{STAMP} [E] Engine set up failed\n&&&& FAILED {whole}")
        return 1
    if FAULT != "no verdict":
        say(f"&&&& PASSED {whole}")
    return 0


def worked(given: dict[str, str]) -> str:
    """Do what is asked for; the error, where there is one."""
    if FAULT == "crash":
        sys.stdout.flush()
        os.abort()
    if FAULT == "hang":
        time.sleep(60)
    if FAULT == "build" and "onnx" in given:
        return "[TRT] ModelImporter.cpp:195 In function parseNode: [6] Invalid Node - /Tile"
    if "saveEngine" in given and FAULT != "no engine":
        shutil.copyfile(given["onnx"], given["saveEngine"])
    if "exportOutput" in given:
        export(given)
    if "exportTimes" in given:
        report(given)
    return ""


def export(given: dict[str, str]) -> None:
    import numpy as np
    import onnxruntime

    session = onnxruntime.InferenceSession(given["loadEngine"], providers=["CPUExecutionProvider"])
    files = dict(spec.rsplit(":", 1) for spec in given["loadInputs"].split(","))
    feeds = {
        one.name: np.fromfile(files[f"'{one.name}'"], np.float32).reshape(one.shape)
        for one in session.get_inputs()
    }
    values = session.run(None, feeds)
    if FAULT == "wrong":
        values[0] = values[0] + 1
    lines = []
    for one, value in zip(session.get_outputs(), values, strict=True):
        texts = ["nan" if FAULT == "nan" else f"{number:.6g}" for number in value.ravel()]
        dims = "x".join(map(str, value.shape))
        lines.append(
            f'{{ "name" : "{one.name}"\n  , "dimensions" : "{dims}"\n'
            f'  , "values" : [ {", ".join(texts)} ]\n  }}'
        )
    Path(given["exportOutput"]).write_text("[\n  " + "\n, ".join(lines) + "\n]\n")


def report(given: dict[str, str]) -> None:
    """Two runs of warming up, slow; then as many as asked for, of 1 ms and a little more."""
    warmup_ms, count = float(given["warmUp"]), int(given["iterations"])
    taken = [1 + i / 1000 for i in range(count)]
    rows = [(i * warmup_ms / 2, 50.0) for i in range(2)] if OLD else []
    rows += [(warmup_ms + 2 * i, ms) for i, ms in enumerate(taken)]
    trace = [{"startComputeMs": start, "computeMs": ms / 2, "latencyMs": ms} for start, ms in rows]
    Path(given["exportTimes"]).write_text(json.dumps(trace))
    median, unit = sorted(taken)[count // 2], "us" if FAULT == "microseconds" else "ms"
    told = 3 * median if FAULT == "contradiction" else median
    figures = f"min = 1 {unit}, max = 2 {unit}, mean = 1.5 {unit}, median = {told:.6g} {unit}"
    figures += f", percentile(99%) = 2 {unit}"
    say(f"{STAMP} [I] === Performance summary ===\n{STAMP} [I] Throughput: 900 qps")
    if FAULT != "no latency":
        say(f"{STAMP} [I] Latency: {figures}")
    say(f"{STAMP} [I] Enqueue Time: {figures.replace(f'{told:.6g}', '0.1')}")
    say(f"{STAMP} [I] H2D Latency: {figures.replace(f'{told:.6g}', '0.2')}")


if __name__ == "__main__":
    sys.exit(main())
