"""``edgekit.toml``: the models, the targets and the budgets that a repository declares.

The types are the file's schema, for whoever reads it, for msgspec and for editors. Paths are
relative to the file.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePath
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from edgekit import interfaces, profiles, strict_toml
from edgekit.domain import DeviceProfile, Format, Picture, Prefer
from edgekit.errors import ProfileError, ProjectError
from edgekit.strict_toml import Document

FILE = "edgekit.toml"
SCHEMA = Path(__file__).with_name("edgekit.schema.json")
"""JSON Schema of the file, for editors; a test holds it to the types below."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")

Above0 = Annotated[float, Meta(gt=0)]
NotNegative = Annotated[float, Meta(ge=0)]
Count = Annotated[int, Meta(ge=1)]
Metric = Literal["top1", "cosine", "mae", "auc"]
Precision = Literal[
    "float32",
    "float16",
    "int8-static",
    "int8-static-int16",
    "int8-dynamic",
    "int8-weight-only",
    "int4-weight-only",
    "int4-dynamic",
    "palettized-6bit",
    "palettized-4bit",
]


class _Declared(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table of the file."""


class Model(_Declared, frozen=True, omit_defaults=True):
    """A model: where it lies, and what it is to be proven with.

    Attributes:
        source: an .onnx, .pt2, .tflite, .keras or .h5 file, or a SavedModel's folder.
        shapes: input name -> shape, for dynamic axes beyond the batch.
        trust: code that the file carries may run.
        calibration: an .npz with samples ``x``, or an array for each input; or a folder.
        evaluation: the same, that decides, with labels ``y`` or without.
        metric: chosen by the labels when left out.
        max_drop: how far the metric may fall below the original's, in its own unit; 0.005 when
            left out, of ``mae`` 2 % of the original's.
        labels: a text file with a class on each line, in the order of the first output's scores.
        pictures: input name -> what makes a picture of it: what an application gives then is
            bytes, and the model's own input is ``scale * pixel + bias``.
    """

    source: str
    shapes: dict[str, tuple[Count, ...]] = {}
    trust: bool = False
    calibration: str | None = None
    evaluation: str | None = None
    metric: Metric | None = None
    max_drop: NotNegative | None = None
    labels: str | None = None
    pictures: dict[str, Picture] = {}


class Target(_Declared, frozen=True, omit_defaults=True):
    """A device that every model is built for, and what narrows the choice there.

    Attributes:
        device: the name of its profile; the table's own name when left out.
        formats: only these; all that the device takes when left out.
        precisions: only these; all when left out.
        threads: CPU threads; the best number when left out.
        power_modes: assume the best of these modes of the device; its default one otherwise.
        prefer: what decides among all that keeps the budgets.
        prune: remove channels until this share of the multiply-accumulates is gone.
        on: where ``edgekit bench`` measures it: a target, or a device of the fleet by its name.
    """

    device: str | None = None
    formats: tuple[Format, ...] = ()
    precisions: tuple[Precision, ...] = ()
    threads: Count | None = None
    power_modes: tuple[str, ...] = ()
    prefer: Prefer = Prefer.LATENCY
    prune: Annotated[float, Meta(gt=0, lt=1)] | None = None
    on: str | None = None


class Budget(_Declared, frozen=True, omit_defaults=True):
    """What a bundle may cost: the plan aims for it, ``edgekit check`` holds to it.

    Attributes:
        model: which one; all when left out.
        target: which one; all when left out.
        max_latency_ms: the median, measured.
        max_size_mb: of the artifact, in 1e6 bytes.
        max_memory_mb: the peak of the process, measured; 1e6 bytes.
        max_energy_mj: per inference, measured.
        accuracy: the metric itself: at least this, and of ``mae`` at most.
    """

    model: str | None = None
    target: str | None = None
    max_latency_ms: Above0 | None = None
    max_size_mb: Above0 | None = None
    max_memory_mb: Above0 | None = None
    max_energy_mj: Above0 | None = None
    accuracy: float | None = None


class Regressions(_Declared, frozen=True):
    """How much worse than the baseline a bundle may be.

    Attributes:
        size: as a share: 0.05 allows 5 % more.
        latency: as a share.
        accuracy: in the metric's own unit: 0.01 allows one point of top-1.
    """

    size: NotNegative = 0.05
    latency: NotNegative = 0.05
    accuracy: NotNegative = 0.01


class Declaration(_Declared, frozen=True):
    """Everything that edgekit.toml says; of budgets that name the same, the last one counts.

    Attributes:
        fleet: a file of devices, as ``edgekit bench --fleet`` takes it.
    """

    models: Annotated[dict[str, Model], Meta(min_length=1)]
    targets: Annotated[dict[str, Target], Meta(min_length=1)]
    budgets: tuple[Budget, ...] = ()
    regressions: Regressions = Regressions()
    fleet: str | None = None


class Pair(Struct, frozen=True, order=True):
    """A model for a target: one bundle."""

    model: str
    target: str

    @property
    def name(self) -> str:
        """Of its bundle, and in the lock: ``digits-pixel-8``."""
        return f"{self.model}-{self.target}"

    def __str__(self) -> str:
        return f"{self.model} for {self.target}"


class Project(Struct, frozen=True, kw_only=True):
    """A declaration and where it lies.

    Attributes:
        devices: target -> the profile of its device.
    """

    path: Path
    declared: Declaration
    devices: dict[str, DeviceProfile]

    @property
    def folder(self) -> Path:
        return self.path.parent

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """Every model for every target, in the order of the file."""
        return tuple(Pair(m, t) for m in self.declared.models for t in self.declared.targets)

    def budget(self, pair: Pair) -> Budget:
        """The budgets of a pair, all in one."""
        merged: dict[str, Any] = {}
        for budget in self.declared.budgets:
            if budget.model in (None, pair.model) and budget.target in (None, pair.target):
                merged |= msgspec.to_builtins(budget)
        return Budget(**{k: v for k, v in merged.items() if k not in ("model", "target")})

    def aims(self, pair: Pair) -> Budget:
        """The same without what a plan cannot aim for."""
        return msgspec.structs.replace(self.budget(pair), accuracy=None)


def load_project(path: str | Path | None = None) -> Project:
    """Read a project's declaration.

    Args:
        path: the file; ``None``: the ``edgekit.toml`` of the current folder, or of the nearest
            folder above.

    Raises:
        ProjectError: no such file, or one that will not do; the message names the line.
    """
    found = _nearest() if path is None else Path(path)
    document = strict_toml.read(found, ProjectError)
    declared = strict_toml.decoded(document, Declaration)
    _check(document, declared)
    devices = {name: _profile(document, name, target) for name, target in declared.targets.items()}
    return Project(path=found.absolute(), declared=declared, devices=devices)


def schema() -> bytes:
    """The JSON Schema of the file."""
    made = msgspec.json.schema(Declaration)
    encoded = msgspec.json.encode(made, order="deterministic")
    return msgspec.json.format(encoded, indent=2) + b"\n"


def _nearest() -> Path:
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / FILE).is_file():
            return folder / FILE
    raise ProjectError(
        f"there is no {FILE} in {here}, nor in a folder above",
        "`edgekit init MODEL` writes one; --project FILE names another",
    )


def _check(document: Document, declared: Declaration) -> None:
    """What the types alone cannot say."""
    for table, names in (("models", declared.models), ("targets", declared.targets)):
        for name in names:
            if not _NAME.fullmatch(name):
                hint = "use letters, digits, '.', '_' and '-': files are named after it"
                raise document.fault(f"{table}.{name}", f"{table}: a name is {name!r}", hint)
    _check_path(document, "fleet", declared.fleet)
    for name, model in declared.models.items():
        _check_model(document, f"models.{name}", model)
    for name, target in declared.targets.items():
        _check_place(document, f"targets.{name}.on", target.on, declared.fleet)
    for index, budget in enumerate(declared.budgets):
        _check_budget(document, f"budgets[{index}]", budget, declared)
    _check_distinct(document, declared)


def _check_model(document: Document, where: str, model: Model) -> None:
    for key in ("source", "calibration", "evaluation", "labels"):
        _check_path(document, f"{where}.{key}", getattr(model, key))
    for name, picture in model.pictures.items():
        if fault := interfaces.odd(picture):
            key = f"{where}.pictures.{name}.{fault[0]}"
            raise document.fault(key, f"{key}: {fault[1]}")


def _check_path(document: Document, where: str, path: str | None) -> None:
    if path is not None and (not path or PurePath(path).is_absolute()):
        raise document.fault(
            where,
            f"{where}: expected a path relative to {document.path.name}, got {path!r}",
            "the lock must be the same on every machine",
        )


def _check_place(document: Document, where: str, on: str | None, fleet: str | None) -> None:
    if on is not None and not is_target(on) and (not on or fleet is None):
        raise document.fault(
            where,
            f"{where}: expected a target, got {on!r}",
            "write local or ssh://[user@]host, or name a device of the file that `fleet` names",
        )


def is_target(on: str) -> bool:
    """Whether a place is a target of its own, and no name of the fleet's."""
    return on == "local" or ":" in on


def _check_budget(document: Document, where: str, budget: Budget, declared: Declaration) -> None:
    for key, known in (("model", declared.models), ("target", declared.targets)):
        name = getattr(budget, key)
        if name is not None and name not in known:
            raise document.fault(
                f"{where}.{key}",
                f"{where}: no {key} is named {name!r}",
                f"known: {', '.join(known)}",
            )


def _check_distinct(document: Document, declared: Declaration) -> None:
    """``a-b`` for ``c`` and ``a`` for ``b-c`` would be one file."""
    seen: dict[str, Pair] = {}
    for pair in (Pair(m, t) for m in declared.models for t in declared.targets):
        if (other := seen.setdefault(pair.name.casefold(), pair)) != pair:
            message = f"{pair} and {other} would both be named {pair.name}"
            raise document.fault(f"models.{pair.model}", message, "name one of them otherwise")


def _profile(document: Document, name: str, target: Target) -> DeviceProfile:
    device = target.device or name
    try:
        return profiles.find(device, document.path.absolute().parent)
    except ProfileError as error:
        where = f"targets.{name}" + (".device" if target.device else "")
        raise document.fault(where, f"{where}: {error.message}", error.hint) from error
