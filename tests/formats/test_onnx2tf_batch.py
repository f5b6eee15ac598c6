"""Many graphs through one process of onnx2tf: each is told of, and none stops the others."""

import json
import signal
import subprocess
import sys
from pathlib import Path

from edgekit.formats import host, onnx2tf_batch
from edgekit.toolchain import environments
from edgekit.toolchain.environments import ONNX2TF
from edgekit.toolchain.process import Limits
from tests import models

SCRIPT = Path(onnx2tf_batch.__file__)


def run(folder, rows):
    """What the log says of each row."""
    jobs, log = folder / "jobs", folder / "log"
    jobs.write_text(json.dumps(rows))
    environments.run_script(ONNX2TF, SCRIPT, str(jobs), str(log), limits=Limits(seconds=120))
    return [json.loads(line) for line in log.read_text().splitlines()]


def test_a_line_as_each_begins_and_ends(tmp_path):
    models.save(models.nhwc_net(), tmp_path / "nhwc.onnx")
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    before = (tmp_path / "nhwc.onnx").read_bytes()
    names = ["broken", "nhwc"]
    rows = [(n, str(tmp_path / f"{n}.onnx"), str(tmp_path / f"{n}.tflite"), ["x"]) for n in names]
    begun, failed, again, done = run(tmp_path, rows)
    assert (begun, again) == ({"name": "broken"}, {"name": "nhwc"})
    assert failed["name"] == "broken"
    assert failed["error"]
    assert done == {"name": "nhwc", "error": ""}
    assert not (tmp_path / "broken.tflite").exists()
    # The input keeps its order of axes, and the user's file its bytes.
    (image,) = host.describe(tmp_path / "nhwc.tflite", "litert").input_details
    assert image.shape == (1, 9, 9, 3)
    assert (tmp_path / "nhwc.onnx").read_bytes() == before


def test_one_that_takes_too_long_ends_the_process_and_is_the_last_that_began(tmp_path):
    models.save(models.nhwc_net(), tmp_path / "net.onnx")
    (tmp_path / "onnx2tf.py").write_text("import time\ndef main(): time.sleep(60)\n")
    jobs, log = tmp_path / "jobs", tmp_path / "log"
    rows = [(name, str(tmp_path / "net.onnx"), "made", []) for name in ("never", "next")]
    jobs.write_text(json.dumps(rows))
    argv = [sys.executable, "-P", str(SCRIPT), str(jobs), str(log), "1"]
    ended = subprocess.run(argv, env={"PYTHONPATH": str(tmp_path)}, check=False)
    assert ended.returncode == -signal.SIGALRM
    assert log.read_text().splitlines() == ['{"name": "never"}']
