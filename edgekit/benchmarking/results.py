"""Results as JSON: the figures a script reads, and the raw samples they come from."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import Any

import msgspec

from edgekit.benchmarking import energy, sustained
from edgekit.benchmarking.statistics import LatencyFigures, figures
from edgekit.benchmarking.validity import why_slow
from edgekit.domain import BenchmarkResult
from edgekit.errors import InputError

_FIELDS = BenchmarkResult.__struct_fields__


def as_json(result: BenchmarkResult) -> dict[str, Any]:
    """Every field of the result, and the figures derived from its samples.

    The loads and first inferences are the median over the processes.
    """
    latency = latency_figures(result)
    tool = result.trtexec
    long = sustained.figures(result.sustained) if result.sustained else None
    return {
        **msgspec.to_builtins(result),
        "latency_ms": msgspec.to_builtins(latency),
        "energy_figures": msgspec.to_builtins(energy.figures(result.energy)),
        "sustained_ms": msgspec.to_builtins(long),
        "trtexec_ms": msgspec.to_builtins(figures(tool.processes_ns))
        if tool and tool.processes_ns
        else None,
        "throughput_per_s": 1e3 / latency.mean if latency.mean else None,
        "first_load_ms": median(p.first_load_ns for p in result.processes) / 1e6,
        "first_inference_ms": median(p.first_inference_ns for p in result.processes) / 1e6,
    }


def latency_figures(result: BenchmarkResult) -> LatencyFigures:
    """Those of all its samples; unstable, too, where the device was slower than it had been."""
    seen = result.environment
    slow = why_slow(seen.get("counting_ns"), seen.get("least_counting_ns"))
    return figures([process.samples_ns for process in result.processes], slow)


def save(result: BenchmarkResult, path: Path) -> None:
    """Write a result as JSON, in one step.

    Raises:
        InputError: the file cannot be written.
    """
    aside = path.with_name(f".{path.name}.part")
    try:
        aside.write_bytes(msgspec.json.encode(as_json(result)) + b"\n")
        aside.replace(path)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise InputError(f"cannot write {path}: {error.strerror}") from error


def load(path: Path) -> BenchmarkResult:
    """Read a saved result; derived figures are derived anew.

    Raises:
        InputError: no such file, or not a benchmark's result.
    """
    try:
        raw = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
        kept = {name: raw[name] for name in _FIELDS if name in raw}
        return msgspec.convert(kept, BenchmarkResult)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except msgspec.MsgspecError as error:
        raise InputError(
            f"{path} is not the result of a benchmark: {error}",
            "`edgekit bench BUNDLE --on TARGET -o RESULT.json` writes one",
        ) from error
