"""``examples/jetson_service``: built and exported by its README, it answers as Python does."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edgekit import bundle
from edgekit.formats import binding
from tests.cli.conftest import Edgekit, edgekit
from tests.device_pythons import device_bin
from tests.paths import DIGITS, ROOT

__all__ = ["edgekit"]
pytestmark = pytest.mark.xdist_group("jetson-service")
BUNDLE = "build/digits-jetson-orin-nano.edgekit"


@pytest.fixture(scope="module")
def service(edgekit: Edgekit, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example's folder, after the commands of its README."""
    folder = tmp_path_factory.mktemp("examples")
    shutil.copytree(DIGITS, folder / "digits")
    made = Path(shutil.copytree(ROOT / "examples" / "jetson_service", folder / "service"))
    commands = [
        line.split()
        for line in (made / "README.md").read_text().replace(" && ", "\n").splitlines()
        if line.startswith("edgekit ")
    ]
    assert [words[1] for words in commands] == ["build", "check", "export"]
    for words in commands:
        ran = edgekit(*words[1:], cwd=made)
        assert ran.code == 0, ran.stdout + ran.stderr
    return made


@pytest.fixture(scope="module")
def answering(service: Path) -> Iterator[Path]:
    """The socket that the exported package answers on."""
    path = service / "d.sock"
    argv = [str(device_bin("litert") / "python"), "-m", "digits", "--socket", str(path)]
    with subprocess.Popen(argv, cwd=service / "package") as process:
        deadline = time.monotonic() + 60
        while not path.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        yield path
        process.terminate()


def asked(service: Path, socket: Path, *pictures: Path) -> list[list[str]]:
    argv = [sys.executable, str(service / "ask.py"), str(socket), *map(str, pictures)]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    return [line.split() for line in done.stdout.splitlines()]


def test_it_answers_as_python_does_on_the_golden_vectors(service: Path, answering: Path) -> None:
    with bundle.opened(service / BUNDLE) as opened:
        assert opened.manifest.interface.pictures["image"].colours == "gray"
        artifact, golden = opened.manifest.artifact, opened.manifest.golden
        x, y = (np.load(opened.root / name[0]) for name in (golden.inputs, golden.outputs))
        real = binding.to_source(x, artifact.inputs[0])
        expected = binding.to_source(y, artifact.outputs[0])[:, 0]
        tolerance = golden.tolerances[0]
    pictures = []
    for index, pixels in enumerate(np.rint(real[:, 0, 0] * 255).astype(int)):
        pictures.append(service / f"{index}.pgm")
        lines = "\n".join(" ".join(map(str, row)) for row in pixels)
        pictures[-1].write_text(f"P2\n8 8\n255\n{lines}\n")
    answers = asked(service, answering, *pictures)
    labels = (service / "labels.txt").read_text().split()
    assert [name for name, *_ in answers] == [path.name for path in pictures]
    assert [label for _, label, *_ in answers] == [labels[i] for i in expected.argmax(axis=1)]
    scores = np.array([list(map(float, scores)) for _, _, *scores in answers])
    assert np.abs(scores - expected).max() <= tolerance


def test_the_picture_that_is_there(service: Path, answering: Path) -> None:
    ((name, label, *scores),) = asked(service, answering, service / "four.pgm")
    assert (name, label, len(scores)) == ("four.pgm", "four", 10)
