"""``--c`` against the real TFLite Micro: its interpreter runs in the arena that was estimated."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import uv

from edgekit import bundle
from edgekit.errors import UsageError
from edgekit.exporting import micro, tflite
from tests.exporting.conftest import litert_bundle
from tests.paths import ASSETS, needs_assets

pytestmark = pytest.mark.lab
__all__ = ["litert_bundle"]

RUN = """
import json, sys
import numpy as np
from tflite_micro.python.tflite_micro import runtime

model, arena, feeds, results = sys.argv[1:]
interpreter = runtime.Interpreter.from_file(model, arena_size=int(arena))
outputs = []
for feed in np.load(feeds):
    interpreter.set_input(feed, 0)
    interpreter.invoke()
    outputs.append(interpreter.get_output(0))
np.save(results, np.stack(outputs))
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python with TFLite Micro's interpreter; PyPI has development versions only."""
    folder = tmp_path_factory.mktemp("tflm")
    command, made = uv.find_uv_bin(), folder / "venv" / "bin" / "python"
    subprocess.run([command, "venv", "-q", "-p", sys.executable, folder / "venv"], check=True)
    install = [command, "pip", "install", "-q", "--prerelease=allow", "-p", made, "tflite-micro"]
    subprocess.run(install, check=True)
    return made


def run(python: Path, model: Path, arena: int, feeds: np.ndarray, folder: Path) -> np.ndarray:
    np.save(folder / "feeds.npy", feeds)
    files = [folder / "feeds.npy", folder / "results.npy"]
    words = [str(each) for each in (python, "-c", RUN, model, arena, *files)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{model.name} in {arena} bytes: {done.stderr[-500:]}"
    return np.load(folder / "results.npy")


def test_a_bundle_gives_its_golden_vectors(
    python: Path, litert_bundle: Path, tmp_path: Path
) -> None:
    with bundle.opened(litert_bundle) as opened:
        golden = opened.manifest.golden
        feeds, expected = (np.load(opened.root / n[0]) for n in (golden.inputs, golden.outputs))
        arena = micro.arena(tflite.graphs(opened.artifact)).total
        got = run(python, opened.artifact, arena, feeds, tmp_path)
        (output,) = opened.manifest.artifact.outputs
    assert output.quantization is not None
    off = np.abs(got.astype(int) - expected.astype(int)).max() * output.quantization.scale
    assert off <= golden.tolerances[0]


@needs_assets
def test_the_estimate_suffices(python: Path, tmp_path: Path) -> None:
    """Every network that edgekit would export allocates and runs in what was estimated for it."""
    tried = []
    for path in sorted((ASSETS / "models").glob("*/*.tflite")):
        graphs = tflite.graphs(path)
        try:
            micro.methods(graphs)
        except UsageError:
            continue
        tensor = graphs[0].tensors[graphs[0].inputs[0]]
        feeds = np.zeros((1, *tensor.shape), tensor.dtype)
        run(python, path, micro.arena(graphs).total, feeds, tmp_path)
        tried.append(path.name)
    assert len(tried) > 10, json.dumps(tried)
