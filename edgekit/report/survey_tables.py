"""What a device is, and the profile drafted of it, as a person reads them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rich.console import RenderableType
from rich.text import Text

from edgekit.devices.survey import Survey
from edgekit.domain import MIB, DeviceFacts
from edgekit.drafting import Draft
from edgekit.report.layout import new_table


def surveyed(found: Survey) -> RenderableType:
    """What a device said that it is, a line for each thing."""
    table = new_table("", found.board or found.target, header=False)
    table.add_row("system", ", ".join(filter(None, (found.os, found.system))))
    for cluster in found.clusters:
        clock = f"{cluster.max_clock_mhz:g} MHz" if cluster.max_clock_mhz else "an unknown clock"
        names = " ".join(e.value for e in cluster.extensions) or "no vector extensions"
        core = cluster.core or "of an unknown part"
        table.add_row("cores", f"{cluster.cores} x {core} at {clock} ({names})")
    memory = found.memory_total_bytes
    table.add_row("memory", f"{memory / MIB:.0f} MiB" if memory else "unknown")
    if found.storage_total_bytes and found.storage_free_bytes is not None:
        free, total = found.storage_free_bytes, found.storage_total_bytes
        table.add_row("storage", f"{free / 1e9:.1f} of {total / 1e9:.1f} GB free")
    for what, names_ in (
        ("accelerators", found.accelerators),
        ("sensors", found.sensors),
        ("tools", found.tools),
    ):
        table.add_row(what, ", ".join(names_) or "none found")
    if told := ", ".join(_phone(found)):
        table.add_row("phone", told)
    for python in found.pythons:
        table.add_row("python", _python(python))
    if not found.pythons:
        problem = found.python_problem or "none; the runner needs Python 3.8 or newer"
        table.add_row("python", problem)
    return table


def _phone(found: Survey) -> Iterator[str]:
    """What a phone says of its battery and its heat, as far as it does."""
    battery, heat = found.battery_state, found.heat
    if battery and battery.temperature_c is not None:
        yield f"battery at {battery.temperature_c:g} °C"
    if battery and battery.level is not None:
        yield f"{battery.level:.0%} full"
    if battery and battery.powered:
        yield "powered"
    if heat and heat.skin_c is not None:
        yield f"skin at {heat.skin_c:g} °C"
    if heat and heat.status:
        yield f"thermal status {heat.status}"


def _python(python: DeviceFacts) -> str:
    numpy = f"NumPy {python.numpy_version}" if python.numpy_version else "no NumPy"
    runtimes = ", ".join(f"{r.name} {r.version}" for r in python.runtimes) or "no runtime"
    return f"{python.python_version} ({python.python}), {python.libc}: {numpy}, {runtimes}"


def drafted(made: Draft, path: Path) -> RenderableType:
    """A drafted profile: what it rests on, and what to look at."""
    table = new_table("", made.profile.name, header=False)
    table.add_row("profile", str(path))
    table.add_row("drafted after", f"{made.base}: {made.why}")
    for key in made.estimates:
        table.add_row("estimate", Text(f"{key}: {made.profile.sources[key]}", style="dim"))
    return table
