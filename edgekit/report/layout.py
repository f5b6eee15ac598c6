"""What every report is laid out with: tables, units that fit the size, and how it is printed."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from edgekit.report.text import printable

_WIDTH = 100
_KIB, _STEP = 1024.0, 1000.0


def size(value: float) -> str:
    """Bytes in binary units: ``297.6 KiB``."""
    for unit in ("B", "KiB", "MiB"):
        if value < _KIB:
            return f"{value:.0f} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= _KIB
    return f"{value:.2f} GiB"


def count(value: float) -> str:
    """A count with its magnitude: ``40.6 M``."""
    for unit in ("", " k", " M"):
        if value < _STEP:
            return f"{value:.0f}" if unit == "" else f"{value:.1f}{unit}"
        value /= _STEP
    return f"{value:.2f} G"


def milliseconds(value: float) -> str:
    """Three figures: ``0.347 ms``."""
    return f"{value:.3g} ms"


def show(renderable: RenderableType) -> None:
    """Print to standard output; where nobody watches, as plain text of a fixed width.

    A string is laid out already, and stays as it is.
    """
    console = Console(highlight=False, markup=False, emoji=False)
    if console.is_terminal and not isinstance(renderable, str):
        console.print(renderable)
    else:
        told = renderable if isinstance(renderable, str) else text(renderable, _WIDTH)
        console.file.write(told)


def text(renderable: RenderableType, width: int | None = None) -> str:
    """As plain text, no wider than a terminal."""
    if width is None:
        width = max(_WIDTH, Console().width)
    plain = Console(highlight=False, markup=False, emoji=False, width=width, color_system=None)
    with plain.capture() as captured:
        plain.print(renderable)
    lines = [line.rstrip() for line in captured.get().splitlines()]
    return "\n".join(lines).strip("\n") + "\n"


class _Rows(Table):
    """A table whose cells are shown as they are: no markup, no control characters."""

    def add_row(self, *cells: RenderableType | None, **options: Any) -> None:
        plain = (Text(printable(c)) if isinstance(c, str) else c for c in cells)
        super().add_row(*plain, **options)


def new_table(*columns: str, header: bool = True) -> Table:
    """A table whose cells may fold, without lines between its rows."""
    table = _Rows(box=box.SIMPLE_HEAD, show_header=header, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
