"""Where edgekit's own data lie: inside the package in a wheel, beside it in a clone."""

from __future__ import annotations

from pathlib import Path


def folder(name: str) -> Path:
    """The folder ``device_profiles`` or ``runtime_stubs``, from a wheel or from a clone."""
    packaged = Path(__file__).parent / "_data" / name
    return packaged if packaged.is_dir() else Path(__file__).parents[1] / name


def runner() -> Path:
    """The runner: the one Python file that measures on a device."""
    return folder("runtime_stubs") / "python" / "edgekit_runner.py"
