"""The formats edgekit makes, a file and a row each; they never import one another."""

from edgekit.domain import Format
from edgekit.formats import coreml, litert, onnxruntime
from edgekit.formats.contract import FormatSpec, Job

FORMATS: dict[Format, FormatSpec] = {
    spec.format: spec for spec in (litert.SPEC, onnxruntime.SPEC, coreml.SPEC)
}

__all__ = ["FORMATS", "FormatSpec", "Job"]
