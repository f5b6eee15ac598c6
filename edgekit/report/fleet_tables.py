"""Results of many devices as a person reads them: a line for each, the failures in full."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from edgekit.report.layout import milliseconds, size
from edgekit.report.text import printable

Document = dict[str, Any]


def pushed(rows: Sequence[Document]) -> RenderableType:
    """What was sent to each."""
    return _table(rows, {"sent": lambda row: size(row["pushed_bytes"])})


def measured(rows: Sequence[Document], what: str = "device") -> RenderableType:
    """How fast each is; ``what`` they are."""
    return _table(
        rows,
        {
            "median": lambda row: milliseconds(row["latency_ms"]["p50"]),
            "p90": lambda row: milliseconds(row["latency_ms"]["p90"]),
            "runtime": lambda row: f"{row['runtime']['name']} {row['runtime']['version']}",
            "": lambda row: "" if row["valid"] else f"INVALID: {row['why_invalid']}",
        },
        what,
    )


def _table(
    rows: Sequence[Document],
    columns: dict[str, Callable[[Document], str]],
    what: str = "device",
) -> RenderableType:
    table = Table(what, *columns, "took", box=box.SIMPLE)
    for row in rows:
        cells = [
            "failed" if "error" in row and number == 0 else _cell(row, show)
            for number, show in enumerate(columns.values())
        ]
        texts = (row["name"], *cells, f"{row['elapsed_s']:.1f} s")
        table.add_row(*(Text(printable(text)) for text in texts))
    return Group(table, *(_failure(row) for row in rows if "error" in row))


def _cell(row: Document, show: Callable[[Document], str]) -> str:
    return "" if "error" in row else show(row)


def _failure(row: Document) -> Text:
    hint = f"\n  hint: {row['error']['hint']}" if row["error"]["hint"] else ""
    return Text(f"{printable(row['name'])}: {printable(row['error']['message'])}{printable(hint)}")
