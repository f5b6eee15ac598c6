"""Where edgekit's own data lie: inside the package in a wheel, beside it in a clone."""

from __future__ import annotations

from pathlib import Path

from edgekit.domain import Format

RUNNERS = {
    Format.LITERT: "edgekit_runner.py",
    Format.ONNXRUNTIME: "edgekit_runner.py",
    Format.COREML: "ios/edgekit_coreml.py",
}
"""What drives a benchmark on the device, by its name in a bundle."""

_SOURCES = ("*.py", "Package.swift", "Sources/EdgekitCoreML/*.swift")
"""Of a runner that has a folder of its own; what lies beside it there is for applications."""


def folder(name: str) -> Path:
    """The folder ``device_profiles`` or ``runtime_stubs``, from a wheel or from a clone."""
    packaged = Path(__file__).parent / "_data" / name
    return packaged if packaged.is_dir() else Path(__file__).parents[1] / name


def runner() -> Path:
    """The runner: the one Python file that measures on a device."""
    return folder("runtime_stubs") / "python" / "edgekit_runner.py"


def installer() -> Path:
    """What unpacks a runtime on a device."""
    return folder("runtime_stubs") / "python" / "edgekit_install.py"


def runner_files(format_: Format) -> dict[str, Path]:
    """All that measures a format on a device, by the names that the files have in a bundle."""
    stubs = folder("runtime_stubs")
    files = {runner().name: runner(), "LICENSE.runner": stubs / "LICENSE"}
    own = Path(RUNNERS[format_]).parent.name
    if own:
        sources = (path for pattern in _SOURCES for path in (stubs / own).glob(pattern))
        files |= {path.relative_to(stubs).as_posix(): path for path in sources}
    return files
