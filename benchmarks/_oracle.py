"""Every recipe of every labelled model, built, gated and timed in turn: what is really fastest.

The models are in ``../shared/assets``; where that folder is absent the example's own network
stands in alone, and the figures say so.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from _common import DIGITS, ROOT
from msgspec import structs
from numpy.typing import NDArray

from edgekit import calibrating, inspection, pipeline, profiles, resources, sources, store
from edgekit.domain import (
    Calibration,
    Candidate,
    DeviceProfile,
    Goal,
    ModelSummary,
    Plan,
    Prediction,
    Range,
    Recipe,
    TensorSpec,
)
from edgekit.errors import EdgekitError
from edgekit.planning.recipes import Unreachable, recipes

PROFILE = "generic-x86-64-amx"
ASSETS = ROOT.parent / "shared" / "assets"
MAX_DROP = 0.01
MODULES = {"litert": "ai_edge_litert", "onnxruntime": "onnxruntime"}
_NOTHING = Range(0.0, 0.0, 0.0)
_UNKNOWN = Prediction(
    latency_ms=_NOTHING, peak_memory_bytes=_NOTHING, size_bytes=_NOTHING, energy_mj=_NOTHING
)

Change = Callable[[NDArray[Any]], NDArray[Any]]


@dataclass(frozen=True)
class Task:
    """A model and its data; ``change`` brings the data into the model's order and scale."""

    name: str
    model: Path
    calibration: Path
    evaluation: Path
    change: Change


def _asset(name: str, model: str, data: str, change: Change = lambda x: x) -> Task:
    files = [ASSETS / "data" / f"{data}.{part}.npz" for part in ("calib", "eval")]
    return Task(name, ASSETS / "models" / model, files[0], files[1], change)


_ASSETS = (
    _asset("resnet20", "resnet20_cifar10/resnet20_fp32.onnx", "cifar10_nchw"),
    _asset(
        "mobilenetv1-person", "mlperf_vww_mobilenetv1/vww_96_float.onnx", "person",
        lambda x: x.transpose(0, 3, 1, 2),
    ),
    _asset("mnist-cnn", "mnist_cnn_onnx/opt-mnist.onnx", "mnist", lambda x: x * 255),
    _asset("resnet8", "mlperf_ic_resnet8/pretrainedResnet.tflite", "cifar10"),
    _asset("resnet-large", "mlperf_ic_resnet_large/pretrainedResnet_large_float.tflite", "cifar10"),
    _asset("dscnn", "mlperf_kws_dscnn/kws_ref_model_true_fp32.tflite", "speech_mfcc"),
    _asset("mnist-lstm", "mnist_lstm/trained_lstm.tflite", "mnist"),
    _asset("hand-mlp", "hand_keypoint_mlp/keypoint_classifier.tflite", "hand_keypoint"),
)  # fmt: skip

_DIGITS = Task(
    "digits",
    DIGITS,
    DIGITS.with_name("calibration.npz"),
    DIGITS.with_name("evaluation.npz"),
    lambda x: x,
)


@dataclass
class Made:
    """One recipe of one model: what became of it, and how long it takes."""

    task: str
    recipe: Recipe
    artifact: Path | None = None
    passed: bool = False
    why: str = ""
    value: float | None = None
    windows_ns: list[int] = field(default_factory=list)

    @property
    def ns(self) -> float:
        """Of the medians of all windows the least: whatever else runs only adds time."""
        return float(min(self.windows_ns))


def arguments(description: str | None) -> argparse.Namespace:
    """What the measurements on top of this one take."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--rounds", type=int, default=6, help="calm windows of each artifact")
    parser.add_argument("--minutes", type=float, default=2.0, help="of calibrating")
    parser.add_argument("--model", action="append", help="only these; all of them when left out")
    return parser.parse_args()


@dataclass(frozen=True)
class Measured:
    """One session: everything built and timed, with a calibration made in between."""

    profile: DeviceProfile
    summaries: dict[str, ModelSummary]
    made: list[Made]
    extra: list[Made]
    calibration: Calibration


def measured(
    options: argparse.Namespace,
    folder: Path,
    extra: Callable[[Task, Path], list[Made]] = lambda _task, _folder: [],
) -> Measured:
    """Build all there is, time half of the rounds, calibrate, time the rest: drift is shared."""
    device = profile()
    chosen = {t.name: t for t in tasks() if not options.model or t.name in options.model}
    summaries = {name: summary_of(task, folder) for name, task in chosen.items()}
    made = [
        one
        for name, task in chosen.items()
        for one in build_all(task, summaries[name], device, folder)
    ]
    others = [one for task in chosen.values() for one in extra(task, folder)]
    time_all([*made, *others], folder, options.rounds // 2)
    settings = calibrating.Settings(seconds=60 * options.minutes)
    found = calibrating.calibrate(device, f"local:{folder}/device", store.default_root(), settings)
    time_all([*made, *others], folder, options.rounds - options.rounds // 2)
    return Measured(device, summaries, made, others, found)


def tasks() -> tuple[Task, ...]:
    """What there is to build: the assets' models that are at hand, else the example's."""
    return tuple(t for t in _ASSETS if t.model.is_file() and t.evaluation.is_file()) or (_DIGITS,)


def summary_of(task: Task, folder: Path) -> ModelSummary:
    """What planning knows of the model."""
    work = folder / f"{task.name}.source"
    work.mkdir(parents=True, exist_ok=True)
    return inspection.inspect(sources.load(task.model, work))


def graph_of(task: Task, folder: Path) -> tuple[Path, TensorSpec]:
    """The model's ONNX graph, and its only input."""
    source = sources.load(task.model, folder)
    (given,) = source.inputs
    return source.graph, given


def build_all(
    task: Task, summary: ModelSummary, profile: DeviceProfile, folder: Path
) -> Iterator[Made]:
    """Every CPU recipe with one thread, each built and gated on its own."""
    data = [prepared(task, path, folder) for path in (task.calibration, task.evaluation)]
    for recipe in recipes(profile):
        if isinstance(recipe, Unreachable):
            continue
        yield _built(task, structs.replace(recipe, threads=1), summary, profile, data, folder)


def _built(
    task: Task,
    recipe: Recipe,
    summary: ModelSummary,
    profile: DeviceProfile,
    data: list[Path],
    folder: Path,
) -> Made:
    plan = Plan(
        model_sha256=summary.sha256,
        device=profile.name,
        goal=Goal(max_accuracy_drop=MAX_DROP),
        candidates=(Candidate(recipe=recipe, prediction=_UNKNOWN, reasons=()),),
        rejected=(),
    )
    destination = folder / f"{task.name} {recipe.label}"
    request = pipeline.Request(
        model=task.model,
        profile=profile,
        goal=plan.goal,
        calibration=data[0],
        evaluation=data[1],
        plan=plan,
    )
    try:
        made = pipeline.build(request, destination, cache=store.default_root())
    except EdgekitError as error:
        return Made(task.name, recipe, why=error.message)
    artifact = destination / made.manifest.artifact.path
    return Made(
        task.name, recipe, artifact=artifact, passed=True, value=made.manifest.validation.value
    )


def prepared(task: Task, path: Path, folder: Path) -> Path:
    """The data as the model takes them."""
    folder.mkdir(parents=True, exist_ok=True)
    with np.load(path) as archive:
        arrays = dict(archive)
    arrays["x"] = np.ascontiguousarray(task.change(arrays["x"]))
    np.savez(folder / f"{task.name}.{path.name}", **arrays)
    return folder / f"{task.name}.{path.name}"


def time_all(made: list[Made], folder: Path, rounds: int, window_s: float = 0.05) -> None:
    """Time every artifact, one thread, in turn, until it has ``rounds`` calm windows."""
    work = folder / "artifacts"
    work.mkdir(exist_ok=True)
    by_runtime: dict[str, dict[str, Made]] = {name: {} for name in MODULES}
    for number, one in enumerate(m for m in made if m.artifact is not None):
        assert one.artifact is not None
        name = f"{number}{one.artifact.suffix}"
        shutil.copyfile(one.artifact, work / name)
        by_runtime[one.recipe.format.value][name] = one
    for runtime, models in by_runtime.items():
        listed = work / f"{runtime}.json"
        listed.write_text(json.dumps(list(models)))
        for event in _runner("sweep", listed, runtime, "--rounds", rounds, "--window", window_s):
            if event["event"] == "swept":
                models[event["model"]].windows_ns += event["windows_ns"]


def peak_bytes(made: Made) -> int:
    """Peak memory of a process that only loads and runs the artifact."""
    assert made.artifact is not None
    (event,) = _runner("peak", made.artifact, made.recipe.format.value)
    return int(event["peak_memory_bytes"])


def _runner(command: str, path: Path, runtime: str, *options: object) -> list[dict[str, Any]]:
    argv = [sys.executable, str(resources.runner()), command, str(path), "--runtime", runtime]
    argv += ["--module", MODULES[runtime], *map(str, options)]
    # Its standard input stays open for as long as it is to run.
    pipe = subprocess.PIPE
    done = subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL)
    assert done.stdout is not None
    lines = done.stdout.read().splitlines()
    if done.wait():
        raise SystemExit(f"the runner failed: {lines[-1:]}")
    return [json.loads(line) for line in lines]


def profile() -> DeviceProfile:
    """This machine, as a device."""
    return profiles.find(PROFILE)
