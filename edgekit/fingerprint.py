"""Which versions made an artifact: of edgekit's own code, and of the tools it drives."""

from __future__ import annotations

import contextlib
import functools
import hashlib
from importlib import metadata
from pathlib import Path

from edgekit import __version__


@functools.cache
def code() -> str:
    """A digest over edgekit's own source: changed code never meets an old cache entry."""
    package = Path(__file__).parent
    total = hashlib.sha256(__version__.encode())
    for path in sorted(package.rglob("*")):
        if path.suffix in (".py", ".txt") and path.is_file():
            total.update(path.relative_to(package).as_posix().encode())
            total.update(path.read_bytes())
    return total.hexdigest()


def versions(distributions: tuple[str, ...]) -> dict[str, str]:
    """The version of edgekit, and of each distribution that is installed, by name."""
    found = {"edgekit": __version__}
    for name in distributions:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found
