"""How many builds fit into this machine at a time: by its cores, and by its free memory.

What a build takes at its peak was measured over whole process trees: 0.25 GiB for small ONNX
models, 0.85 GiB where TensorFlow reads the source, 1.0 GiB for an ONNX model of 0.1 GB. The
estimate is above all of these.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from msgspec import Struct

from edgekit import content
from edgekit.errors import UsageError

GIB = 1024**3
_BASE_BYTES = GIB
_TIMES_THE_MODEL = 12


class _Groups(Struct, frozen=True):
    """Where a version of the kernel's control groups tells of memory.

    Attributes:
        controller: what ``/proc/self/cgroup`` calls it.
        taken: the field of ``memory.stat`` that cannot be given back.
    """

    controller: str
    root: str
    limit: str
    taken: str


_GROUPS = (
    _Groups("", "sys/fs/cgroup", "memory.max", "anon"),
    _Groups("memory", "sys/fs/cgroup/memory", "memory.limit_in_bytes", "total_rss"),
)
"""docs.kernel.org/admin-guide: ``cgroup-v2``, and ``cgroup-v1/memory``."""


def jobs(models: Sequence[Path], asked: int | None = None) -> int:
    """How many builds to run at a time.

    Args:
        models: the model of each build, a file or a folder.
        asked: so many, whatever fits; ``None``: one for each core, as long as so many of the
            largest fit into the memory that is free.

    Raises:
        UsageError: fewer than one was asked for.
    """
    if asked is not None:
        if asked < 1:
            raise UsageError(f"--jobs is {asked}, expected 1 or more")
        return asked
    # One model is built for many targets, and read to the end to be weighed.
    largest = max(map(needed_bytes, set(models)), default=_BASE_BYTES)
    fit = available_bytes() // largest
    return max(1, min(len(models), _cores(), fit))


def needed_bytes(model: Path) -> int:
    """What building a model takes at its peak, about: 1 GiB, and 12 times its files."""
    sizes = (file.stat().st_size for file in content.files(model) if file.is_file())
    return _BASE_BYTES + _TIMES_THE_MODEL * sum(sizes)


def available_bytes(system: Path = Path("/")) -> int:
    """The memory that is free for new processes.

    Of the machine, and of the control groups that this process is in, one within the other;
    where the system does not tell, half of all there is.

    Args:
        system: where ``proc`` and ``sys`` are.
    """
    machine = _field(system / "proc/meminfo", "MemAvailable:", 1024)
    if machine is None:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    return max(0, min([machine, *_free_in_groups(system)]))


def _free_in_groups(system: Path) -> Iterator[int]:
    """What each control group with a limit has left, from this process's own up to the root.

    cgroups(7): a line of ``/proc/self/cgroup`` is ``number:controllers:/path``. Where a container
    has its own group mounted as the root, the path is not there, and the root counts.
    """
    lines = (line.split(":", 2) for line in _lines(system / "proc/self/cgroup"))
    paths = {name: path for _, names, path in lines for name in names.split(",")}
    for kind in _GROUPS:
        own = PurePosixPath(paths.get(kind.controller, "/"))
        for group in (own, *own.parents):
            folder = system / kind.root / str(group).lstrip("/")
            limit = _field(folder / kind.limit, "", 1)
            if limit is not None:
                yield limit - (_field(folder / "memory.stat", kind.taken, 1) or 0)


def _field(path: Path, name: str, unit: int) -> int | None:
    """The number of a line ``name number``; ``None``: there is none."""
    found = (
        words[-2:] for line in _lines(path) if (words := ["", *line.removesuffix(" kB").split()])
    )
    return next((int(n) * unit for key, n in found if key == name and n.isdigit()), None)


def _lines(path: Path) -> list[str]:
    """The lines of one of the kernel's files; none where it cannot be read."""
    try:
        return path.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return []


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
