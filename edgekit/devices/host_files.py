"""Files of the host that a transport reads from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from edgekit.errors import InputError


@contextmanager
def opened(source: Path) -> Iterator[BinaryIO]:
    """Open a file for reading.

    Raises:
        InputError: it cannot be opened; told apart from what goes wrong on the device.
    """
    try:
        file = source.open("rb")
    except OSError as error:
        raise InputError(f"cannot read {source}: {error.strerror}") from error
    with file:
        yield file
