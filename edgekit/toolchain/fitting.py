"""How many builds fit into this machine at a time: by its cores, and by its free memory.

What a build takes at its peak was measured over whole process trees: 0.25 GiB for small ONNX
models, 0.85 GiB where TensorFlow reads the source, 1.0 GiB for an ONNX model of 0.1 GB. The
estimate is above all of these.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from edgekit import content
from edgekit.errors import UsageError

GIB = 1024**3
_BASE_BYTES = GIB
_TIMES_THE_MODEL = 12


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
    largest = max(map(needed_bytes, models), default=_BASE_BYTES)
    fit = available_bytes() // largest
    return max(1, min(len(models), _cores(), fit))


def needed_bytes(model: Path) -> int:
    """What building a model takes at its peak, about: 1 GiB, and 12 times its files."""
    sizes = (file.stat().st_size for file in content.files(model) if file.is_file())
    return _BASE_BYTES + _TIMES_THE_MODEL * sum(sizes)


def available_bytes(system: Path = Path("/")) -> int:
    """The memory that is free for new processes.

    Of the machine, and of the control group that a container runs in; where the system does not
    tell, half of all there is.

    Args:
        system: where ``proc`` and ``sys`` are.
    """
    machine = _field(system / "proc/meminfo", "MemAvailable:", 1024)
    if machine is None:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    group = system / "sys/fs/cgroup"
    limit = _field(group / "memory.max", "", 1)
    if limit is None:
        return machine
    return min(machine, max(0, limit - (_field(group / "memory.stat", "anon", 1) or 0)))


def _field(path: Path, name: str, unit: int) -> int | None:
    """The number of a line ``name number``; ``None``: there is none."""
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    found = (words[-2:] for line in lines if (words := ["", *line.removesuffix(" kB").split()]))
    return next((int(n) * unit for key, n in found if key == name and n.isdigit()), None)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
