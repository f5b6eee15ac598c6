"""Measurements as a person reads them: one bundle's figures, and two bundles compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from edgekit.report.layout import milliseconds, new_table, size
from edgekit.report.text import printable

HEAVIEST = 10
_POINTS = 12
"""Of a curve: as many lines are read at a glance."""

_BAR = 30

Document = Mapping[str, Any]


def measured(document: Document) -> RenderableType:
    """A benchmark: the figures, how sure they are, and where they were taken."""
    table = new_table("", document["target"], header=False)
    for what, text in (*_circumstances(document), *_figures(document)):
        table.add_row(what, text)
    if document["latency_ms"]["unstable"]:
        table.add_row("unstable", document["latency_ms"]["unstable_why"])
    if not document["valid"]:
        table.add_row(Text("INVALID", style="bold red"), document["why_invalid"])
    if "error" in document:
        table.add_row(Text("NOT SAVED", style="bold red"), document["error"]["message"])
    return Group(table, *_curve(document), *_operations(document))


def _circumstances(document: Document) -> Iterator[tuple[str, str]]:
    device, runtime, golden = document["device"], document["runtime"], document["golden"]
    yield "device", f"{device['cpu_model']}, {device['cores']} cores, {device['machine']}"
    if mode := document["environment"]["after"].get("power_mode"):
        locked = document["environment"]["after"].get("clocks_locked")
        yield "power mode", mode + {True: ", clocks locked", None: ""}.get(locked, ", clocks free")
    yield "runtime", f"{runtime['name']} {runtime['version']}, threads {document['threads']}"
    if document["placement"] is not None:
        yield "runs on", _placement(document["placement"])
    off, vectors = golden["max_error"], golden["sample_count"]
    yield "golden", f"{vectors} vectors agree, off by {off:.3g}"


def _figures(document: Document) -> Iterator[tuple[str, str]]:
    latency = document["latency_ms"]
    low, high = latency["interval_p50"]
    yield (
        "median",
        f"{milliseconds(latency['p50'])} (95 %: {low:.3g} to {high:.3g}, n {latency['n']})",
    )
    p99 = latency["p99"]
    tail = milliseconds(p99) if p99 is not None else f"not given: {latency['p99_why']}"
    yield "p90, p99", f"{milliseconds(latency['p90'])}, {tail}"
    yield "throughput", f"{document['throughput_per_s']:.4g} per second"
    yield "first load", milliseconds(document["first_load_ms"])
    yield "first run", milliseconds(document["first_inference_ms"])
    peak = document["peak_memory_bytes"]
    yield "peak memory", size(peak) if peak else "not told by this system"
    yield "energy", _energy(document)
    if document["sustained_ms"] is not None:
        yield "sustained", _sustained(document["sustained_ms"])
    if document["trtexec"] is not None:
        yield "trtexec", _trtexec(document["trtexec"], document["trtexec_ms"])


def _placement(placement: Document) -> str:
    """What a runtime may choose from, and how many operations run on each processor."""
    operations = placement["operations"]
    if operations is None:
        return f"{placement['compute_units']}; this system does not tell which operation runs where"
    stretches = placement["partitions"] or {}
    counts = (
        f"{n} on {unit.replace('_', ' ')}" + _stretches(stretches.get(unit))
        for unit, n in operations.items()
        if n
    )
    return f"{placement['compute_units']}; operations: {', '.join(counts) or 'none'}"


def _stretches(count: int | None) -> str:
    return "" if count is None else f" in {count} stretch{'' if count == 1 else 'es'}"


def _energy(document: Document) -> str:
    energy, found = document["energy"], document["energy_figures"]
    if energy is None:
        return "not measured"
    if found is None:
        return f"not measured: {energy['why']}"
    source = (
        f"{energy['source']}, {energy['rail']}, {found['readings_per_s']:.3g} readings a second"
    )
    if document["energy_mj"] is None:
        return f"no more than idling, to {found['uncertainty']:.2g} mJ ({source})"
    estimate = ", an estimate" if energy["estimate"] else ""
    watts = f"{found['busy_watts']:.3g} W for {found['seconds']:.0f} s"
    return (
        f"{found['mj']:.3g} mJ beyond idling, to {found['uncertainty']:.2g} ({source}{estimate}; "
        f"{watts}, idling {found['idle_watts']:.3g})"
    )


def _sustained(found: Document) -> str:
    told = [
        f"{milliseconds(found['settled'])} after {found['minutes']:.3g} minutes, "
        f"{found['slowdown']:.2f} of the first minute's {milliseconds(found['first'])}"
        if found["minutes"] >= _WHOLE_MINUTES
        else f"{milliseconds(found['settled'])} at the end of {60 * found['minutes']:.0f} s, "
        f"{found['slowdown']:.2f} of the {milliseconds(found['first'])} at their beginning"
    ]
    if not found["steady"]:
        told.append("not settled yet")
    if found["throttled"]:
        told.append(f"throttled {found['throttled']}")
    elif found["hottest_celsius"] is None:
        told.append("no sensor of heat")
    else:
        told.append(f"not throttled, at most {found['hottest_celsius']:.0f} degrees")
    return "; ".join(told)


def _trtexec(told: Document, found: Document | None) -> str:
    """What NVIDIA's own tool measured, of an engine and by a clock of its own."""
    if found is None:
        return f"not measured: {told['why']}"
    low, high = found["interval_p50"]
    built = "built before" if told["built_s"] is None else f"built in {told['built_s']:.0f} s"
    return (
        f"{milliseconds(found['p50'])} (95 %: {low:.3g} to {high:.3g}, n {found['n']}), p90 "
        f"{milliseconds(found['p90'])}; TensorRT {told['version']}, its own engine {built}, golden "
        f"vectors off by {told['max_error']:.3g}"
    )


_WHOLE_MINUTES = 4.0
"""From so long on the first minute is the first minute, and not a quarter of the run."""


def _curve(document: Document) -> Iterator[RenderableType]:
    """A long run, a dozen points of it."""
    if document["sustained"] is None:
        return
    windows = document["sustained"]["windows"]
    shown = windows[:: max(1, -(-len(windows) // _POINTS))]
    slowest = max(window["median_ns"] for window in shown)
    table = new_table("after", "median", "", "degrees", "clock")
    for window in shown:
        bar = "█" * round(_BAR * window["median_ns"] / slowest)
        heat, clock = window["temperature_celsius"], window["frequency_khz"]
        table.add_row(
            f"{window['at_s']:.3g} s",
            milliseconds(window["median_ns"] / 1e6),
            bar,
            "-" if heat is None else f"{heat:.0f}",
            "-" if clock is None else f"{clock / 1e3:.0f} MHz",
        )
    yield Text("The long run")
    yield table


def _operations(document: Document) -> Iterator[RenderableType]:
    """The operations that take longest."""
    profile = document["profile"]
    if profile is None:
        return
    if not profile["operations"]:
        yield Text(f"No profile: {printable(profile['why'])}")
        return
    total = sum(one["median_ns"] for one in profile["operations"])
    table = new_table("operation", "kind", "on", "time", "share")
    for one in sorted(profile["operations"], key=lambda one: -one["median_ns"])[:HEAVIEST]:
        time = milliseconds(one["median_ns"] / 1e6)
        share = f"{one['median_ns'] / total:.1%}" if total else "-"
        table.add_row(one["name"], one["kind"], one["where"], time, share)
    yield Text(f"The longest of {len(profile['operations'])} operations")
    yield table


def compared(document: Document) -> RenderableType:
    """A comparison: both medians, the ratio with its interval, the verdict in words."""
    table = Table("bundle", "runtime", "median", box=box.SIMPLE, title=document["target"])
    for row in document["rows"]:
        runtime, median = row["runtime"], milliseconds(row["latency_ms"]["p50"])
        table.add_row(row["bundle"], f"{runtime['name']} {runtime['version']}", median)
    return Group(table, *(Text(printable(line)) for line in _verdict(document)))


_SAID = {
    "faster": "{second} is faster",
    "slower": "{second} is slower",
    "same": "there is no difference that matters",
    "inconclusive": "undecided",
}


def _verdict(document: Document) -> Iterator[str]:
    ratio, second = document["ratio"], document["rows"][1]["bundle"]
    yield (
        f"{_SAID[document['verdict']].format(second=second)}: it takes {ratio['value']:.3f} of the "
        f"other's time (99 %: {ratio['low']:.3f} to {ratio['high']:.3f}, {ratio['pairs']} pairs)"
    )
    more = ratio["more_pairs"]
    if document["verdict"] == "inconclusive":
        about = f"about {more} more pairs" if more else "more than a thousand more pairs"
        yield f"{about} would decide (`--pairs`)"
    yield from (f"disturbed: {why}" for why in document["doubts"])
