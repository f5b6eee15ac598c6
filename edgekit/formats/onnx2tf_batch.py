"""Many graphs to float .tflite in one process of onnx2tf: its start costs more than they do.

Run as a script by the Python of onnx2tf's environment; it knows nothing of edgekit:

    onnx2tf_batch.py JOBS LOG [SECONDS]

JOBS is a JSON list of rows (name, ONNX file, .tflite to write, inputs to keep as they are). A line
goes to LOG as each begins, and one with why it failed (empty: it did not) as it ends. With SECONDS,
a job that takes longer ends the process; it is then the last that has begun.
"""

from __future__ import annotations

import json
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path


def main(jobs: str, log: str, seconds: str = "0") -> None:
    """Convert what can be converted; what cannot is not written, and its traceback is shown."""
    import onnx2tf

    with Path(log).open("a", encoding="utf-8") as file:
        for name, graph, destination, kept in json.loads(Path(jobs).read_text(encoding="utf-8")):
            print(json.dumps({"name": name}), file=file, flush=True)
            signal.alarm(int(seconds))  # its default action ends the process; 0: never
            try:
                _convert(onnx2tf.main, graph, destination, kept)
                error = ""
            except (Exception, SystemExit) as raised:
                traceback.print_exc()
                said = str(raised).strip().splitlines() or [""]
                error = f"{type(raised).__name__}: {said[0][:300]}"
            signal.alarm(0)
            print(json.dumps({"name": name, "error": error}), file=file, flush=True)


def _convert(
    command: Callable[[], object], graph: str, destination: str, kept: Sequence[str]
) -> None:
    """As onnx2tf's own command line does, which is what a build runs."""
    with tempfile.TemporaryDirectory(prefix="onnx2tf-") as folder:
        # A copy: onnx2tf rewrites the file that it is given.
        copied = shutil.copyfile(graph, Path(folder) / "graph.onnx")
        sys.argv = ["onnx2tf", "-i", str(copied), "-o", folder, "-nuo", "-n"]
        sys.argv += ["-kat", *kept] if kept else []
        try:
            command()
        except SystemExit as ended:
            if ended.code:
                raise
        made = sorted(Path(folder).glob("*_float32.tflite"))
        if not made:
            raise RuntimeError("onnx2tf ended without a .tflite")
        shutil.move(made[0], destination)


if __name__ == "__main__":
    main(*sys.argv[1:])
