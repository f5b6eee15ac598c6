"""Bundles as they stand: what the lock says of each, what was measured, and the same before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from msgspec import Struct

from edgekit.domain import BenchmarkResult, Range
from edgekit.errors import InputError
from edgekit.lock import Lock, Locked
from edgekit.project import Pair


class Measured(Struct, frozen=True, kw_only=True):
    """What the results say of one bundle.

    Attributes:
        latency_ms: the median of all runs within its 95 % interval.
        medians_ns: of each process.
        device: what it was measured on, in words; ``fingerprint`` is the same device's always.
    """

    latency_ms: Range
    medians_ns: tuple[float, ...]
    peak_memory_bytes: int | None
    energy_mj: float | None
    device: str
    fingerprint: str


class Standing(Struct, frozen=True, kw_only=True):
    """A bundle as it is; ``measured`` is ``None`` where no result is of it."""

    locked: Locked
    measured: Measured | None = None
    doubts: tuple[str, ...] = ()


class Row(Struct, frozen=True, kw_only=True):
    """A bundle beside that of the baseline, where there is one.

    Attributes:
        latency_ratio: now over then, within its 99 % interval; ``None``: cannot be told.
    """

    pair: Pair
    now: Standing
    then: Standing | None = None
    latency_ratio: Range | None = None

    @property
    def same_artifact(self) -> bool:
        """Whether the baseline's is the same to the last byte."""
        return self.then is not None and self.now.locked.artifact == self.then.locked.artifact


def row(pair: Pair, now: Standing, then: Standing | None) -> Row:
    """A bundle beside that of the baseline."""
    ratio = _ratio(now.measured, then.measured) if then else None
    return Row(pair=pair, now=now, then=then, latency_ratio=ratio)


def _ratio(now: Measured | None, then: Measured | None) -> Range | None:
    if now is None or then is None or now.fingerprint != then.fingerprint:
        return None
    from edgekit.benchmarking import ratios

    found = ratios.unpaired(then.medians_ns, now.medians_ns)
    return Range(found.low, found.value, found.high) if found else None


def stood(
    then: Lock | None, pair: Pair, results: Mapping[str, list[BenchmarkResult]]
) -> Standing | None:
    """As ``standing``, of the baseline's lock; ``None``: it has no such bundle."""
    locked = then.bundles.get(pair.name) if then else None
    return standing(locked, results) if locked else None


def standing(locked: Locked, results: Mapping[str, list[BenchmarkResult]]) -> Standing:
    """A bundle with the results that are of it; those that were disturbed leave doubts only."""
    found = results.get(locked.bundle, [])
    valid = [result for result in found if result.valid]
    doubts = {result.why_invalid or "disturbed" for result in found if not result.valid}
    return Standing(
        locked=locked,
        measured=_pooled(valid) if valid else None,
        doubts=tuple(sorted(doubts)),
    )


def _pooled(results: list[BenchmarkResult]) -> Measured:
    """All that was measured as the last result was: there, and on that runtime."""
    from edgekit.benchmarking import figures

    last = _setup(results[-1])
    same = [result for result in results if _setup(result) == last]
    processes = [process.samples_ns for result in same for process in result.processes]
    latency = figures(processes)
    peaks = [r.peak_memory_bytes for r in same if r.peak_memory_bytes is not None]
    energies = [r.energy_mj for r in same if r.energy_mj is not None]
    device, runtime = same[-1].device, same[-1].runtime
    return Measured(
        latency_ms=Range(latency.interval_p50[0], latency.p50, latency.interval_p50[1]),
        medians_ns=tuple(float(median(samples)) for samples in processes),
        peak_memory_bytes=max(peaks, default=None),
        energy_mj=median(energies) if energies else None,
        device=f"{device.cpu_model}, {runtime.name} {runtime.version}",
        fingerprint=device.fingerprint,
    )


def _setup(result: BenchmarkResult) -> tuple[str, str, str, int]:
    """What makes two results of one bundle two samples of the same."""
    runtime = result.runtime
    return result.device.fingerprint, runtime.module, runtime.version, result.threads


def by_bundle(paths: Sequence[Path]) -> dict[str, list[BenchmarkResult]]:
    """Every result, in the order of the files' names, by the bundle that it is of.

    Args:
        paths: files that ``edgekit bench -o`` wrote, or folders of them.

    Raises:
        InputError: no such file, or one that is no result.
    """
    if not paths:
        return {}
    from edgekit.benchmarking import load

    found: dict[str, list[BenchmarkResult]] = {}
    for path in paths:
        if not path.exists():
            raise InputError(f"no such results: {path}", "`edgekit bench -o` writes them")
        for file in sorted(path.rglob("*.json")) if path.is_dir() else [path]:
            result = load(file)
            found.setdefault(result.bundle_sha256, []).append(result)
    return found
