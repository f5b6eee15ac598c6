"""Results as the JSON documents that ``--json`` prints: the keys scripts rely on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from edgekit import paired
from edgekit.benchmarking import figures
from edgekit.comparison import Comparison
from edgekit.devices.survey import Survey
from edgekit.domain import (
    BenchmarkResult,
    Calibration,
    Candidate,
    Deployment,
    DeviceProfile,
    Explanation,
    Manifest,
    Plan,
    Recipe,
    Rejection,
    ValidationReport,
)
from edgekit.drafting import Draft
from edgekit.errors import EdgekitError
from edgekit.exporting import Exported
from edgekit.pipeline import Built, Inspection

Document = dict[str, Any]


def error(raised: EdgekitError) -> Document:
    """An error: ``error: {kind, message, hint}``."""
    fields = {"kind": raised.kind, "message": raised.message, "hint": raised.hint}
    return {"error": fields}


def device(profile: DeviceProfile) -> Document:
    """Everything a profile says."""
    return {**plain(profile)}


def devices(profiles: tuple[DeviceProfile, ...]) -> Document:
    """A line for each profile."""
    return {
        "devices": [
            {
                "name": profile.name,
                "title": profile.title,
                "family": profile.family.value,
                "memory_mib": profile.memory.total_mib,
                "formats": [f.value for f in profile.formats],
                "accelerators": [a.name for a in profile.accelerators],
            }
            for profile in profiles
        ]
    }


def surveyed(found: Survey) -> Document:
    """What a device said that it is."""
    return {**plain(found)}


def drafted(made: Draft, path: Path) -> Document:
    """A drafted profile, where it is, what it rests on, and what nobody measured."""
    return {
        "path": str(path),
        "base": made.base,
        "why": made.why,
        "estimates": list(made.estimates),
        "profile": plain(made.profile),
    }


def calibrated(found: Calibration, path: Path) -> Document:
    """A calibration, and where it is kept."""
    return {"path": str(path), **plain(found)}


def inspection(found: Inspection) -> Document:
    """A model at a glance; sizes in bytes."""
    return {
        **plain(found.summary),
        "operators": found.summary.operators,
        "notes": list(found.notes),
        "clean_up": {
            "before": plain(found.written),
            "after": plain(found.cleaned),
            "passes": plain(found.passes),
        },
        "targets": {
            target.value: {"obstacles": plain(obstacles)}
            for target, obstacles in found.obstacles.items()
        },
    }


def plan(made: Plan, explanation: Explanation) -> Document:
    """A plan: ``device``, ``goal``, ``candidates``, ``rejected`` and ``explanation``."""
    return {
        "model_sha256": made.model_sha256,
        "device": made.device,
        "goal": plain(made.goal),
        "basis": made.basis,
        "candidates": [_candidate(candidate) for candidate in made.candidates],
        "rejected": [_rejection(rejection) for rejection in made.rejected],
        "explanation": {
            **plain(explanation),
            "alternatives": [
                {**plain(other), "recipe": recipe(other.recipe)}
                for other in explanation.alternatives
            ],
        },
    }


def built(made: Built) -> Document:
    """A build: ``bundle``, ``artifact``, ``recipe``, ``validation``, ``attempts``, ..."""
    manifest, artifact = made.manifest, made.manifest.artifact
    return {
        "bundle": str(made.path),
        "bundle_sha256": made.sha256,
        "device": manifest.device,
        "artifact": {
            "format": artifact.format.value,
            "path": artifact.path,
            "size_bytes": artifact.size_bytes,
            "sha256": artifact.sha256,
            "inputs": plain(artifact.inputs),
            "outputs": plain(artifact.outputs),
        },
        "recipe": recipe(manifest.recipe),
        "validation": {
            **plain(manifest.validation),
            "verdict": manifest.validation.verdict,
        },
        "attempts": [
            {**plain(attempt), "recipe": recipe(attempt.recipe)} for attempt in manifest.attempts
        ],
        "measured": [
            {**plain(measured), "recipe": recipe(measured.recipe)} for measured in manifest.measured
        ],
        "pruned": plain(manifest.pruned),
        "rounded": plain(manifest.rounded),
        "balanced": plain(manifest.balanced),
        "sensitivity": plain(manifest.sensitivity),
        "notes": list(notes(manifest)),
        "elapsed_s": round(made.elapsed_s, 3),
        "cached": made.cached,
    }


def notes(manifest: Manifest) -> tuple[str, ...]:
    """What whoever built it should know: what was not tried, and what is not settled."""
    plan_ = manifest.plan
    untried = [r.recipe.label for r in plan_.rejected if "--calibration" in r.reason]
    without = f"not tried for want of calibration data: {', '.join(untried)}" if untried else ""
    chosen = (c for c in plan_.candidates if c.recipe == manifest.recipe.planned)
    open_ = [reason for c in chosen for reason in c.reasons if "inside the interval" in reason]
    said = (without, *manifest.data_notes, _unsettled(manifest.validation), *open_)
    return tuple(note for note in said if note)


def _unsettled(report: ValidationReport) -> str:
    """Whether the evaluation set is too small to tell; empty when it is not."""
    if report.settled or report.drop_interval is None:
        return ""
    low, high = report.drop_interval
    enough = paired.needed(report.drop_interval, report.max_drop, report.sample_count)
    more = f"about {enough} would" if enough else "more would hardly help, so near it is"
    return (
        f"{report.sample_count} samples cannot tell whether {report.metric} falls by more than "
        f"{report.max_drop:g}: by {low:.2g} to {high:.2g}, at 95 % confidence; {more}"
    )


def verified(path: str, sha256: str, manifest: Manifest) -> Document:
    """A bundle whose every digest is right."""
    return {
        "bundle": path,
        "bundle_sha256": sha256,
        "verified": True,
        "files": len(manifest.digests) + 1,
        "model": manifest.model_name,
        "device": manifest.device,
        "recipe": recipe(manifest.recipe),
    }


def exported(made: Exported) -> Document:
    """An export: where it lies, and the sha256 of its files."""
    return {"export": str(made.path), "size_bytes": made.size_bytes, **plain(made.record)}


def pushed(deployment: Deployment) -> Document:
    """A push."""
    return {**plain(deployment)}


def compared(first: Path, second: Path, found: Comparison) -> Document:
    """A comparison: the ``verdict`` on the second bundle, ``ratio``, and a row for each bundle."""
    turns = ((first, found.first), (second, found.second))
    return {
        "target": found.first[0].target,
        "device": plain(found.first[0].device),
        "verdict": found.ratio.verdict.value,
        "ratio": plain(found.ratio),
        "rows": [_turns(path, results) for path, results in turns],
        "doubts": list(found.doubts),
    }


def _turns(path: Path, results: tuple[BenchmarkResult, ...]) -> Document:
    samples = [process.samples_ns for turn in results for process in turn.processes]
    return {
        "bundle": str(path),
        "bundle_sha256": results[0].bundle_sha256,
        "runtime": plain(results[0].runtime),
        "latency_ms": plain(figures(samples)),
    }


def recipe(chosen: Recipe) -> Document:
    """A recipe, with its short names."""
    return {**plain(chosen), "precision": chosen.precision, "label": chosen.label}


def _candidate(candidate: Candidate) -> Document:
    return {
        "recipe": recipe(candidate.recipe),
        "prediction": plain(candidate.prediction),
        "reasons": list(candidate.reasons),
        "pareto": candidate.pareto,
    }


def _rejection(rejection: Rejection) -> Document:
    return {
        "recipe": recipe(rejection.recipe),
        "prediction": plain(rejection.prediction),
        "reason": rejection.reason,
    }


def plain(value: Any) -> Any:
    """A value as JSON's own types."""
    return msgspec.to_builtins(value, enc_hook=str)
