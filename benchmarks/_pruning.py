"""Pruning without training: what it costs in accuracy, and what it brings in time."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnx
import onnxruntime
from _common import Goal, interleaved
from _subjects import ASSETS

from edgekit import datasets, inspection, sources
from edgekit.compression import pruning, saliency
from edgekit.compression.groups import coupling
from edgekit.compression.surgery import without
from edgekit.datasets import Dataset
from edgekit.domain import Channels, Narrowed, PruningReport

RESNET20 = ("resnet20_cifar10/resnet20_fp32.onnx", "cifar10_nchw")
PERSON = ("mlperf_vww_mobilenetv1/vww_96_float.tflite", "person")
CASES = (
    (*RESNET20, 0.25, 0.918),
    (*RESNET20, 0.30, 0.908),
    (*PERSON, 0.25, 0.847),
)
"""Model, data, fraction, and the least top-1."""

PAID_BACK = 0.7
"""Of the share of multiply-accumulates removed, at least so much of the time."""

RUNS = 200


def measured(rounds: int, multiple: int) -> tuple[dict[str, Any], list[Goal]]:
    """Each case's figures by its name, and the goals."""
    figures: dict[str, Any] = {}
    goals: list[Goal] = []
    for model, data, fraction, least in CASES:
        name = f"{Path(model).stem}_{100 * fraction:.0f}"
        asked = Channels(fraction, multiple)
        figures[name] = found = case(ASSETS / "models" / model, data, asked, rounds)
        goals += [
            Goal(f"{name}_lost_top1", found["float"] - found["pruned"], found["float"] - least),
            Goal(f"{name}_macs_left", found["macs_left"], 1 - fraction),
            Goal(f"{name}_time_left", found["time_left"], 1 - PAID_BACK * (1 - found["macs_left"])),
        ]
    return figures, goals


def case(model: Path, data: str, asked: Channels, rounds: int) -> dict[str, Any]:
    """One network pruned once."""
    with tempfile.TemporaryDirectory() as folder:
        source = sources.load(model, Path(folder))
        calibration, evaluation = (
            datasets.load(ASSETS / "data" / f"{data}.{kind}.npz", source.inputs)
            for kind in ("calib", "eval")
        )
        start = time.perf_counter()
        made, report = pruning.pruned(source, asked, calibration, Path(folder))
        seconds = time.perf_counter() - start
        whole, smaller = onnx.load(source.graph), onnx.load(made.graph)
        before, after = latency(whole, evaluation), latency(smaller, evaluation)
        pairs = interleaved(rounds, before, after)
        return {
            "float": top1(whole, evaluation),
            "pruned": top1(smaller, evaluation),
            "magnitude": top1(by_magnitude(whole, report), evaluation),
            "macs_left": sum(inspection.macs(smaller).values())
            / sum(inspection.macs(whole).values()),
            "bytes_left": report.weight_bytes_after / report.weight_bytes_before,
            "time_left": median(new / old for old, new in pairs),
            "pruning_s": seconds,
            "layers": {
                "/".join(map(str, identity)): (layer.before, layer.after)
                for identity, layer in narrowed(report).items()
                if layer.after < layer.before
            },
        }


def by_magnitude(whole: onnx.ModelProto, report: PruningReport) -> onnx.ModelProto:
    """As many channels gone of each layer, those of the smallest weights, and no fit."""
    coupled, found = coupling(whole), narrowed(report)
    removed: list[int] = []
    for one in coupled.dimensions:
        if layer := found.get((one.layers[0], one.kernel_axis)):
            taps = one.kernel_axis is not None
            order = one.channels if taps else saliency.by_magnitude(whole, coupled, one)
            removed += order[: layer.before - layer.after]
    return without(whole, coupled, removed)


def narrowed(report: PruningReport) -> dict[tuple[str, int | None], Narrowed]:
    """By the first of their layers, and the kernel's axis where they gave taps up."""
    return {(layer.layers[0], layer.kernel_axis): layer for layer in report.layers}


def opened(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    """On one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def top1(model: onnx.ModelProto, evaluation: Dataset) -> float:
    """The share of samples whose label has the highest output."""
    session, labels = opened(model), evaluation.labels()
    if labels is None:
        raise SystemExit(f"{evaluation.path} has no labels")
    guesses: Sequence[int] = [session.run(None, s)[0].argmax() for s in evaluation.samples()]
    return float(np.mean(np.array(guesses) == labels))


def latency(model: onnx.ModelProto, evaluation: Dataset) -> Any:
    """A function that gives the median seconds of one inference."""
    session, sample = opened(model), next(evaluation.samples())

    def measured() -> float:
        times = []
        for _ in range(RUNS):
            start = time.perf_counter()
            session.run(None, sample)
            times.append(time.perf_counter() - start)
        return median(times)

    return measured
