"""The calibration networks in every form a device takes: made once, kept, sent as one archive."""

from __future__ import annotations

import importlib.util
import json
import logging
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
import onnx

from edgekit import datasets, fingerprint, inspection, store
from edgekit.calibrating import networks
from edgekit.calibrating.networks import INPUT, OUTPUT
from edgekit.domain import (
    CALIBRATION_VERSION,
    Format,
    Mode,
    ModelSummary,
    Quantization,
    TensorBinding,
    TensorSpec,
)
from edgekit.errors import ToolError
from edgekit.formats import FORMATS, onnx2tf_batch
from edgekit.sources import SourceModel
from edgekit.toolchain import environments, isolation
from edgekit.toolchain.environments import ONNX2TF
from edgekit.toolchain.process import Limits

ARCHIVE = "networks.zip"
_INDEX = "index.json"
_FLOAT = "float32"
_SUFFIX = {Format.LITERT: ".tflite", Format.ONNXRUNTIME: ".onnx"}
_LIMITS = Limits(seconds=1800)
_SAMPLES = 4
_TO_NHWC = (0, 2, 3, 1)
_MADE_BY = (
    __name__,
    *("edgekit.calibrating.networks", "edgekit.formats.onnx2tf_batch"),
    *("edgekit.formats.litert_quantizer", "edgekit.formats.onnxruntime_quantizer"),
)
"""Changed code of these makes other networks; all else leaves them as they are."""

_log = logging.getLogger(__name__)

Variants = dict[Format, dict[str, Quantization | None]]
"""Format -> precision -> how it is quantized; every format has ``float32``."""


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One artifact; ``path`` is relative to the archive."""

    path: str
    network: str
    format: Format
    precision: str


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be measured.

    Attributes:
        key: the same networks made by the same tools have the same one.
        archive: a zip of all artifacts.
        summaries: network -> what it asks of a device.
    """

    key: str
    archive: Path
    entries: tuple[Entry, ...]
    summaries: dict[str, ModelSummary]


def prepare(variants: Variants, cache: Path, chosen: Callable[[str], bool]) -> Prepared:
    """Make every chosen network in every variant, or find them made.

    A network that a tool cannot make in a precision is left out of that precision.

    Raises:
        ToolError: nothing could be made at all.
    """
    designed = {name: model for name, model in networks.designed() if chosen(name)}
    tools = [fingerprint.versions(FORMATS[format_].tools) for format_ in variants]
    parts = [str(CALIBRATION_VERSION), repr(tools), repr(variants), *designed]
    key = store.key([*parts, *map(_code_of, _MADE_BY)])
    folder = store.make(cache / "calibration", key, partial(_fill, designed, variants))
    with tempfile.TemporaryDirectory(prefix="edgekit-calibrate-") as scratch:
        sources = (_source(name, model, Path(scratch)) for name, model in designed.items())
        summaries = {source.name: inspection.inspect(source) for source in sources}
    return Prepared(
        key=key,
        archive=folder / ARCHIVE,
        entries=msgspec.json.decode((folder / _INDEX).read_bytes(), type=tuple[Entry, ...]),
        summaries=summaries,
    )


def _code_of(module: str) -> bytes:
    found = importlib.util.find_spec(module)
    return Path(found.origin).read_bytes() if found and found.origin else b""


def _fill(designed: dict[str, onnx.ModelProto], variants: Variants, folder: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="edgekit-calibrate-") as scratch:
        work = Path(scratch)
        sources = tuple(_source(name, model, work) for name, model in designed.items())
        made: list[Entry] = []
        for format_, precisions in variants.items():
            _make_floats(format_, sources, work)
            made += isolation.call(_make_all, _LIMITS, format_, sources, precisions, work)
        if not made:
            raise ToolError("no calibration network could be made", "run with --verbose")
        with zipfile.ZipFile(
            folder / ARCHIVE, "w", zipfile.ZIP_DEFLATED, compresslevel=1
        ) as zipped:
            for entry in made:
                zipped.write(work / entry.path, entry.path)
    (folder / _INDEX).write_bytes(msgspec.json.encode(made))


def _source(name: str, model: onnx.ModelProto, folder: Path) -> SourceModel:
    """A designed network as the stages see a user's; it needs no suspicion."""
    path = folder / f"{name}.onnx"
    path.write_bytes(model.SerializeToString(deterministic=True))
    given = TensorSpec(INPUT, networks.shape_of(model.graph.input[0]), "float32")
    taken = TensorSpec(OUTPUT, networks.shape_of(model.graph.output[0]), "float32")
    return SourceModel(
        origin=path,
        name=name,
        sha256=name,
        written=path,
        graph=path,
        probe=path,
        opset=model.opset_import[0].version,
        inputs=(given,),
        outputs=(taken,),
        channels_first=(INPUT,) if len(given.shape) == len(_TO_NHWC) else (),
        notes=(),
    )


def _make_floats(format_: Format, sources: tuple[SourceModel, ...], work: Path) -> None:
    """Every network in float32 under ``work/<format>/float32``."""
    folder = work / format_.value / _FLOAT
    folder.mkdir(parents=True)
    if format_ is Format.ONNXRUNTIME:
        for source in sources:
            shutil.copyfile(source.graph, folder / source.graph.name)
        return
    rows = [
        (
            s.name,
            str(s.graph),
            str(folder / f"{s.name}.tflite"),
            [] if s.channels_first else [INPUT],
        )
        for s in sources
    ]
    jobs, log = work / "onnx2tf.json", work / "onnx2tf.log"
    jobs.write_text(json.dumps(rows), encoding="utf-8")
    script = Path(onnx2tf_batch.__file__)
    environments.run_script(ONNX2TF, script, str(jobs), str(log), limits=_LIMITS)


def _make_all(
    format_: Format,
    sources: tuple[SourceModel, ...],
    precisions: dict[str, Quantization | None],
    work: Path,
) -> tuple[Entry, ...]:
    """In a process of its own: every network in every precision, as far as the tools go."""
    made = []
    for source in sources:
        floats = work / format_.value / _FLOAT / f"{source.name}{_SUFFIX[format_]}"
        for precision, quantization in precisions.items():
            path = Path(format_.value) / precision / floats.name
            (work / path).parent.mkdir(exist_ok=True)
            try:
                if quantization is not None:
                    _QUANTIZE[format_](source, floats, work / path, quantization)
            except Exception as error:
                (work / path).unlink(missing_ok=True)
                _log.info("%s cannot be made %s: %s", source.name, precision, error)
            if (work / path).is_file():
                row = Entry(
                    path=path.as_posix(), network=source.name, format=format_, precision=precision
                )
                made.append(row)
    return tuple(made)


def _quantize_onnx(source: SourceModel, floats: Path, made: Path, wanted: Quantization) -> None:
    from edgekit.formats import onnxruntime_quantizer

    onnxruntime_quantizer.quantize(floats, made, wanted, _data(source, made, wanted))


def _quantize_litert(source: SourceModel, floats: Path, made: Path, wanted: Quantization) -> None:
    from edgekit.formats import litert_quantizer

    (given,) = source.inputs
    order = _TO_NHWC if source.channels_first else tuple(range(len(given.shape)))
    shape = tuple(given.shape[axis] for axis in order)
    bound = TensorBinding(
        source=given, artifact=TensorSpec(INPUT, shape, given.dtype), permutation=order
    )
    data = _data(source, made, wanted)
    litert_quantizer.quantize(floats, made, wanted, (bound,), data)


_QUANTIZE = {Format.LITERT: _quantize_litert, Format.ONNXRUNTIME: _quantize_onnx}


def _data(source: SourceModel, beside: Path, wanted: Quantization) -> datasets.Dataset | None:
    """Random samples, where ranges are to be calibrated: speed does not depend on them."""
    if wanted.mode is not Mode.STATIC:
        return None
    path = beside.with_suffix(".npz")
    np.savez(path, x=networks.sample(source.inputs[0].shape, _SAMPLES))
    return datasets.load(path, source.inputs)
