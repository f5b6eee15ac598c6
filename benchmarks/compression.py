"""Compression that holds its accuracy, as a table beside what the tools do by default.

Static int8 for LiteRT and ONNX Runtime, weights in four bits, the time of a sensitivity run,
the reconstruction error of an autoencoder, and pruning without training. The models for
internal tests lie beside the checkout.

    python benchmarks/compression.py [--only int8 autoencoder four-bits pruning]
        [--samples 1000] [--rounds 9] [--multiple 16]
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
import numpy as np
from _common import Goal, finish
from _subjects import ASSETS, Subject, prepared, subjects

from edgekit import datasets, sources, validation
from edgekit.compression import balancing, storing
from edgekit.domain import Artifact, Format, Mode, Quantization, Recipe
from edgekit.formats import FORMATS, Job, host
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

    def balanced(self, format_: Format, how: Quantization) -> SourceModel:
        """What a build quantizes to integers."""
        recipe = Recipe(format=format_, runtime=FORMATS[format_].host_runtime, quantization=how)
        if not balancing.serves(self.source, recipe):
            return self.source
        made, _ = balancing.balanced(self.source, how, self.calibration, self.folder / "cache")
        return made

    def judged(self, job: Job, make: Callable[[Job], Artifact]) -> Figures:
        """The metric of what is made, what it loses, and its size."""
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
            "value": report.value,
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
            ready = bench.balanced(format_, how)
            mine = bench.judged(
                bench.job(format_.value, format_, how, ready), FORMATS[format_].make
            )
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


def autoencoder(asked: argparse.Namespace) -> Section:
    """Static int8 reconstructs nearly as well: on spectra made up, no recordings are at hand.

    They slope as a machine's do, within the range that the model's own publishers calibrated
    its int8 form with, and pass twice through the network, so that it knows them; noise then
    makes the error that it has on recordings.
    """
    figures: Figures = {}
    goals: list[Goal] = []
    subject = subjects()["autoencoder"]
    for format_, how in INT8.items():
        with tempfile.TemporaryDirectory(prefix="edgekit-compression-") as folder:
            made = _spectra(subject, Path(folder), asked.samples)
            bench = Bench(made, Path(folder), asked.samples)
            ready = bench.balanced(format_, how)
            found = bench.judged(bench.job("int8", format_, how, ready), FORMATS[format_].make)
            worse = found["lost"] / found["float"]
            figures[format_.value] = {**found, "worse": worse}
            goals.append(Goal(f"autoencoder {format_.value}: error larger by", worse, 0.02))
    return figures, goals


def _spectra(subject: Subject, folder: Path, count: int) -> Subject:
    """The model with five frames of 128 bands in decibels a sample, which are their own labels."""
    published = host.Session(subject.model.with_name("ad01_int8.tflite"), "litert").described
    (taken,) = published.input_details
    low, high = ((taken.scale or 1) * (end - (taken.zero_point or 0)) for end in (-128, 127))
    network = host.Session(subject.model, "litert")
    (entrance,), (exit_,) = network.described.input_details, network.described.output_details
    rng = np.random.default_rng(0)
    ends = rng.uniform(0.3, 0.9, (2, count, 1)) * [[[high]], [[low]]]
    slopes = ends[0] + (ends[1] - ends[0]) * np.linspace(0, 1, 128)
    x = np.tile(slopes + rng.normal(0, 4, slopes.shape), 5).astype(np.float32)
    for _ in range(2):
        x = np.concatenate([network.run({entrance.name: row[None]})[exit_.name] for row in x])
    x = np.clip(x + rng.normal(0, 3, x.shape), low, high).astype(np.float32)
    paths = folder / "calib.spectra.npz", folder / "eval.spectra.npz"
    np.savez(paths[0], x=x[::5])
    np.savez(paths[1], x=x[1::5], y=x[1::5])
    return Subject(subject.model, *paths)


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
    """Channels and ends of kernels gone: accuracy, and what it brings in time."""
    return _pruning.measured(asked.rounds, asked.multiple)


SECTIONS: dict[str, Callable[[argparse.Namespace], Section]] = {
    "int8": int8,
    "autoencoder": autoencoder,
    "four-bits": four_bits,
    "pruning": pruning,
}


def main() -> int:
    """Measure, print, and say by the status whether the goals hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument(
        "--multiple", type=int, default=16,
        help="channels that this machine's kernels compute at once: 16 with AVX-512, 8 with AVX2",
    )  # fmt: skip
    asked = parser.parse_args()
    if not ASSETS.is_dir():
        parser.error(f"the models for internal tests are not there: {ASSETS}")
    found = {name: SECTIONS[name](asked) for name in asked.only}
    figures = {name: part for name, (part, _) in found.items()}
    return finish("compression", figures, [goal for _, goals in found.values() for goal in goals])


if __name__ == "__main__":
    sys.exit(main())
