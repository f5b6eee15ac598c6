"""ONNX files: read with suspicion, shapes fixed, opset raised, constants folded.

All parsing happens in a process of its own. What comes out is a graph on disk that
later stages may rely on: checked, at least opset 13, every shape fixed, a batch of one,
weights inside the file, and proven by running to give what the user's file gives.
"""

from __future__ import annotations

from pathlib import Path

from edgekit.sources.model import Shapes, SourceModel
from edgekit.toolchain import isolation
from edgekit.toolchain.process import GIB, Limits

_LIMITS = Limits(seconds=600, memory_bytes=16 * GIB)


def read(path: Path, folder: Path, shapes: Shapes, _trust: bool = False) -> SourceModel:
    """Read an ONNX file; its external data must lie in the same folder. See ``readers.load``."""
    return isolation.call(_normalise, _LIMITS, path, folder, shapes)


def _normalise(path: Path, folder: Path, shapes: Shapes) -> SourceModel:
    """What runs in a process of its own; only there is a stranger's file parsed."""
    from edgekit.sources.onnx_graph import normalise

    return normalise(path, folder, shapes)
