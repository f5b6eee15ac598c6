"""As many builds at a time as there are cores, and as fit into the memory that is free."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.errors import UsageError
from edgekit.toolchain import fitting
from tests import models

GIB = fitting.GIB


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight cores, 10 GiB free."""
    monkeypatch.setattr(fitting, "_cores", lambda: 8)
    monkeypatch.setattr(fitting, "available_bytes", lambda: 10 * GIB)


def sparse(path: Path, size: int) -> Path:
    with path.open("wb") as file:
        file.truncate(size)
    return path


@pytest.mark.parametrize(
    ("size", "count", "expected"),
    [(1000, 20, 8), (1000, 3, 3), (GIB // 12, 20, 5), (GIB, 20, 1), (1000, 0, 1)],
)
@pytest.mark.usefixtures("machine")
def test_as_many_as_fit(tmp_path: Path, size: int, count: int, expected: int) -> None:
    assert fitting.jobs([sparse(tmp_path / "model.tflite", size)] * count) == expected


@pytest.mark.usefixtures("machine")
def test_the_largest_decides(tmp_path: Path) -> None:
    large, small = sparse(tmp_path / "a.tflite", GIB // 3), sparse(tmp_path / "b.tflite", 9)
    assert fitting.jobs([small, large, small]) == 2
    assert fitting.jobs([small, tmp_path / "absent.onnx", small]) == 3


@pytest.mark.usefixtures("machine")
def test_what_is_asked_for_counts(tmp_path: Path) -> None:
    assert fitting.jobs([], 40) == 40
    with pytest.raises(UsageError, match="--jobs is 0, expected 1 or more"):
        fitting.jobs([], 0)


def test_external_data_and_folders_count(tmp_path: Path) -> None:
    model = models.save_external(models.dense_net(), tmp_path / "model.onnx")
    size = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert fitting.needed_bytes(model) == fitting.needed_bytes(tmp_path) == GIB + 12 * size


def system(folder: Path, **files: str) -> Path:
    names = {"meminfo": "proc/meminfo", "max": "sys/fs/cgroup/memory.max"}
    names["stat"] = "sys/fs/cgroup/memory.stat"
    for key, text in files.items():
        (folder / names[key]).parent.mkdir(parents=True, exist_ok=True)
        (folder / names[key]).write_text(text)
    return folder


MEMINFO = "MemTotal:       24000 kB\nMemFree:  1 kB\nMemAvailable:    8000 kB\n"


@pytest.mark.parametrize(
    ("group", "expected"),
    [
        ({}, 8000 * 1024),
        ({"max": "max\n"}, 8000 * 1024),
        ({"max": "4096000\n", "stat": "anon 1000000\nfile 9\n"}, 3096000),
        ({"max": "4096000\n"}, 4096000),
        ({"max": "1000\n", "stat": "anon 2000\n"}, 0),
    ],
)
def test_free_memory(tmp_path: Path, group: dict[str, str], expected: int) -> None:
    assert fitting.available_bytes(system(tmp_path, meminfo=MEMINFO, **group)) == expected


NESTED = {
    "proc/self/cgroup": "0::/user/build\n",
    "sys/fs/cgroup/user/build/memory.max": "max\n",
    "sys/fs/cgroup/user/memory.max": "5000000\n",
    "sys/fs/cgroup/user/memory.stat": "anon 2000000\n",
    "sys/fs/cgroup/memory.max": "6000000\n",
}
FIRST = {
    "proc/self/cgroup": "4:cpu,cpuacct:/\n3:memory:/docker/1\n1:name=systemd:/x\n0::/\n",
    "sys/fs/cgroup/memory/docker/1/memory.limit_in_bytes": "4000000\n",
    "sys/fs/cgroup/memory/docker/1/memory.stat": "rss 1\ntotal_rss 1000000\n",
    "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{2**63 - 4096}\n",
}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (NESTED, 3000000),
        (NESTED | {"sys/fs/cgroup/user/build/memory.max": "1000\n"}, 1000),
        (NESTED | {"sys/fs/cgroup/memory.max": "2000000\n"}, 2000000),
        (FIRST, 3000000),
        (FIRST | {"sys/fs/cgroup/memory/docker/1/memory.limit_in_bytes": "9\n"}, 0),
        # A container whose own group is the root, while its path is the machine's.
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/memory.max": "7000\n"}, 7000),
        ({"sys/fs/cgroup/memory/memory.limit_in_bytes": "8000\n"}, 8000),
    ],
)
def test_every_group_that_this_process_is_in_counts(
    tmp_path: Path, files: dict[str, str], expected: int
) -> None:
    for name, text in {"proc/meminfo": MEMINFO, **files}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert fitting.available_bytes(tmp_path) == expected


def test_a_system_that_does_not_tell(tmp_path: Path) -> None:
    assert fitting.available_bytes(tmp_path) > 0
    assert fitting.available_bytes() > 0
