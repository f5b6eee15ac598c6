"""A tool's process: how it ended is told, what it may take is limited, nothing outlives it."""

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest

from edgekit.errors import ToolCrashed, ToolError, ToolTimeout
from edgekit.toolchain import process
from edgekit.toolchain.process import Limits

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="macOS does not hold RLIMIT_DATA")
MIB = 1024**2


def python(code, **options):
    return process.run([sys.executable, "-c", code], what="the tool", **options)


def failure(code, **options):
    with pytest.raises(ToolError) as caught:
        python(code, **options)
    return caught.value


@contextmanager
def witness(tmp_path):
    """A pipe that a process opens and holds; afterwards, whether one did and none does now."""
    path = tmp_path / "witness"
    os.mkfifo(path)
    reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        yield path
        assert os.read(reading, 100) == b"up\n"
        deadline = time.monotonic() + 10
        while _held(reading):
            assert time.monotonic() < deadline, "it is still running"
            time.sleep(0.01)
    finally:
        os.close(reading)


def _held(reading):
    try:
        return os.read(reading, 1) != b""
    except BlockingIOError:
        return True


def test_what_it_said_is_returned():
    ended = python("import sys; print('out'); print('err', file=sys.stderr)")
    assert (ended.status, ended.stdout, ended.stderr) == (0, "out", "err")


def test_a_status_is_named():
    error = failure("import sys; sys.exit('no such layer')")
    assert type(error) is ToolError
    assert error.message == "the tool failed (exit status 1)"
    assert error.hint == "no such layer"


def test_what_it_printed_is_the_hint_where_it_said_nothing_else():
    assert failure("print('sorry'); raise SystemExit(9)").hint == "sorry"


def test_a_status_may_be_accepted():
    assert python("raise SystemExit(3)", accept=(0, 3)).status == 3
    assert "exit status 4" in failure("raise SystemExit(4)", accept=(0, 3)).message


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGABRT", "SIGKILL", "SIGTERM"])
def test_a_signal_is_named(name):
    error = failure(f"import os, signal; os.kill(os.getpid(), signal.{name})")
    assert type(error) is ToolCrashed
    assert error.message == f"the tool crashed ({name})"


@on_linux
def test_a_signal_without_a_name_is_numbered():
    number = signal.SIGRTMIN + 3
    error = failure(f"import os; os.kill(os.getpid(), {number})")
    assert type(error) is ToolCrashed
    assert str(number) in error.message


def test_a_tool_that_is_not_there_is_named():
    with pytest.raises(ToolError, match="the tool could not be started: No such file"):
        process.run(["/no/such/tool"], what="the tool")


def test_it_has_an_environment_and_a_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("OURS", "1")
    code = "import os; print(os.environ['OURS'], os.environ['ADDED'], os.getcwd())"
    ended = python(code, env={"ADDED": "2"}, cwd=tmp_path)
    assert ended.stdout == f"1 2 {tmp_path}"
    assert "ADDED" not in os.environ


def test_it_cannot_wait_for_input():
    script = """
from edgekit.toolchain import process
print(repr(process.run(["cat"], what="the tool").stdout))
"""
    said = subprocess.run(
        [sys.executable, "-c", script], input=b"typed", stdout=subprocess.PIPE, check=True
    )
    assert said.stdout == b"''\n"


def test_a_timeout_ends_the_whole_group(tmp_path):
    started = time.monotonic()
    with witness(tmp_path) as path:
        script = f"(echo up; sleep 60) > {path} & echo started; sleep 60"
        with pytest.raises(ToolTimeout) as caught:
            process.run(["sh", "-c", script], what="the tool", limits=Limits(seconds=0.8))
    assert time.monotonic() - started < 4.5
    assert caught.value.message == "the tool was ended after its limit of 0.8 s"
    assert caught.value.hint == "started"


def test_nothing_outlives_a_tool_that_ended_well(tmp_path):
    with witness(tmp_path) as path:
        ready = tmp_path / "ready"
        script = f"(echo up; touch {ready}; sleep 60) > {path} & "
        script += f"until [ -e {ready} ]; do sleep 0.01; done"
        process.run(["sh", "-c", script], what="the tool")


def test_nothing_outlives_an_interruption(tmp_path):
    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        with witness(tmp_path) as path:
            script = f"(echo up; sleep 0.3; kill -USR1 $PPID; sleep 60) > {path}"
            with pytest.raises(KeyboardInterrupt):
                process.run(["sh", "-c", script], what="the tool")
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_nothing_that_a_thread_runs_outlives_us(tmp_path):
    ready = tmp_path / "ready"
    with witness(tmp_path) as path:
        tool = f"(echo up; touch {ready}; sleep 60) > {path}"
        script = f"""
import pathlib, threading, time
from edgekit.toolchain import process
work = dict(target=process.run, args=[["sh", "-c", {tool!r}]], kwargs=dict(what="the tool"))
threading.Thread(**work, daemon=True).start()
while not pathlib.Path({str(ready)!r}).exists():
    time.sleep(0.01)
raise KeyboardInterrupt
"""
        ended = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
        assert b"KeyboardInterrupt" in ended.stderr


@on_linux
@pytest.mark.parametrize("by", ["itself", "its child"])
def test_too_much_memory_fails_the_allocation(by):
    code = f"held = bytearray({1024 * MIB}); print(len(held))"
    if by == "its child":
        code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {code!r}], check=1)"
    error = failure(code, limits=Limits(seconds=30, memory_bytes=256 * MIB))
    assert "MemoryError" in error.hint
    assert python(code, limits=Limits(seconds=30, memory_bytes=4096 * MIB)).status == 0


@on_linux
def test_a_lower_limit_of_the_users_own_is_kept():
    script = f"""
import os, resource
from edgekit.toolchain import process
resource.setrlimit(resource.RLIMIT_DATA, ({512 * MIB}, {512 * MIB}))
if os.getuid() == 0:
    os.setuid(65534)
print(process.run(["sh", "-c", "ulimit -d"], what="the tool").stdout)
"""
    said = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert said.stdout.strip() == str(512 * 1024)


def test_of_long_output_the_end_is_kept():
    code = "import sys; [f.write('x' * 3_000_000 + 'the end\\n') for f in (sys.stdout, sys.stderr)]"
    ended = python(code)
    for text in (ended.stdout, ended.stderr):
        assert text.endswith("xthe end")
        assert 200_000 < len(text) <= 256 * 1024
    assert len(ended.said) == 2000
    assert len(failure(code + "; sys.exit(1)").hint) == 2000


def test_output_that_is_no_text_ends_nothing():
    assert python("import sys; sys.stdout.buffer.write(b'a\\xff\\xfeb')").stdout == "a\ufffd\ufffdb"


def test_many_lines_on_both_pipes_do_not_block():
    pipes = "(sys.stdout, sys.stderr)"
    code = f"import sys; [print('x' * 99, file=f) for _ in range(5000) for f in {pipes}]"
    assert python(code, limits=Limits(seconds=30)).status == 0
