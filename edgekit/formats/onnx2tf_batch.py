"""Many small graphs to float .tflite in one process of onnx2tf: its start costs more than they do.

Run as a script by the Python of onnx2tf's environment; it knows nothing of edgekit. Its only
argument is a JSON file with rows of (ONNX file, .tflite to write, inputs to keep as they are).
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import traceback
from pathlib import Path


def main(jobs: Path) -> int:
    """Convert what can be converted; what cannot is not written, and its traceback is shown."""
    import onnx2tf

    for graph, destination, kept in json.loads(jobs.read_text(encoding="utf-8")):
        with tempfile.TemporaryDirectory(prefix="onnx2tf-") as folder:
            # A copy: onnx2tf rewrites the file that it is given.
            copied = shutil.copyfile(graph, Path(folder) / "graph.onnx")
            try:
                onnx2tf.convert(
                    input_onnx_file_path=str(copied),
                    output_folder_path=folder,
                    not_use_onnxsim=True,
                    non_verbose=True,
                    keep_shape_absolutely_input_names=kept or None,
                )
                (made,) = Path(folder).glob("*_float32.tflite")
                shutil.move(made, destination)
            except Exception:
                traceback.print_exc()
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
