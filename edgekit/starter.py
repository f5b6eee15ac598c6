"""The ``edgekit.toml`` that a project begins with: what is known is filled in, the rest told."""

from __future__ import annotations

import json
import os
from pathlib import Path

from msgspec import Struct

from edgekit import interfaces
from edgekit.domain import Colours, ModelSummary, Picture, TensorSpec
from edgekit.errors import ProjectError, UsageError
from edgekit.project import FILE, SCHEMA

_TEXT = """\
{schema}# What edgekit builds, for what, and what it may cost. Paths are relative to this file.
#   edgekit build    builds what has changed, and writes edgekit.lock beside this file
#   edgekit bench    measures each bundle where its target says, into results/
#   edgekit check    holds the budgets; for CI

# fleet = "fleet.toml"  # devices by name, as `edgekit bench --fleet` takes them

[models.{name}]
source = {source}  # {about}
{shapes}{data}# metric = "top1"  # top1, cosine, mae or auc; chosen by the labels when left out
max_drop = 0.005  # how far the metric may fall below the original's
# labels = "labels.txt"  # a class on each line, in the order of the first output's scores
{pictures}
{targets}
# formats = ["litert"]  # litert, onnxruntime or coreml; all that the device takes when left out
# precisions = ["int8-static", "float16"]
# on = "ssh://pi@raspberry"  # where it is measured; or the name of a device of the fleet
# prefer = "latency"  # or size, energy, accuracy: what decides among all that keeps the budgets

# A budget is for all models and targets, or for those that it names; the last one counts.
# [[budgets]]
# model = "{name}"
# target = "{target}"
# max_size_mb = 1.0  # of the artifact
# max_latency_ms = 5.0  # the median, as `edgekit bench` measures it
# max_memory_mb = 64.0
# accuracy = 0.95  # at least, of the metric itself

# How much worse than `edgekit check --baseline LOCK` a bundle may be.
# [regressions]
# size = 0.05  # 5 % more
# latency = 0.05
# accuracy = 0.01  # in the metric's own unit
"""


_GUESSES: tuple[Colours, ...] = ("rgb", "gray")
_PICTURE = """
# An application gives pictures as bytes, 0 to 255; the model's input is scale * pixel + bias.
# [models.{model}.pictures.{input}]
# colours = "{colours}"  # rgb, bgr or gray
# scale = [0.00392156862745098]  # one number, or one for each channel
# bias = [0.0]
"""


class Starter(Struct, frozen=True, kw_only=True):
    """What a first declaration is made from; ``shapes`` are those that were given."""

    summary: ModelSummary
    source: Path
    devices: tuple[str, ...]
    shapes: dict[str, tuple[int, ...]] = {}
    calibration: Path | None = None
    evaluation: Path | None = None
    schema: bool = False


def write(starter: Starter, destination: Path) -> tuple[Path, ...]:
    """Write the declaration, and the schema beside it where it was asked for; what was written.

    Raises:
        ProjectError: there is one already, or it cannot be written.
    """
    content = text(starter, destination.absolute().parent)
    schema = destination.with_name(SCHEMA.name)
    try:
        with destination.open("x", encoding="utf-8") as file:
            file.write(content)
        if starter.schema:
            schema.write_bytes(SCHEMA.read_bytes())
    except FileExistsError as error:
        raise ProjectError(f"{destination} is there already", "nothing was changed") from error
    except OSError as error:
        raise ProjectError(f"cannot write {error.filename}: {error.strerror}") from error
    return (destination, schema) if starter.schema else (destination,)


def text(starter: Starter, folder: Path) -> str:
    """The declaration of a project in ``folder``."""
    summary, name = starter.summary, _name(starter.source)
    inputs = ", ".join(f"{i.name} {list(i.shape)} {i.dtype}" for i in summary.inputs)
    shapes = "".join(
        f"shapes.{_quoted(key)} = {list(shape)}\n" for key, shape in starter.shapes.items()
    )
    return _TEXT.format(
        schema=f"#:schema ./{SCHEMA.name}\n" if starter.schema else "",
        name=name,
        source=_quoted(_relative(starter.source, folder)),
        about="".join(c if c.isprintable() else "?" for c in f"takes {inputs}"),
        shapes=shapes,
        data=_data(starter, folder),
        pictures=_pictures(name, summary.inputs),
        targets="\n".join(f"[targets.{device}]" for device in starter.devices),
        target=starter.devices[0],
    )


def _data(starter: Starter, folder: Path) -> str:
    told = {
        "calibration": (starter.calibration, "samples x; for static int8"),
        "evaluation": (starter.evaluation, "other samples x and labels y, that decide"),
    }
    return "".join(
        f"{key} = {_quoted(_relative(path, folder))}\n"
        if path
        else f'# {key} = "{key}.npz"  # {what}\n'
        for key, (path, what) in told.items()
    )


def _pictures(model: str, inputs: tuple[TensorSpec, ...]) -> str:
    """How the first input that may be a picture is said to be one; empty: none may."""
    for spec in inputs:
        for colours in _GUESSES:
            try:
                interfaces.to_pixels(spec, Picture(colours=colours))
            except UsageError:
                continue
            return _PICTURE.format(model=model, input=_quoted(spec.name), colours=colours)
    return ""


def _name(source: Path) -> str:
    """A name that files can bear."""
    kept = "".join(c if c.isascii() and (c.isalnum() or c in "_-") else "-" for c in source.stem)
    return kept.strip("-_") or "model"


def _relative(path: Path, folder: Path) -> str:
    return Path(os.path.relpath(path.absolute(), folder)).as_posix()


def _quoted(text: str) -> str:
    """A TOML string: JSON's escapes are a part of TOML's, which wants DEL escaped, too."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


DESTINATION = Path(FILE)
