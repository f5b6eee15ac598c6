"""edgekit from Python: the same stages as the command line, with arrays where that is handier."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeGuard, cast

import numpy as np
from msgspec import Struct, structs
from numpy.typing import ArrayLike, NDArray

from edgekit import (
    benchmarking,
    calibrations,
    contest,
    datasets,
    exporting,
    field,
    pipeline,
    profiles,
    store,
)
from edgekit.benchmarking import LatencyFigures, Settings
from edgekit.contest import Terms
from edgekit.devices.provision import AS_IT_IS, Equipment
from edgekit.domain import BenchmarkResult, Explanation, Goal, Interface, ModelSummary, Plan
from edgekit.errors import DataError
from edgekit.exporting import Exported
from edgekit.pipeline import Built, Request
from edgekit.planning import Choice
from edgekit.sources.live import ExampleInputs, written

Arrays = ArrayLike | Mapping[str, ArrayLike]
Samples = Arrays | Iterable[Arrays]
"""All samples at once, ``[n, *shape]``, by input name where there are several inputs; or one
after another, each ``[*shape]``: they are never all in memory."""


class Model(Struct, frozen=True):
    """A model file, summarised; ``shapes`` fixes dynamic axes beyond the batch.

    A live object's file lies in edgekit's cache.
    """

    path: Path
    summary: ModelSummary
    shapes: pipeline.Shapes
    trust: bool = False


def load(
    model: str | Path | object,
    *,
    example_inputs: ExampleInputs | None = None,
    shapes: pipeline.Shapes | None = None,
    trust: bool = False,
) -> Model:
    """Read a model.

    Args:
        model: a file, or a live object: an ``onnx.ModelProto``, a Keras model, a
            ``torch.export.ExportedProgram``, a ``torch.nn.Module``.
        example_inputs: what a ``torch.nn.Module`` is called with: a sequence of tensors,
            or tensors by the names of its parameters.
        shapes: input name -> shape, for inputs with dynamic axes beyond the batch.
        trust: code that a Keras file or a SavedModel carries may run.

    Raises:
        UsageError: an object of another kind, or a module without example inputs.
        ModelError: no such file, not a model, or out of reach.
    """
    if isinstance(model, str | Path):
        path = Path(model)
    else:
        path = written(model, example_inputs, store.default_root())
    summary = pipeline.summarise(path, shapes, trust=trust, cache=store.default_root())
    return Model(path, summary, shapes or {}, trust)


def plan(
    model: Model,
    *,
    device: str,
    goal: Goal | None = None,
    choice: Choice | None = None,
    on: str | None = None,
) -> Plan:
    """Decide what to build for a device, without building anything.

    Args:
        model: as ``load`` gave it.
        device: its profile's name.
        goal: what the result must keep to.
        choice: what to choose from.
        on: the very device; a calibration of another machine, or of other runtimes than are
            there, is then not used. ``None``: nothing is connected to.

    Raises:
        ProfileError: no such device.
        GoalError: nothing can meet the goal.
        DeviceError: ``on`` cannot be reached.
    """
    from edgekit import planning

    profile, facts = profiles.find(device), field.facts(on) if on else ()
    basis = calibrations.basis(device, facts)
    return planning.plan(model.summary, profile, goal or Goal(), choice, basis)


def explain(model: Model, plan: Plan) -> Explanation:
    """The device's limits, the heaviest layers and every alternative, for a plan's first choice.

    Raises:
        ProfileError: no such device.
    """
    from edgekit import planning

    return planning.explain(model.summary, profiles.find(plan.device), plan)


def build(
    model: Model,
    plan: Plan,
    output: str | Path | None = None,
    *,
    calibration: str | Path | Samples | None = None,
    evaluate: str | Path | tuple[Samples, ArrayLike] | None = None,
    metric: str | None = None,
    interface: Interface | None = None,
) -> Built:
    """Build a bundle for a plan's device and goal.

    Args:
        model: as ``load`` gave it.
        plan: as ``plan`` gave it; its candidates are tried in order. Without
            ``calibration`` those that need it are left out.
        output: where to; ``None``: ``<model>-<device>.edgekit`` in the current folder.
        calibration: a ``.npz``, a folder of samples, or ``Samples``.
        evaluate: the same, or ``Samples`` and labels.
        metric: its name; ``None`` chooses by the labels.
        interface: pictures as inputs and labels of classes:
            ``Interface(pictures={"x": Picture(colours="rgb", scale=(1 / 255,))}, labels=(...))``.

    Raises:
        EdgekitError: as ``pipeline.build``.
    """
    with _request(model, plan, calibration, evaluate, metric, interface) as request:
        return pipeline.build(request, _named(output, model, plan), cache=store.default_root())


def build_best(
    model: Model, plan: Plan, output: str | Path | None = None, *, terms: Terms, **data: Any
) -> Built:
    """Build the best few candidates, measure them in turn, and keep the measured best.

    Args:
        model: as in ``build``.
        plan: as in ``build``; its order settles what measuring leaves open.
        output: as in ``build``.
        terms: how many, and where they are measured.
        **data: ``calibration``, ``evaluate``, ``metric`` and ``interface``, as in ``build``.

    Raises:
        EdgekitError: as ``contest.build``.
    """
    given = {"calibration": None, "evaluate": None, "metric": None, "interface": None, **data}
    with _request(model, plan, **given) as request:
        where = _named(output, model, plan)
        return contest.build(request, where, terms, cache=store.default_root())


def _named(output: str | Path | None, model: Model, plan: Plan) -> Path:
    return Path(output or f"{model.path.stem}-{plan.device}.edgekit")


@contextmanager
def _request(
    model: Model,
    plan: Plan,
    calibration: str | Path | Samples | None,
    evaluate: str | Path | tuple[Samples, ArrayLike] | None,
    metric: str | None,
    interface: Interface | None,
) -> Iterator[Request]:
    """What is asked for, its arrays written to files meanwhile."""
    with _file(calibration, None) as calibration_file, _pair(evaluate) as evaluation_file:
        yield Request(
            model=model.path,
            profile=profiles.find(plan.device),
            goal=plan.goal,
            plan=plan,
            shapes=model.shapes,
            trust=model.trust,
            calibration=calibration_file,
            evaluation=evaluation_file,
            metric=metric,
            interface=interface or Interface(),
        )


def benchmark(
    bundle: Built | str | Path,
    *,
    on: str = "local",
    settings: Settings | None = None,
    equipment: Equipment = AS_IT_IS,
    **how: Any,
) -> BenchmarkResult:
    """Push a bundle, compare its golden vectors on the device, and measure it.

    Args:
        bundle: what ``build`` gave, or a path.
        on: ``local``, or ``ssh://[user@]host[:port][/folder]``.
        settings: how to measure.
        equipment: what may be done for the device: ``Equipment(provision=True)`` installs the
            runtime there, where none will do.
        **how: single settings, by name: ``runs=100``.

    Raises:
        EdgekitError: as ``field.measure``.
    """
    path = bundle.path if isinstance(bundle, Built) else Path(bundle)
    asked = structs.replace(settings or Settings(), **how)
    return field.measure(path, on, asked, equipment=equipment)


def export(
    bundle: Built | str | Path,
    platform: str,
    destination: str | Path,
    *,
    name: str | None = None,
    others: Sequence[Built | str | Path] = (),
) -> Exported:
    """Write what an app embeds of a bundle: one platform's files and nothing else.

    Args:
        bundle: what ``build`` gave, or a path.
        platform: as the options of ``edgekit export`` are called: ``android``, ``ios``, ``c``.
        destination: a new or empty folder, or an earlier export.
        name: what the app's programmer calls the model; ``None``: after the model's file.
        others: bundles of the same model for other accelerators, for ``ort-package``.

    Raises:
        EdgekitError: as ``exporting.export``.
    """
    path, *rest = (b.path if isinstance(b, Built) else Path(b) for b in (bundle, *others))
    return exporting.export(path, platform, Path(destination), name=name, others=rest)


def figures(result: BenchmarkResult) -> LatencyFigures:
    """The latency figures of a result, in milliseconds."""
    return benchmarking.latency_figures(result)


@contextmanager
def _file(data: str | Path | Samples | None, labels: ArrayLike | None) -> Iterator[Path | None]:
    """The path of data that are in a file or a folder, or a temporary file of arrays."""
    if data is None or isinstance(data, str | Path):
        yield None if data is None else Path(data)
        return
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        path = Path(folder) / "data.npz"
        if _one_by_one(data):
            datasets.save(path, _rows(data, labels))
        else:
            arrays = _by_name(cast("Arrays", data))
            if labels is not None:
                arrays["y"] = np.asarray(labels)
            np.savez(path, allow_pickle=False, **arrays)
        yield path


def _one_by_one(data: Samples) -> TypeGuard[Iterable[Arrays]]:
    """Whether samples come one after another: mappings, and whatever is no array or sequence."""
    whole = isinstance(data, Sequence | Mapping) or hasattr(data, "__array__")
    if isinstance(data, Sequence) and data and isinstance(data[0], Mapping):
        return True
    return isinstance(data, Iterable) and not whole


def _by_name(data: Arrays) -> dict[str, NDArray[Any]]:
    named = dict(data) if isinstance(data, Mapping) else {"x": data}
    try:
        return {name: np.ascontiguousarray(array) for name, array in named.items()}
    except ValueError as error:
        hint = "an array, or a mapping from the inputs' names to arrays"
        raise DataError(f"a sample is no array of numbers: {error}", hint) from error


def _rows(data: Iterable[Arrays], labels: ArrayLike | None) -> Iterator[dict[str, NDArray[Any]]]:
    """Each sample by name, with its label.

    Raises:
        DataError: there are more of the one than of the other.
    """
    told, count = None if labels is None else np.asarray(labels), 0
    for count, sample in enumerate(data, 1):
        row = _by_name(sample)
        if told is not None:
            if count > len(told):
                raise DataError(f"there are more samples than the {len(told)} labels")
            row["y"] = np.asarray(told[count - 1])
        yield row
    if told is not None and count < len(told):
        raise DataError(f"there are {count} samples and {len(told)} labels")


@contextmanager
def _pair(evaluate: str | Path | tuple[Samples, ArrayLike] | None) -> Iterator[Path | None]:
    if isinstance(evaluate, tuple):
        with _file(*evaluate) as path:
            yield path
    else:
        yield None if evaluate is None else Path(evaluate)
