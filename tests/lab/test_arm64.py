"""A bare board of the second architecture: provisioned, measured, refused what is not for it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from edgekit import devices, exporting, pipeline, profiles
from edgekit.bundle import opened as open_bundle
from edgekit.domain import Format, Goal
from edgekit.formats import binding
from edgekit.pipeline import Request
from edgekit.planning import Choice
from tests.lab import arm64
from tests.paths import CALIBRATION, DATA, DIGITS_MODEL, EVALUATION, RESNET20, needs_assets
from tests.sshd import Sshd, why_not

pytestmark = pytest.mark.lab

QUICK = ("--runs", "5", "--seconds", "0.1", "--processes", "2")


@pytest.fixture
def board(tmp_path: Path, home: Path) -> Iterator[Sshd]:
    if reason := why_not():
        pytest.skip(reason)
    with arm64.server(tmp_path / "board", home) as server:
        server.accept()
        yield server


def url(board: Sshd) -> str:
    return f"{board.url}{board.folder}/work"


def edgekit(*words: object) -> tuple[int, dict[str, Any]]:
    """A command line, and the document that it prints."""
    argv = [sys.executable, "-m", "edgekit", *map(str, words), "--json"]
    done = subprocess.run(argv, capture_output=True, check=False, timeout=1200)
    return done.returncode, json.loads(done.stdout)


def built(folder: Path, runtime: str, versions: str, format_: Format, **choice: Any) -> Path:
    """The digits for a Raspberry Pi 4 that has just this runtime."""
    pi = profiles.find("raspberry-pi-4")
    (only,) = [r for r in pi.runtimes if r.name == runtime]
    only = msgspec.structs.replace(only, versions=versions)
    request = Request(
        model=DIGITS_MODEL,
        profile=msgspec.structs.replace(pi, runtimes=(only,)),
        goal=Goal(max_accuracy_drop=0.02),
        choice=Choice(formats=(format_,), **choice),
        calibration=CALIBRATION,
        evaluation=EVALUATION,
    )
    return pipeline.build(request, folder / "digits.edgekit", cache=folder / "cache").path


@pytest.mark.parametrize(
    ("runtime", "versions", "format_"),
    [
        ("tflite-runtime", "==2.14.0", Format.LITERT),
        ("litert", ">=2.0", Format.LITERT),
        ("onnxruntime", ">=1.18", Format.ONNXRUNTIME),
    ],
)
def test_a_bare_board_is_provisioned_and_agrees_with_the_golden_vectors(
    board: Sshd, tmp_path: Path, runtime: str, versions: str, format_: Format
) -> None:
    bundle = built(tmp_path, runtime, versions, format_)
    code, refused = edgekit("bench", bundle, "--on", url(board), *QUICK)
    assert (code, refused["error"]["kind"]) == (3, "runtime-missing")
    assert "--provision" in refused["error"]["hint"]
    assert not (board.folder / "work" / "bundles").exists()

    code, document = edgekit("bench", bundle, "--on", url(board), "--provision", *QUICK)
    assert code == 0, document
    assert document["device"]["machine"] == "aarch64"
    assert document["runtime"]["name"] == runtime
    assert document["golden"]["passed"] is True
    assert document["latency_ms"]["n"] >= 10
    (there,) = (board.folder / "work" / "runtimes").iterdir()
    assert f"-{document['runtime']['version']}-cp311-" in there.name
    assert document["device"]["python"].startswith(str(there))

    code, again = edgekit("bench", bundle, "--on", url(board), "--provision", *QUICK)
    assert (code, again["pushed_bytes"]) == (0, 0)
    assert [path.name for path in there.parent.iterdir()] == [there.name]


_PREDICT = """
import platform, sys
sys.path.insert(0, sys.argv[1])
import numpy, digits
model = digits.Model()
given = numpy.load(sys.argv[2])
numpy.save(sys.argv[3], [model.predict(image=sample).logits for sample in given])
print(platform.machine(), model.model.session.runtime)
"""


@pytest.mark.parametrize(
    ("runtime", "versions", "format_", "module"),
    [
        ("tflite-runtime", "==2.14.0", Format.LITERT, "tflite_runtime"),
        ("onnxruntime", ">=1.18", Format.ONNXRUNTIME, "onnxruntime"),
    ],
)
def test_an_exported_package_gives_the_golden_vectors_there(
    board: Sshd, tmp_path: Path, runtime: str, versions: str, format_: Format, module: str
) -> None:
    bundle = built(tmp_path, runtime, versions, format_)
    code, document = edgekit("push", bundle, "--on", url(board), "--provision")
    assert code == 0, document
    package = tmp_path / "digits-package"
    exporting.export(bundle, "python", package, name="digits")
    shutil.copytree(package, board.folder / "site")
    with open_bundle(bundle) as opened:
        artifact, vectors = opened.manifest.artifact, opened.manifest.golden
        x, y = (np.load(opened.root / files[0]) for files in (vectors.inputs, vectors.outputs))
    np.save(board.folder / "x.npy", binding.to_source(x, artifact.inputs[0]))
    (there,) = (board.folder / "work" / "runtimes").iterdir()
    words = [board.folder / name for name in ("site", "x.npy", "y.npy")]
    with devices.connect(devices.parse(url(board))) as transport:
        argv = [str(there / "bin" / "python"), "-c", _PREDICT, *map(str, words)]
        said = transport.run(argv, timeout_s=300)
    assert said.ok, said.stderr
    assert said.stdout.decode().split() == ["aarch64", module]
    off = np.abs(np.load(board.folder / "y.npy") - binding.to_source(y, artifact.outputs[0])).max()
    assert off <= vectors.tolerances[0]


def test_a_wheel_for_x86_alone_is_refused_before_anything_is_sent(
    board: Sshd, tmp_path: Path
) -> None:
    """Real ones, of the version that the bundle asks for."""
    wheels = tmp_path / "wheels"
    argv = [sys.executable, "-m", "pip", "download", "--quiet", "--only-binary=:all:"]
    argv += ["--python-version=3.11", "--platform=manylinux_2_34_x86_64"]
    argv += ["--platform=manylinux_2_17_x86_64", "--platform=manylinux2014_x86_64"]
    argv += ["--dest", str(wheels), "tflite-runtime==2.14.0", "numpy==1.26.4"]
    subprocess.run(argv, check=True, capture_output=True)
    bundle = built(tmp_path, "tflite-runtime", "==2.14.0", Format.LITERT)
    words = ("bench", bundle, "--on", url(board), "--provision", "--wheels", wheels)
    code, refused = edgekit(*words)
    assert (code, refused["error"]["kind"]) == (3, "runtime-missing")
    assert "manylinux_2_36_aarch64" in refused["error"]["message"]
    assert "x86_64" in refused["error"]["message"]
    assert not (board.folder / "work").exists()


def test_it_says_what_it_is_and_becomes_a_profile(
    board: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    code, told = edgekit("devices", "probe", "--on", url(board))
    assert (code, told["machine"]) == (0, "aarch64")
    assert [cluster["core"] for cluster in told["clusters"]] == ["cortex-a72"]
    assert told["pythons"][0]["abi"] == "cpython-311-aarch64-linux-gnu"
    code, added = edgekit("devices", "add", "the-board", "--on", url(board))
    assert (code, added["base"]) == (0, "raspberry-pi-4")


@needs_assets
def test_what_the_older_runtime_computes_wrongly_is_caught_there(
    board: Sshd, tmp_path: Path
) -> None:
    """Dynamic int8 of today's quantizer: right on LiteRT 2.3, nonsense on tflite-runtime 2.14."""
    pi = profiles.find("raspberry-pi-4")
    request = Request(
        model=RESNET20,
        profile=pi,
        goal=Goal(max_accuracy_drop=0.01),
        choice=Choice(formats=(Format.LITERT,), precisions=("int8-dynamic",)),
        evaluation=DATA / "cifar10_nchw.eval.npz",
    )
    made = pipeline.build(request, tmp_path / "resnet.edgekit", cache=tmp_path / "cache")
    assert made.manifest.validation.value >= 0.918
    old = built(tmp_path, "tflite-runtime", "==2.14.0", Format.LITERT)
    code, _ = edgekit("push", old, "--on", url(board), "--provision")
    assert code == 0
    code, document = edgekit("bench", made.path, "--on", url(board), *QUICK)
    assert (code, document["error"]["kind"]) == (3, "golden")
    assert "latency_ms" not in document
