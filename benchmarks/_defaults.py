"""What the tools that edgekit drives make when they are left to their own defaults."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from ai_edge_quantizer import recipe
from ai_edge_quantizer.quantizer import Quantizer
from msgspec import structs
from onnxruntime.quantization import CalibrationDataReader, quantize_static

from edgekit.datasets import Dataset, Sample
from edgekit.domain import Artifact, Format, Recipe
from edgekit.formats import FORMATS, Job, binding, host, litert_quantizer

Default = Callable[[Path, Path, Iterator[Sample]], None]
"""A float file, where the quantized one goes, and samples by the file's own names."""


def quantized(job: Job, format_: Format) -> Artifact:
    """A job's source quantized by the format's tool alone."""
    spec = FORMATS[format_]
    plain = Recipe(format=format_, runtime=spec.host_runtime)
    artifact = spec.make(structs.replace(job, recipe=plain))
    path = job.folder / artifact.path
    copied = path.rename(path.with_name(f"float-{path.name}"))
    assert job.calibration
    DEFAULTS[format_](copied, path, _samples(job.calibration, artifact))
    described = host.describe(path, spec.host_runtime)
    return structs.replace(
        artifact,
        size_bytes=path.stat().st_size,
        inputs=binding.rebound(artifact.inputs, described.input_details),
        outputs=binding.rebound(artifact.outputs, described.output_details),
    )


def _samples(calibration: Dataset, artifact: Artifact) -> Iterator[Sample]:
    for sample in calibration.samples():
        yield {
            b.artifact.name: binding.to_artifact(sample[b.source.name], b) for b in artifact.inputs
        }


def _litert(source: Path, destination: Path, samples: Iterator[Sample]) -> None:
    signature, model = litert_quantizer.modern(source)
    quantizer = Quantizer(model)
    quantizer.load_quantization_recipe(recipe.static_wi8_ai8())
    # The tool prints; standard output is for the measurement.
    with redirect_stdout(sys.stderr):
        found = quantizer.calibrate({signature: list(samples)})
        destination.write_bytes(bytes(quantizer.quantize(found).quantized_model))


def _onnxruntime(source: Path, destination: Path, samples: Iterator[Sample]) -> None:
    quantize_static(str(source), str(destination), _Reader(samples))


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, samples: Iterator[Sample]) -> None:
        self._samples = samples

    def get_next(self) -> Any:
        return next(self._samples, None)


DEFAULTS: dict[Format, Default] = {Format.LITERT: _litert, Format.ONNXRUNTIME: _onnxruntime}
