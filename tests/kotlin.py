"""Kotlin without Android: a parser for every run, a compiler and a JVM for the lab."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import tree_sitter_kotlin
from tree_sitter import Language, Node, Parser

from tests.paths import ROOT

STUBS = ROOT / "runtime_stubs" / "android"
STAND_INS = ROOT / "tests" / "runtime_stubs" / "android"
"""The classes of Android and of the runtimes that the wrapper uses, over real runtimes."""

_COMPILER = Path(os.environ.get("EDGEKIT_KOTLIN", ROOT / ".work" / "kotlin"))
_PARSER = Parser(Language(tree_sitter_kotlin.language()))


def faults(source: bytes) -> list[str]:
    """What a parser cannot make sense of, by line."""
    found, waiting = [], [_PARSER.parse(source).root_node]
    while waiting:
        node: Node = waiting.pop()
        if node.is_error or node.is_missing:
            found.append(f"line {node.start_point[0] + 1}: {(node.text or b'')[:60]!r}")
        elif node.has_error:
            waiting.extend(node.children)
    return found


def stands_alone(path: Path) -> bool:
    """Whether a file of the wrapper needs neither Android nor a runtime."""
    return re.search(r"^import (?!java\.|kotlin\.)", path.read_text(), re.M) is None


def why_not_here() -> str | None:
    """Why nothing can be compiled here; ``None``: it can."""
    missing = [tool for tool in ("java", "javac") if shutil.which(tool) is None]
    if missing:
        return f"there is no {' and no '.join(missing)}"
    return None if _jars() else f"there is no Kotlin compiler in {_COMPILER}: `make lab` gets one"


def compile_(kotlin: Iterable[Path], classes: Path, *, java: Iterable[Path] = ()) -> None:
    """Compile into ``classes``, against what is there; a warning is an error."""
    classes.mkdir(exist_ok=True)
    if java := [str(path) for path in java]:
        _run("javac", "-Werror", "-d", str(classes), *java)
    # One thread at half the heat: the compiler would use as many cores as there are.
    _run(
        *("java", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", _path(*_jars())),
        *("org.jetbrains.kotlin.cli.jvm.K2JVMCompiler", "-Werror", "-no-stdlib", "-no-reflect"),
        *("-cp", _path(_library(), classes), "-d", str(classes)),
        *(str(path) for path in kotlin),
    )


def run(main: str, classes: Path, *arguments: str) -> str:
    """What a compiled program prints."""
    return _run(
        *("java", "-cp", _path(_library(), classes)),
        f"-Dedgekit.python={sys.executable}",
        f"-Dedgekit.engine={STAND_INS / 'engine.py'}",
        *(main, *arguments),
    )


def _jars() -> list[Path]:
    return sorted(_COMPILER.glob("run_kotlin_kernel/jars/*.jar"))


def _library() -> Path:
    (found,) = [jar for jar in _jars() if jar.name.startswith("kotlin-stdlib-")]
    return found


def _path(*entries: Path) -> str:
    return os.pathsep.join(map(str, entries))


def _run(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"[-4000:]
    return done.stdout
