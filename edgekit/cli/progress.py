"""What long work is doing, on standard error: one changing line for a person, else a line each."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape

from edgekit.observer import OnStage


def log(*, verbose: bool) -> None:
    """Send what the library logs to standard error: everything, or errors only."""
    logging.basicConfig(level=logging.DEBUG if verbose else logging.ERROR, stream=sys.stderr)


@contextmanager
def stages() -> Iterator[OnStage]:
    """A callable to be told each stage's name and what it is working on."""
    console = Console(stderr=True, highlight=False)
    if console.is_terminal:
        with console.status("starting") as status:
            yield lambda stage, detail: status.update(f"[bold]{escape(stage)}[/]: {escape(detail)}")
    else:
        yield lambda stage, detail: console.print(
            f"{stage}: {detail}", markup=False, soft_wrap=True
        )
