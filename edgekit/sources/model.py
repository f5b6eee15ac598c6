"""What every kind of source becomes: one ONNX graph on disk, and what is known about it."""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

from edgekit.domain import TensorSpec

Shapes = dict[str, tuple[int, ...]]
MIN_OPSET = 13
"""Per-channel QDQ is valid from here on."""


class SourceModel(Struct, frozen=True, kw_only=True):
    """The user's model, and the graph edgekit made of it.

    Attributes:
        origin: the user's file.
        sha256: over the file and its external data.
        graph: the normalised ONNX file.
        probe: ``.npz`` with the outputs, in order, that the user's graph as written gives
            for ``random_feeds(inputs)``: what a conversion is compared with.
        opset: the opset the user's file was written in.
        inputs: shapes with the batch axis of one.
        channels_first: the inputs whose second axis counts channels.
        notes: what was changed, in words.
    """

    origin: Path
    name: str
    sha256: str
    graph: Path
    probe: Path
    opset: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    channels_first: tuple[str, ...]
    notes: tuple[str, ...]
