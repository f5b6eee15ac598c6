"""Compression that holds its accuracy, as a table beside what the tools do by default.

Static int8 for LiteRT and ONNX Runtime, weights in four bits, the time of a sensitivity run,
and pruning without training. The models for internal tests lie beside the checkout.

    python benchmarks/compression.py [--only int8 four-bits pruning] [--samples 1000] [--rounds 9]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import _defaults
import _pruning
from _common import Goal, finish
from _subjects import ASSETS, Subject, prepared, subjects

from edgekit import datasets, sources, validation
from edgekit.compression import storing
from edgekit.domain import Artifact, Format, Mode, Quantization, Recipe
from edgekit.formats import FORMATS, Job
from edgekit.sources import SourceModel

Figures = dict[str, Any]
Section = tuple[Figures, list[Goal]]

LABELLED = (
    *("resnet8", "resnet20", "dscnn", "mobilenetv1-0.25"),
    *("mnist-cnn", "mnist-lstm", "hand-mlp"),
)
INT8 = {
    Format.LITERT: Quantization(mode=Mode.STATIC, weights="int8", activations="int8"),
    Format.ONNXRUNTIME: Quantization(mode=Mode.STATIC, weights="int8", activations="uint8"),
}
INT4 = Quantization(mode=Mode.WEIGHT_ONLY, weights="int4", activations="float32")
SENSITIVE, SQUEEZED = "resnet20", "resnet8"
ROUNDING = 1e-9


class Bench:
    """A model with its data, in a folder of its own."""

    def __init__(self, subject: Subject, folder: Path, samples: int) -> None:
        self.folder = folder
        self.source = sources.load(subject.model, folder)
        self.calibration, evaluation = (
            datasets.load(prepared(path, subject.change, folder, samples), self.source.inputs)
            for path in (subject.calibration, subject.evaluation)
            if path
        )
        self.reference = validation.reference(self.source, evaluation, None, folder)

    def job(
        self, name: str, format_: Format, how: Quantization, source: SourceModel | None = None
    ) -> Job:
        """Into a folder of that name; of the model itself, or of what was made of it."""
        folder = self.folder / name
        folder.mkdir()
        return Job(
            source=source or self.source,
            recipe=Recipe(format=format_, runtime=FORMATS[format_].host_runtime, quantization=how),
            folder=folder,
            calibration=self.calibration,
        )

    def judged(self, job: Job, make: Callable[[Job], Artifact]) -> Figures:
        """Top-1 of what is made, what it loses, and its size."""
        spec = FORMATS[job.recipe.format]
        artifact = make(job)
        report, _ = validation.validate(
            self.reference,
            artifact,
            job.folder,
            spec.host_runtime,
            infer=spec.infer,
            metric=validation.choose_metric(None, self.reference.labels),
            max_drop=1,
        )
        return {
            "float": report.baseline,
            "top1": report.value,
            "lost": report.drop,
            "lost_interval": report.drop_interval,
            "bytes": artifact.size_bytes,
        }


def benches(names: tuple[str, ...], samples: int) -> Iterator[tuple[str, Bench]]:
    """Those of the models that are at hand."""
    for name, subject in subjects().items():
        if name in names:
            with tempfile.TemporaryDirectory(prefix="edgekit-compression-") as folder:
                yield name, Bench(subject, Path(folder), samples)


def int8(asked: argparse.Namespace) -> Section:
    """Static int8 within half a point of float in both formats; and what tools do unasked."""
    figures: Figures = {}
    goals: list[Goal] = []
    for name, bench in benches(LABELLED, asked.samples):
        figures[name] = {}
        for format_, how in INT8.items():
            label = f"{name} {format_.value}"
            mine = bench.judged(bench.job(format_.value, format_, how), FORMATS[format_].make)
            its = bench.judged(
                bench.job(f"{format_.value}-default", format_, how),
                lambda job: _defaults.quantized(job, job.recipe.format),
            )
            figures[name][format_.value] = {"edgekit": mine, "tool": its}
            goals.append(Goal(f"{label}: top-1 lost", mine["lost"], 0.005 + ROUNDING))
            if name == SENSITIVE:
                seconds = _sensitivity_s(bench.job(f"{format_.value}-nodes", format_, how))
                figures[name][format_.value]["sensitivity_s"] = seconds
                goals.append(Goal(f"{label}: seconds of a sensitivity run", seconds, 120))
    return figures, goals


def _sensitivity_s(job: Job) -> float:
    find = FORMATS[job.recipe.format].sensitivity
    started = time.monotonic()
    if find:
        find(job)
    return time.monotonic() - started


def four_bits(asked: argparse.Namespace) -> Section:
    """Weights in four bits: fitted and rounded by edgekit, and rounded to nearest by the tool."""
    figures: Figures = {}
    goals: list[Goal] = []
    make = FORMATS[Format.LITERT].make
    for name, bench in benches(LABELLED, asked.samples):
        kept = bench.folder / "cache"
        stored, report = storing.rounded(bench.source, Format.LITERT, INT4, bench.calibration, kept)
        mine = bench.judged(bench.job("fitted", Format.LITERT, INT4, stored), make)
        its = bench.judged(bench.job("nearest", Format.LITERT, INT4), make)
        wide = bench.judged(bench.job("int8", Format.LITERT, INT8[Format.LITERT]), make)
        figures[name] = {
            "edgekit": mine,
            "tool": its,
            "of_int8_bytes": mine["bytes"] / wide["bytes"],
            "fitted_is_used": report.used,
        }
        if name == SQUEEZED:
            goals.append(Goal(f"{name}: top-1 lost", mine["lost"], 0.01 + ROUNDING))
            goals.append(Goal(f"{name}: of the int8 bytes", figures[name]["of_int8_bytes"], 0.72))
    return figures, goals


def pruning(asked: argparse.Namespace) -> Section:
    """Whole channels gone: accuracy, and what it brings in time."""
    return _pruning.measured(asked.rounds)


SECTIONS: dict[str, Callable[[argparse.Namespace], Section]] = {
    "int8": int8,
    "four-bits": four_bits,
    "pruning": pruning,
}


def main() -> int:
    """Measure, print, and say by the status whether the goals hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=9)
    asked = parser.parse_args()
    if not ASSETS.is_dir():
        parser.error(f"the models for internal tests are not there: {ASSETS}")
    found = {name: SECTIONS[name](asked) for name in asked.only}
    figures = {name: part for name, (part, _) in found.items()}
    return finish("compression", figures, [goal for _, goals in found.values() for goal in goals])


if __name__ == "__main__":
    sys.exit(main())
