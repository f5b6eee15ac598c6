"""A project's builds and checks, for people and for programs; nothing heavy is imported."""

from __future__ import annotations

from typing import Any

import msgspec
from rich.console import RenderableType

from edgekit.domain import Range
from edgekit.gate import Check, Finding, Verdict
from edgekit.project import Pair
from edgekit.project_build import Outcome, ProjectBuilt, State
from edgekit.report.layout import new_table, size, text
from edgekit.report.text import printable
from edgekit.standings import Row, Standing

Document = dict[str, Any]
_STATES = {
    State.UNCHANGED: "unchanged",
    State.CACHED: "from the cache",
    State.BUILT: "built",
    State.FAILED: "failed",
}


def built(made: ProjectBuilt) -> Document:
    """A build: ``bundles`` and ``failures``."""
    return {
        "project": str(made.project.path),
        "bundles": [_bundle(outcome) for outcome in made.outcomes if outcome.locked],
        "failures": [_failure(outcome) for outcome in made.failures],
    }


def _bundle(outcome: Outcome) -> Document:
    return {
        **msgspec.to_builtins(outcome.pair),
        "path": str(outcome.path),
        "state": outcome.state.value,
        "missed": outcome.missed,
        **msgspec.to_builtins(outcome.locked),
    }


def _failure(outcome: Outcome) -> Document:
    error = outcome.error
    told = {"kind": error.kind, "message": error.message, "hint": error.hint} if error else {}
    return {**msgspec.to_builtins(outcome.pair), "error": told}


def shown_build(made: ProjectBuilt) -> str:
    """A line for each bundle, then what failed and why."""
    table = new_table("model", "target", "", "recipe", "size", "metric")
    for outcome in made.outcomes:
        pair, row = outcome.pair, outcome.locked
        said = (
            (row.recipe.label, size(row.size_bytes), _metric(row.metric, row.value)) if row else ()
        )
        table.add_row(pair.model, pair.target, _STATES[outcome.state], *said)
    missed = (
        f"{outcome.pair}: built without its budgets: {outcome.missed}"
        for outcome in made.outcomes
        if outcome.missed
    )
    failed = (
        f"{outcome.pair} failed: {outcome.error.message}"
        + (f"\n  {outcome.error.hint}" if outcome.error.hint else "")
        for outcome in made.failures
        if outcome.error
    )
    return _with_lines(table, (*missed, *failed))


def rebuilt(differing: dict[Pair, tuple[str, ...]]) -> Document:
    """A rebuild: of each bundle whether it is the lock's, and what differs."""
    return {
        "identical": not any(differing.values()),
        "bundles": [
            {**msgspec.to_builtins(pair), "identical": not found, "differences": list(found)}
            for pair, found in differing.items()
        ],
    }


def shown_rebuild(differing: dict[Pair, tuple[str, ...]]) -> str:
    """A line for each bundle, and one for each difference."""
    lines = []
    for pair, found in differing.items():
        lines.append(f"{pair}: {'differs from the lock' if found else 'the same, byte for byte'}")
        lines += [f"  {line}" for line in found]
    return printable("\n".join(lines)) + "\n"


def checked(found: Check) -> Document:
    """A check: ``verdict``, a row for each bundle, and every finding."""
    return {
        "verdict": "passed" if found.passed else "failed",
        "strict": found.strict,
        "rows": msgspec.to_builtins(found.rows),
        "findings": msgspec.to_builtins(found.findings),
    }


def shown_check(found: Check) -> str:
    """The bundles beside the baseline's, and a line for everything that is not well."""
    table = new_table(*COLUMNS)
    for row in found.rows:
        table.add_row(*cells(row))
    return _with_lines(table, lines(found))


def _with_lines(table: RenderableType, below: tuple[str, ...]) -> str:
    """A table, and sentences that stay on a line each, however long."""
    return text(table) + "".join(f"\n{printable(line)}" for line in below) + ("\n" if below else "")


COLUMNS = ("model", "target", "size", "latency", "metric", "operators")


def cells(row: Row) -> tuple[str, ...]:
    """A bundle's figures, each with how it changed."""
    return (
        row.pair.model,
        row.pair.target,
        _changed(row, lambda one: f"{one.locked.size_bytes / 1e6:.4g} MB", _growth(row)),
        _changed(row, _latency, _slowing(row)),
        _changed(row, lambda one: _metric(one.locked.metric, one.locked.value), _gain(row)),
        _changed(row, lambda one: str(sum(one.locked.operators.values())), _operators(row)),
    )


def lines(found: Check) -> tuple[str, ...]:
    """What is not well, a line each, and the verdict."""
    told = [one for one in found.findings if one.verdict is not Verdict.OK]
    said = (f"{mark(found, one)}: {one.said}" for one in told)
    return (*said, summary(found))


def mark(found: Check, one: Finding) -> str:
    """``FAILED`` where the check fails for it, else its verdict."""
    return "FAILED" if one in found.failures else one.verdict.value


def summary(found: Check) -> str:
    """``3 of 12 checks failed, 1 inconclusive``."""
    open_ = sum(one.verdict is Verdict.INCONCLUSIVE for one in found.findings)
    failed = sum(one.verdict is Verdict.FAILED for one in found.findings)
    told = f"{failed} of {len(found.findings)} checks failed" if failed else "no check failed"
    return told + (f", {open_} inconclusive" if open_ else "")


def _changed(row: Row, show: Any, change: str) -> str:
    now = show(row.now)
    return f"{now} ({change})" if change else str(now)


def _latency(standing: Standing) -> str:
    if standing.measured is None:
        return "-"
    taken = standing.measured.latency_ms
    return f"{taken.mid:.3g} ms ({taken.low:.3g} to {taken.high:.3g})"


def _metric(name: str, value: float) -> str:
    return f"{name} {value:.4g}"


def _growth(row: Row) -> str:
    if row.then is None:
        return ""
    return f"{row.now.locked.size_bytes / row.then.locked.size_bytes - 1:+.1%}"


def _slowing(row: Row) -> str:
    ratio: Range | None = row.latency_ratio
    if ratio is None:
        return ""
    return f"{ratio.mid - 1:+.1%}, {ratio.low - 1:+.1%} to {ratio.high - 1:+.1%}"


def _gain(row: Row) -> str:
    if row.then is None or row.then.locked.metric != row.now.locked.metric:
        return ""
    return f"{row.now.locked.value - row.then.locked.value:+.4g}"


def _operators(row: Row) -> str:
    if row.then is None:
        return ""
    now, then = row.now.locked.operators, row.then.locked.operators
    changes = {name: now.get(name, 0) - then.get(name, 0) for name in sorted({*now, *then})}
    return ", ".join(f"{n:+d} {name}" for name, n in changes.items() if n) or "the same"
