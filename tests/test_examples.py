"""The examples run: the demo end to end, the training script on less data."""

from __future__ import annotations

import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx

from edgekit.cli.arguments import parser
from tests.paths import DIGITS, DIGITS_MODEL, EVALUATION, ROOT

COMMANDS = [
    command.strip()
    for path in sorted((ROOT / "examples").glob("*/README.md"))
    for line in re.findall(r"^(edgekit (?:.*\\\n)*.*)$", path.read_text(), re.MULTILINE)
    for command in line.split("&&")
]


def test_the_demo_prints_its_table(tmp_path: Path) -> None:
    command = [sys.executable, str(DIGITS / "demo.py")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for said in ("raspberry-pi-5", "pixel-8", "golden vectors: 8 of 8 agree", "median"):
        assert said in done.stdout


def test_the_training_script_learns() -> None:
    """Two epochs are enough to see that the gradients are right."""
    train = runpy.run_path(str(DIGITS / "train.py"))
    with np.load(EVALUATION) as data:
        x, y = data["x"], data["y"]
    weights = train["train"](x[:500], y[:500], epochs=4)
    right = np.mean(train["forward"](weights, x[500:])[0].argmax(1) == y[500:])
    assert right > 0.7
    onnx.checker.check_model(train["as_onnx"](weights), full_check=True)


def test_the_model_in_the_repository_is_small() -> None:
    assert DIGITS_MODEL.stat().st_size < 300_000
    assert DIGITS_MODEL.is_relative_to(ROOT)


def test_the_commands_of_the_examples_are_some() -> None:
    assert len(COMMANDS) >= 2
    for command in COMMANDS:
        parser().parse_args(shlex.split(command.replace("\\\n", " "))[1:])
