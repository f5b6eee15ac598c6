"""ONNX files: read with suspicion, shapes fixed, opset raised, constants folded.

All parsing happens in a process of its own. What comes out is a graph on disk that
later stages may rely on: checked, at least opset 13, every shape fixed, a batch of one,
weights inside the file, and proven by running to give what the user's file gives.
"""

from __future__ import annotations

from pathlib import Path

from edgekit.errors import ModelError
from edgekit.sources.model import Shapes, SourceModel
from edgekit.toolchain import isolation
from edgekit.toolchain.process import GIB, Limits

_LIMITS = Limits(seconds=600, memory_bytes=16 * GIB)


def load(path: Path, folder: Path, shapes: Shapes | None = None) -> SourceModel:
    """Read an ONNX file and write its normalised graph into ``folder``.

    Args:
        path: the user's file; its external data must lie in the same folder.
        folder: where the graph is written.
        shapes: input name -> shape, for inputs with dynamic axes beyond the batch.

    Raises:
        ModelError: no such file, not ONNX, truncated, invalid, an operator or opset out
            of reach, a dynamic axis without a shape, external data outside the folder.
    """
    if not path.exists():
        raise ModelError(f"no such file: {path}")
    if not path.is_file():
        raise ModelError(f"{path} is not a file", "give the .onnx file itself")
    if path.suffix.lower() != ".onnx":
        raise ModelError(
            f"{path.name}: expected an .onnx file, got {path.suffix or 'no suffix'}",
            "export the model to ONNX first (torch.onnx.export, tf2onnx, ...)",
        )
    return isolation.call(_normalise, _LIMITS, path.resolve(), folder, shapes or {})


def _normalise(path: Path, folder: Path, shapes: Shapes) -> SourceModel:
    """What runs in a process of its own; only there is a stranger's file parsed."""
    from edgekit.sources.onnx_graph import normalise

    return normalise(path, folder, shapes)
