"""Core ML packages of real models against their sources: accuracy, size, and time to convert.

Every form is made as a build makes it, read back and evaluated by ``edgekit.mil``.

    python benchmarks/coreml_models.py                 # the models at hand
    python benchmarks/coreml_models.py MODEL.onnx --calibration X.npz --evaluate XY.npz
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
from _common import Goal, finish
from _subjects import Subject, prepared, subjects
from onnx import helper, numpy_helper

from edgekit import datasets, sources, validation
from edgekit.compression import storing
from edgekit.domain import Format, Granularity, Mode, Quantization, Recipe
from edgekit.formats import FORMATS, Job, coreml_compression, coreml_package


class Form(NamedTuple):
    """A form of weights, and what its top-1 may lose."""

    quantization: Quantization | None
    max_drop: float


def _stored(mode: Mode, weights: str, **more: Any) -> Quantization:
    return Quantization(mode=mode, weights=weights, activations="float16", **more)


FORMS = {
    "float32": Form(None, 0.002),
    "float16": Form(_stored(Mode.FLOAT16, "float16"), 0.002),
    "int8-weight-only": Form(_stored(Mode.WEIGHT_ONLY, "int8"), 0.005),
    "palettized-6bit": Form(_stored(Mode.PALETTIZED, "lut6"), 0.01),
    "palettized-4bit": Form(_stored(Mode.PALETTIZED, "lut4"), 0.02),
    "int4-weight-only": Form(
        _stored(Mode.WEIGHT_ONLY, "int4", granularity=Granularity.PER_BLOCK), 0.02
    ),
    "int8-static": Form(
        Quantization(
            mode=Mode.STATIC, weights="int8", activations="int8", symmetric_activations=True
        ),
        0.01,
    ),
}


_COMPARED = ("float32", "float16")
"""The forms of models without labels: their outputs are compared."""


def measured(subject: Subject, forms: list[str], samples: int) -> Iterator[tuple[str, Any]]:
    """Each form's figures, by its name; what failed says why."""
    with tempfile.TemporaryDirectory(prefix="edgekit-coreml-models-") as scratch:
        work = Path(scratch)
        source = sources.load(subject.model, work)
        calibration, evaluation = (
            datasets.load(prepared(path, subject.change, work, samples), source.inputs)
            if path
            else None
            for path in (subject.calibration, subject.evaluation)
        )
        reference = validation.reference(source, evaluation, None, work)
        for name in forms if evaluation else [name for name in forms if name in _COMPARED]:
            folder = work / name
            folder.mkdir()
            quantization = FORMS[name].quantization
            recipe = Recipe(format=Format.COREML, runtime="coreml", quantization=quantization)
            stored = source
            if calibration and storing.rounds(quantization):
                stored, _ = storing.rounded(
                    source, Format.COREML, quantization, calibration, work / "cache"
                )
            job = Job(source=stored, recipe=recipe, folder=folder, calibration=calibration)
            yield name, _figures(job, reference)


def _figures(job: Job, reference: validation.Reference) -> dict[str, Any]:
    spec = FORMATS[Format.COREML]
    started = time.monotonic()
    artifact = spec.make(job)
    made = time.monotonic() - started
    report, _ = validation.validate(
        reference,
        artifact,
        job.folder,
        spec.host_runtime,
        infer=spec.infer,
        metric=validation.choose_metric(None, reference.labels),
        max_drop=1,
    )
    graph = onnx.load(job.source.graph)
    expected = coreml_compression.expected_bytes(graph, job.recipe.quantization)
    (fidelity, *_) = report.per_output
    return {
        "samples": report.sample_count,
        "top1_source": report.baseline,
        "top1": report.value,
        "drop": report.drop,
        "cosine": fidelity.cosine,
        "max_relative_error": fidelity.max_relative_error,
        "package_bytes": artifact.size_bytes,
        "weight_bytes": coreml_package.weight_bytes(job.folder / artifact.path),
        "weight_bytes_by_arithmetic": round(expected),
        "make_s": made,
    }


def mobilenet_v2() -> onnx.ModelProto:
    """MobileNetV2 at 224x224 with random weights (Sandler et al., 2018): 3.5 M parameters."""
    rng = np.random.default_rng(0)
    nodes: list[onnx.NodeProto] = []
    constants: list[onnx.TensorProto] = []

    def conv(x: str, c_in: int, c_out: int, k: int, stride: int = 1, *, wide: bool = True) -> str:
        group = 1 if wide else c_out
        shape = (c_out, c_in // group, k, k)
        name = f"conv{len(nodes)}"
        scale = (2 / np.prod(shape[1:])) ** 0.5
        weight = (rng.standard_normal(shape) * scale).astype(np.float32)
        constants.append(numpy_helper.from_array(weight, f"{name}.w"))
        pads = [k // 2] * 4
        nodes.append(
            helper.make_node(
                "Conv", [x, f"{name}.w"], [name], name, strides=[stride] * 2, pads=pads, group=group
            )
        )
        return name

    def relu6(x: str) -> str:
        nodes.append(helper.make_node("Clip", [x, "zero", "six"], [f"{x}.r"], f"{x}.r"))
        return f"{x}.r"

    constants += [
        numpy_helper.from_array(np.array(v, np.float32), n) for n, v in (("zero", 0), ("six", 6))
    ]
    x, width = relu6(conv("image", 3, 32, 3, 2)), 32
    stages = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1))
    for factor, out, repeats, first in (*stages, (6, 160, 3, 2), (6, 320, 1, 1)):
        for index in range(repeats):
            stride, inner = first if index == 0 else 1, width * factor
            y = relu6(conv(x, width, inner, 1)) if factor > 1 else x
            y = relu6(conv(y, inner, inner, 3, stride, wide=False))
            y = conv(y, inner, out, 1)
            if stride == 1 and width == out:
                nodes.append(helper.make_node("Add", [x, y], [f"{y}.add"], f"{y}.add"))
                y = f"{y}.add"
            x, width = y, out
    x = relu6(conv(x, width, 1280, 1))
    nodes.append(helper.make_node("GlobalAveragePool", [x], ["pooled"], "pool"))
    nodes.append(helper.make_node("Flatten", ["pooled"], ["flat"], "flatten"))
    head = (rng.standard_normal((1280, 1000)) * 0.03).astype(np.float32)
    constants.append(numpy_helper.from_array(head, "head"))
    nodes.append(helper.make_node("Gemm", ["flat", "head"], ["logits"], "head"))
    image = helper.make_tensor_value_info("image", 1, [1, 3, 224, 224])
    logits = helper.make_tensor_value_info("logits", 1, [1, 1000])
    graph = helper.make_graph(nodes, "mobilenet_v2", [image], [logits], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def conversion_s() -> float:
    """Seconds from a MobileNetV2 to a float16 package, processes and proofs included."""
    with tempfile.TemporaryDirectory(prefix="edgekit-coreml-models-") as scratch:
        path = Path(scratch) / "mobilenet_v2.onnx"
        onnx.save(mobilenet_v2(), path)
        source = sources.load(path, Path(scratch))
        recipe = Recipe(
            format=Format.COREML, runtime="coreml", quantization=FORMS["float16"].quantization
        )
        started = time.monotonic()
        FORMATS[Format.COREML].make(Job(source=source, recipe=recipe, folder=Path(scratch)))
        return time.monotonic() - started


def _goals(label: str, form: str, figures: dict[str, Any]) -> Iterator[Goal]:
    yield Goal(f"{label}: top-1 lost", figures["drop"], FORMS[form].max_drop + 1e-9)
    ratio = figures["weight_bytes"] / figures["weight_bytes_by_arithmetic"]
    yield Goal(f"{label}: weights beyond the arithmetic", ratio - 1, 0.1)
    if form == "float32":
        yield Goal(f"{label}: relative error", figures["max_relative_error"], 1e-3)
    if form == "float16":
        yield Goal(f"{label}: one less the cosine", 1 - figures["cosine"], 1e-3)


def main() -> int:
    """Print the measurement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", type=Path)
    parser.add_argument("--calibration", type=Path)
    parser.add_argument("--evaluate", type=Path)
    parser.add_argument("--forms", nargs="*", default=list(FORMS), choices=FORMS)
    parser.add_argument("--samples", type=int, default=500)
    asked = parser.parse_args()
    chosen = subjects()
    if asked.model:
        chosen = {asked.model.stem: Subject(asked.model, asked.calibration, asked.evaluate)}
    figures: dict[str, Any] = {}
    goals: list[Goal] = []
    for name, subject in chosen.items():
        for form, measurement in measured(subject, asked.forms, asked.samples):
            figures.setdefault(name, {})[form] = measurement
            goals += _goals(f"{name} {form}", form, measurement)
    if not asked.model:
        figures["mobilenet_v2_conversion_s"] = conversion_s()
        goals.append(
            Goal("seconds to convert MobileNetV2", figures["mobilenet_v2_conversion_s"], 15)
        )
    return finish("coreml-models", figures, goals)


if __name__ == "__main__":
    raise SystemExit(main())
