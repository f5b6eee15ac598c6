"""Runs onnx2tf over many graphs in one process, in its own environment (no edgekit there).

Usage: ``_onnx2tf_many.py JOBS LOG``. JOBS is a JSON list of ``{name, graph, folder, keep}``;
a line goes to LOG as each begins, and one with its outcome as it ends. A job that ends the
process, by a crash or by its time limit, is the last that has begun.
"""

from __future__ import annotations

import importlib
import json
import signal
import sys
from pathlib import Path
from typing import Any

SECONDS = 60


def main() -> None:
    onnx2tf = importlib.import_module("onnx2tf")

    jobs = json.loads(Path(sys.argv[1]).read_text())
    with Path(sys.argv[2]).open("a") as log:
        for job in jobs:
            print(json.dumps({"name": job["name"]}), file=log, flush=True)
            signal.alarm(SECONDS)  # its default action ends the process
            line = {"name": job["name"], "error": _converted(onnx2tf, job)}
            signal.alarm(0)
            print(json.dumps(line), file=log, flush=True)


def _converted(onnx2tf: Any, job: dict[str, Any]) -> str:
    """Why the conversion failed; empty when it did not."""
    keep = ["-kat", *job["keep"]] if job["keep"] else []
    sys.argv = ["onnx2tf", "-i", job["graph"], "-o", job["folder"], "-nuo", "-n", *keep]
    try:
        onnx2tf.main()
    except SystemExit as ended:
        return "" if not ended.code else f"exit status {ended.code}"
    except BaseException as error:
        said = str(error).strip().splitlines() or [""]
        return f"{type(error).__name__}: {said[0][:300]}"
    return ""


if __name__ == "__main__":
    main()
