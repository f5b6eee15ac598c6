"""Which versions made an artifact: of edgekit's own code, and of the tools it drives."""

from __future__ import annotations

import contextlib
import functools
import hashlib
from importlib import metadata
from pathlib import Path

from edgekit import __version__

TOOLS = (
    *("ai-edge-litert", "ai-edge-quantizer", "coremltools", "numpy", "onnx", "onnxruntime"),
    *("onnxsim", "pillow", "scipy"),
)
"""Distributions whose versions decide what comes out."""

_KINDS = (".py", ".txt", ".json")


@functools.cache
def code() -> str:
    """A digest over edgekit's own source and tables: changed code never meets an old cache entry.

    The same in a clone and in a wheel, which carries the device profiles and runners, too.
    """
    package = Path(__file__).parent
    total = hashlib.sha256(__version__.encode())
    for path in sorted(package.rglob("*")):
        name = path.relative_to(package)
        if path.suffix in _KINDS and name.parts[0] != "_data" and path.is_file():
            total.update(name.as_posix().encode())
            total.update(path.read_bytes())
    return total.hexdigest()


@functools.cache
def tools() -> str:
    """A digest of edgekit's own code, and of the versions of all that computes for it."""
    told = [f"{name} {version}" for name, version in versions(TOOLS).items()]
    return hashlib.sha256("\n".join([code(), *told]).encode()).hexdigest()


def versions(distributions: tuple[str, ...]) -> dict[str, str]:
    """The version of edgekit, and of each distribution that is installed, by name."""
    found = {"edgekit": __version__}
    for name in distributions:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found
