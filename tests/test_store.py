"""An entry of the store is complete or absent, whoever makes it and however that ends."""

import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from edgekit import store


def filling(content):
    return lambda folder: (folder / "content").write_text(content)


def entries(root):
    """Every file of the store, those of makers that were interrupted too."""
    return sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file())


def spawned(root, body):
    """Another process that makes the entry ``e``; it says "filling", then runs ``body``."""
    script = f"""
import sys, time
from pathlib import Path
from edgekit import store
def fill(folder):
    (folder / "content").write_text("theirs")
    print("filling", flush=True)
    {body}
print(store.make(Path({str(root)!r}), "e", fill).joinpath("content").read_text())
"""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, "-c", script], **pipes)
    assert process.stdout.readline() == "filling\n"
    return process


def test_an_entry_is_made_once(tmp_path):
    assert store.find(tmp_path, "e") is None
    folder = store.make(tmp_path, "e", filling("first"))
    assert store.make(tmp_path, "e", pytest.fail) == folder
    assert store.find(tmp_path, "e") == folder
    assert (folder / "content").read_text() == "first"


def test_an_entry_may_lie_in_a_folder_of_its_kind(tmp_path):
    folder = store.make(tmp_path / "new", "bundles/abc", filling("x"))
    assert folder == tmp_path / "new/bundles/abc"
    assert entries(tmp_path) == ["new/bundles/abc/content"]


def test_the_first_of_two_threads_wins(tmp_path):
    both_began, first_done = threading.Barrier(2, timeout=20), threading.Event()

    def make(content):
        def fill(folder):
            filling(content)(folder)
            both_began.wait()
            if content == "late":
                assert first_done.wait(20)

        made = (store.make(tmp_path, "e", fill) / "content").read_text()
        first_done.set()
        return made

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(make, ["late", "early"])) == ["early", "early"]
    assert entries(tmp_path) == ["e/content"]


def test_the_first_of_two_processes_wins(tmp_path):
    theirs = spawned(tmp_path, "sys.stdin.read()")
    with theirs:
        store.make(tmp_path, "e", filling("ours"))
        answer, _ = theirs.communicate(timeout=20)
    assert answer == "ours\n"
    assert theirs.returncode == 0
    assert entries(tmp_path) == ["e/content"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_what_ends_the_filling_leaves_nothing(tmp_path, error):
    def fill(folder):
        filling("half")(folder)
        raise error

    with pytest.raises(error):
        store.make(tmp_path, "kind/e", fill)
    assert store.find(tmp_path, "kind/e") is None
    assert list((tmp_path / "kind").iterdir()) == []
    assert (store.make(tmp_path, "kind/e", filling("whole")) / "content").read_text() == "whole"


def test_a_killed_process_leaves_no_entry(tmp_path):
    with spawned(tmp_path, "time.sleep(60)") as theirs:
        theirs.kill()
    assert theirs.returncode == -signal.SIGKILL
    assert store.find(tmp_path, "e") is None
    assert (store.make(tmp_path, "e", filling("whole")) / "content").read_text() == "whole"


def test_a_key_keeps_its_parts_apart():
    lists = [["ab", "c"], ["a", "bc"], ["abc"], ["abc", ""], ["", "abc"], ["c", "ab"], []]
    assert len({store.key(parts) for parts in lists}) == len(lists)


def test_a_key_counts_bytes_and_stays_the_same():
    assert store.key(["é", b"\0"]) == store.key(["é".encode(), "\0"])
    assert store.key(iter(["a"])) == store.key(["a"])
    assert store.key(["é"]) != store.key(["e"])


def test_the_environment_names_the_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path))
    assert store.default_root() == tmp_path
    monkeypatch.setenv("EDGEKIT_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    assert store.default_root().name == "edgekit"
