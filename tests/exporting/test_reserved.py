"""Names that are taken, judged by who takes them."""

from __future__ import annotations

import keyword
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edgekit.exporting.reserved import NAMES, WORDS
from tests.native import HEADERS, needs_gcc

FAMILIAR = "clock environ gamma index link log2 random remove round select signal time trunc write"
"""What a model may well be called, and C calls something else."""


def test_the_words_of_every_language() -> None:
    assert {word.lower() for word in keyword.kwlist} <= WORDS
    assert {"fun", "guard", "typename", "restrict", "lambda"} <= WORDS
    assert "time" not in WORDS  # a tensor may be called so


@pytest.mark.skipif(shutil.which("javac") is None, reason="there is no javac")
def test_the_words_of_java(tmp_path: Path) -> None:
    """Android's plugin writes Java in the package that is named after the model."""
    words = sorted(word for word in WORDS | set(JAVA.split()) if word.isalpha())
    for word in words:
        (tmp_path / f"In_{word}.java").write_text(f"package dev.{word};\nclass In_{word} {{}}\n")
    files = [str(path) for path in sorted(tmp_path.glob("*.java"))]
    argv = ["javac", "-Xmaxerrs", "9999", "-d", str(tmp_path / "out"), *files]
    said = subprocess.run(argv, capture_output=True, text=True, check=False).stderr
    refused = set(re.findall(r"In_([a-z]+)\.java:\d+: error", said))
    assert {"boolean", "synchronized"} <= refused <= WORDS


JAVA = """
    abstract assert boolean break byte case catch char class const continue default do double else
    enum extends final finally float for goto if implements import instanceof int interface long
    native new null package private protected public return short static strictfp super switch
    synchronized this throw throws transient true try void volatile while false
"""


@needs_gcc
def test_the_names_of_c(tmp_path: Path) -> None:
    """No namespace can have them where the wrapper's headers are included."""
    included = {
        name
        for path in HEADERS.rglob("*.hpp")
        for name in re.findall(r"#include <([a-z_]+)>", path.read_text())
    }
    lines = [f"#include <{name}>" for name in (*sorted(included), "signal.h", "unistd.h")]
    free = [f"{name}_" for name in FAMILIAR.split()]
    lines += [f"namespace {name} {{}}" for name in (*FAMILIAR.split(), *free)]
    source = tmp_path / "names.cpp"
    source.write_text("\n".join(lines))
    argv = ["g++", "-std=gnu++17", "-fsyntax-only", "-fmax-errors=0", str(source)]
    said = subprocess.run(argv, capture_output=True, text=True, check=False).stderr
    places = {int(line) for line in re.findall(r"names\.cpp:(\d+):\d+: error", said)}
    assert {lines[place - 1].split()[1] for place in places} == set(FAMILIAR.split()) <= NAMES


def test_the_names_of_headers_and_of_python() -> None:
    assert {"stdio", "threads", "semaphore", "unistd"} <= NAMES
    assert {"numpy", "onnxruntime", "ai_edge_litert", "tflite_runtime", "imp"} <= NAMES
    assert sys.stdlib_module_names <= NAMES
