"""A call in a process of its own is like a call, but for what it cannot do to ours."""

import math
import os
import sys
import time
from pathlib import Path

import pytest

from edgekit import errors, store
from edgekit.errors import EdgekitError, ToolCrashed, ToolError, ToolTimeout, UsageError
from edgekit.toolchain import environments, isolation
from edgekit.toolchain.isolation import Interpreter
from edgekit.toolchain.process import Limits
from tests.toolchain import functions
from tests.toolchain.functions import Color, Inner, Outer

ROOT = Path(__file__).parents[2]
LIMITS = Limits(seconds=30)


@pytest.fixture(autouse=True)
def _child_finds_the_tests(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def call(function, *args, **kwargs):
    return isolation.call(function, LIMITS, *args, **kwargs)


def failure(function, *args):
    with pytest.raises(EdgekitError) as caught:
        call(function, *args)
    return caught.value


def test_it_runs_in_another_process():
    assert call(functions.pid) != os.getpid()


def test_structs_cross_both_ways():
    value = Outer(
        name="n\u00e4me\0\n",
        color=Color.RED,
        inner=(Inner(Path("/a b"), (1, 2)), Inner(None)),
        score=0.1 + 0.2,
        table={"x": (1, -(2**62))},
        by_index={7: "seven"},
        raw=b"\x00\xff",
    )
    assert call(functions.echo, value) == value


def test_paths_cross_both_ways(tmp_path):
    assert call(functions.folder_of, tmp_path / "file", nothing=None) == tmp_path
    assert call(functions.paths, second=Path("b"), first=Path("a")) == (Path("a"), Path("b"))


def test_nothing_crosses_whatever_is_printed():
    assert call(functions.nothing) is None


@pytest.mark.parametrize("value", [1e-300, math.inf, -math.inf, math.nan])
def test_every_number_crosses(value):
    got = call(functions.number, value)
    assert got == value or (math.isnan(got) and math.isnan(value))


def test_what_cannot_cross_is_refused_not_turned_into_text():
    with pytest.raises(TypeError):
        call(functions.echo, object())
    assert "object" in failure(functions.unspeakable).hint


@pytest.mark.parametrize("kind", ["DataError", "ToolTimeout", "GateError"])
def test_our_errors_come_through_as_they_are(kind):
    error = failure(functions.fails_knowingly, kind)
    assert type(error) is getattr(errors, kind)
    assert (error.message, error.hint) == ("what was wrong", "what to do")


def test_an_error_of_another_module_becomes_a_tool_error():
    error = failure(functions.fails_privately)
    assert type(error) is ToolError
    assert (error.message, error.hint) == ("what was wrong", "what to do")


def test_other_exceptions_become_a_tool_error():
    error = failure(functions.fails)
    assert type(error) is ToolError
    assert error.message == "tests.toolchain.functions:fails failed"
    assert error.hint == "ZeroDivisionError: by nothing"


@pytest.mark.parametrize(
    ("function", "name"), [(functions.aborts, "SIGABRT"), (functions.segfaults, "SIGSEGV")]
)
def test_a_crash_names_its_signal(function, name):
    error = failure(function)
    assert type(error) is ToolCrashed
    assert error.message == f"tests.toolchain.functions:{function.__name__} crashed ({name})"


def test_a_crash_keeps_the_last_words():
    assert "last words" in failure(functions.aborts).hint


def test_an_end_without_an_answer_is_an_error():
    error = failure(functions.leaves, 0)
    assert type(error) is ToolError
    assert "ended without an answer" in error.message
    assert "ended without an answer" in failure(functions.leaves_politely).message
    assert "exit status 3" in failure(functions.leaves, 3).message


def test_a_limit_of_time_holds():
    started = time.monotonic()
    with pytest.raises(ToolTimeout):
        isolation.call(functions.hangs, Limits(seconds=1))
    assert time.monotonic() - started < 20


@pytest.mark.skipif(sys.platform != "linux", reason="macOS does not hold RLIMIT_DATA")
def test_a_limit_of_memory_holds():
    limits = Limits(seconds=30, memory_bytes=256 * 1024**2)
    assert isolation.call(functions.grabs, limits, 1024) == 1024
    with pytest.raises(ToolError) as caught:
        isolation.call(functions.grabs, limits, 1024**3)
    assert "MemoryError" in caught.value.hint


@pytest.mark.parametrize("name", ["msgspec.py", "inspect.py", "json.py", "edgekit.py"])
def test_a_file_in_the_working_folder_is_not_imported(tmp_path, monkeypatch, name):
    (tmp_path / name).write_text("raise SystemExit('a stranger was here')")
    monkeypatch.chdir(tmp_path)
    assert call(functions.number, 1.5) == 1.5


def test_nothing_is_left_behind(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    call(functions.nothing)
    failure(functions.fails)
    failure(functions.aborts)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def another(tmp_path):
    """This Python under another name."""
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    return Interpreter(str(python), {"EDGEKIT_CACHE": "/a/place"})


def test_another_python_gives_and_fails_alike(another):
    assert isolation.call_in(another, store.default_root, LIMITS) == Path("/a/place")
    with pytest.raises(UsageError, match="no tool is named 'none'"):
        isolation.call_in(another, environments.find, LIMITS, "none")


def test_a_python_that_is_not_there_is_named(tmp_path):
    gone = Interpreter(str(tmp_path / "gone"))
    with pytest.raises(ToolError, match="could not be started: No such file"):
        isolation.call_in(gone, store.default_root, LIMITS)
