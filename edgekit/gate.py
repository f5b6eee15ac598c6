"""The gate of a build: budgets and a baseline against what was built and what was measured.

Sizes and metrics are exact and are compared as they are. A latency is known within an interval
only: it fails when all of the interval lies beyond what is allowed, and is inconclusive where
the limit lies inside.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import Enum
from pathlib import Path
from typing import NamedTuple

from msgspec import Struct

from edgekit import lock, standings
from edgekit.domain import Range
from edgekit.errors import ProjectError
from edgekit.lock import Lock, Locked
from edgekit.project import Pair, Project, Regressions
from edgekit.standings import Measured, Row, Standing

FOLDER = "results"
_LOWER_IS_BETTER = ("mae",)
_ROUNDING = 1e-9
"""0.928 - 0.918 is not exactly 0.01."""


class Verdict(Enum):
    """How one thing stands."""

    OK = "ok"
    FAILED = "failed"
    INCONCLUSIVE = "inconclusive"


class Finding(Struct, frozen=True, kw_only=True):
    """One thing that was checked.

    Attributes:
        what: ``lock``, ``size``, ``accuracy``, ``latency``, ``memory`` or ``energy``.
        against: ``budget``, ``baseline`` or ``sources``.
        value: what was found, in ``unit``; ``limit`` is what is allowed at most (of accuracy: at
            least), in the same unit.
        said: all of it in a sentence that stands alone.
    """

    pair: Pair
    what: str
    against: str
    verdict: Verdict
    said: str
    value: float | None = None
    limit: float | None = None
    unit: str = ""


class Check(Struct, frozen=True, kw_only=True):
    """Everything that was checked.

    Attributes:
        strict: what is inconclusive fails, too.
    """

    rows: tuple[Row, ...]
    findings: tuple[Finding, ...]
    strict: bool = False

    @property
    def failures(self) -> tuple[Finding, ...]:
        """What the check fails for."""
        failing = {Verdict.FAILED} | ({Verdict.INCONCLUSIVE} if self.strict else set())
        return tuple(finding for finding in self.findings if finding.verdict in failing)

    @property
    def passed(self) -> bool:
        return not self.failures


def check(
    project: Project,
    *,
    results: Sequence[Path] = (),
    baseline: Path | None = None,
    baseline_results: Sequence[Path] = (),
    strict: bool = False,
) -> Check:
    """Hold what was built and measured against the budgets and against a baseline.

    Args:
        project: as ``load_project`` gave it.
        results: files that ``edgekit bench -o`` wrote, or folders of them; empty: the folder
            ``results`` beside the declaration, if it is there. A result counts for the bundle
            that it is of.
        baseline: the lock of another state of the project.
        baseline_results: the results of that state's bundles.
        strict: what is inconclusive fails, too.

    Raises:
        ProjectError: there is no lock, or a lock that cannot be read.
        InputError: a result that is none.
    """
    now = _required(lock.path_of(project), "`edgekit build` writes it")
    then = _required(baseline, "name the lock of another branch") if baseline else None
    default = project.folder / FOLDER
    here = standings.by_bundle(results or ([default] if default.is_dir() else []))
    # The results of both may lie in one folder: each counts for the bundle that it is of.
    there = {**here, **standings.by_bundle(baseline_results)}
    rows = tuple(
        standings.row(
            pair,
            standings.standing(now.bundles[pair.name], here),
            standings.stood(then, pair, there),
        )
        for pair in project.pairs
        if pair.name in now.bundles
    )
    findings = (
        *_stale(project, now),
        *(f for row in rows for f in _within_budget(project, row.pair, row.now)),
        *(f for row in rows for f in _against_baseline(project.declared.regressions, row)),
    )
    return Check(rows=rows, findings=findings, strict=strict)


def _required(path: Path, hint: str) -> Lock:
    found = lock.read(path)
    if found is None:
        raise ProjectError(f"no such lock: {path}", hint)
    return found


def _stale(project: Project, now: Lock) -> Iterator[Finding]:
    """The lock against the files it is a lock of; the tools may differ where the gate stands."""
    found = lock.inputs(project)
    for pair in project.pairs:
        why = [] if pair.name in now.bundles else ["it was not built"]
        for name, table in found.of(pair).items():
            if name.startswith(("models.", "targets.")):
                why += lock.differences(now.inputs.of(pair)[name], table, name)
        if why:
            yield Finding(
                pair=pair,
                what="lock",
                against="sources",
                verdict=Verdict.FAILED,
                said=f"{pair}: the lock is out of date: {'; '.join(why)}",
            )


class _Budgeted(NamedTuple):
    """A budget: its key in the file, what it is of, and the unit of both."""

    key: str
    what: str
    unit: str


_BUDGETS = (
    _Budgeted("max_size_mb", "size", "MB"),
    _Budgeted("max_latency_ms", "latency", "ms"),
    _Budgeted("max_memory_mb", "memory", "MB"),
    _Budgeted("max_energy_mj", "energy", "mJ"),
)


def _value(standing: Standing, what: str) -> Range | None:
    """What a budget is of; an exact value is a range of no width."""
    if what == "size":
        return _exact(standing.locked.size_bytes / 1e6)
    seen = standing.measured
    if seen is None:
        return None
    if what == "latency":
        return seen.latency_ms
    if what == "memory":
        return None if seen.peak_memory_bytes is None else _exact(seen.peak_memory_bytes / 1e6)
    return None if seen.energy_mj is None else _exact(seen.energy_mj)


def _exact(value: float) -> Range:
    return Range(value, value, value)


def _within_budget(project: Project, pair: Pair, now: Standing) -> Iterator[Finding]:
    budget = project.budget(pair)
    for key, what, unit in _BUDGETS:
        limit = getattr(budget, key)
        if limit is not None:
            yield _budgeted(pair, what, unit, _value(now, what), limit, now.doubts)
    if budget.accuracy is not None:
        yield _accurate(pair, now.locked, budget.accuracy)


def _budgeted(
    pair: Pair, what: str, unit: str, value: Range | None, limit: float, doubts: tuple[str, ...]
) -> Finding:
    if value is None:
        why = f": {'; '.join(doubts)}" if doubts else ""
        said = f"{pair}: {what} was not measured{why}; the budget is {limit:.4g} {unit}"
        verdict, mid = Verdict.INCONCLUSIVE, None
    else:
        verdict, mid = _verdict(value, limit), value.mid
        over = f"{abs(mid / limit - 1):.1%} {'over' if mid > limit else 'under'} the budget"
        said = f"{pair}: {what} {_shown(value)} {unit}, {over} of {limit:.4g} {unit}"
    return Finding(
        pair=pair, what=what, against="budget", verdict=verdict, said=said,
        value=mid, limit=limit, unit=unit,
    )  # fmt: skip


def _verdict(value: Range, limit: float) -> Verdict:
    if value.low > limit * (1 + _ROUNDING):
        return Verdict.FAILED
    return Verdict.OK if value.high <= limit * (1 + _ROUNDING) else Verdict.INCONCLUSIVE


def _shown(value: Range) -> str:
    exact = value.low == value.high
    return f"{value.mid:.4g}" + ("" if exact else f" ({value.low:.4g} to {value.high:.4g})")


def _loss(metric: str, now: float, then: float) -> float:
    """How much worse a metric got, in its own unit."""
    return now - then if metric in _LOWER_IS_BETTER else then - now


def _accurate(pair: Pair, now: Locked, limit: float) -> Finding:
    loss = _loss(now.metric, now.value, limit)
    failed = loss > _ROUNDING
    how = f"{abs(loss):.4g} {'worse' if failed else 'better'} than the budget"
    return Finding(
        pair=pair,
        what="accuracy",
        against="budget",
        verdict=Verdict.FAILED if failed else Verdict.OK,
        said=f"{pair}: {now.metric} {now.value:.4g}, {how} of {limit:.4g}",
        value=now.value,
        limit=limit,
        unit=now.metric,
    )


def _against_baseline(allowed: Regressions, row: Row) -> Iterator[Finding]:
    if row.then is None:
        return
    now, then = row.now.locked, row.then.locked
    yield _grown(row.pair, now, then, allowed.size)
    if (now.metric, now.sample_count) == (then.metric, then.sample_count):
        yield _lost(row.pair, now, then, allowed.accuracy)
    else:
        yield _not_comparable(row.pair, now, then)
    if row.now.measured and row.then.measured:
        yield _slowed(row, row.now.measured, row.then.measured, allowed.latency)


def _grown(pair: Pair, now: Locked, then: Locked, allowed: float) -> Finding:
    change, limit = now.size_bytes / then.size_bytes - 1, then.size_bytes * (1 + allowed)
    return Finding(
        pair=pair,
        what="size",
        against="baseline",
        verdict=_verdict(_exact(now.size_bytes), limit),
        said=f"{pair}: size {now.size_bytes / 1e6:.4g} MB, {change:+.1%} against the baseline's "
        f"{then.size_bytes / 1e6:.4g} MB ({allowed:.0%} more is allowed)",
        value=now.size_bytes / 1e6,
        limit=limit / 1e6,
        unit="MB",
    )


def _lost(pair: Pair, now: Locked, then: Locked, allowed: float) -> Finding:
    loss = _loss(now.metric, now.value, then.value)
    sign = 1 if now.metric in _LOWER_IS_BETTER else -1
    return Finding(
        pair=pair,
        what="accuracy",
        against="baseline",
        verdict=Verdict.FAILED if loss > allowed + _ROUNDING else Verdict.OK,
        said=f"{pair}: {now.metric} {now.value:.4g}, {now.value - then.value:+.4g} against the "
        f"baseline's {then.value:.4g} ({allowed:g} worse is allowed)",
        value=now.value,
        limit=then.value + sign * allowed,
        unit=now.metric,
    )


def _not_comparable(pair: Pair, now: Locked, then: Locked) -> Finding:
    return Finding(
        pair=pair,
        what="accuracy",
        against="baseline",
        verdict=Verdict.INCONCLUSIVE,
        said=f"{pair}: {now.metric} on {now.sample_count} samples cannot be compared with the "
        f"baseline's {then.metric} on {then.sample_count}",
        value=now.value,
        unit=now.metric,
    )


def _slowed(row: Row, now: Measured, then: Measured, allowed: float) -> Finding:
    ratio = row.latency_ratio
    told = f"{row.pair}: latency {_shown(now.latency_ms)} ms"
    was = f"the baseline's {_shown(then.latency_ms)} ms"
    if ratio is None:
        verdict = Verdict.INCONCLUSIVE
        same = now.fingerprint == then.fingerprint
        why = "too few processes were measured" if same else f"that was on {then.device}"
        said = f"{told}, cannot be compared with {was}: {why}"
    else:
        verdict = _verdict(ratio, 1 + allowed)
        low, mid, high = (f"{part - 1:+.1%}" for part in (ratio.low, ratio.mid, ratio.high))
        said = f"{told}, {mid} ({low} to {high}) against {was} ({allowed:.0%} more is allowed)"
    if verdict is Verdict.FAILED and row.same_artifact:
        verdict = Verdict.INCONCLUSIVE
        said += "; the artifact is the same to the last byte: it is the device that changed"
    return Finding(
        pair=row.pair, what="latency", against="baseline", verdict=verdict, said=said,
        value=now.latency_ms.mid, limit=then.latency_ms.mid * (1 + allowed), unit="ms",
    )  # fmt: skip
