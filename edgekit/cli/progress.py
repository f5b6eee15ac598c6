"""What long work is doing, on standard error: one changing line for a person, else a line each."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich import box
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from edgekit.observer import OnRow, OnStage
from edgekit.report.text import printable


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


@contextmanager
def rows(what: str, names: Sequence[str] = ()) -> Iterator[OnRow]:
    """A callable to be told, by the name of one of several, its stage and what it is working on.

    Args:
        what: they are.
        names: those that wait from the beginning; others appear when they are first told of.
    """
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        yield lambda name, stage, detail: console.print(
            f"{name}: {stage}: {detail}", markup=False, soft_wrap=True
        )
        return
    now = dict.fromkeys(names, ("waiting", ""))
    with Live(_rows(what, now), console=console, transient=True) as live:

        def tell(name: str, stage: str, detail: str) -> None:
            now[name] = (stage, detail)
            live.update(_rows(what, now))

        yield tell


def _rows(what: str, now: dict[str, tuple[str, str]]) -> Table:
    table = Table(what, "stage", "", box=box.SIMPLE)
    for name, (stage, detail) in now.items():
        first = (detail.splitlines() or [""])[0]
        table.add_row(Text(printable(name)), stage, Text(printable(first), no_wrap=True))
    return table
