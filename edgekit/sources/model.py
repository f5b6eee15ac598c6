"""What every kind of source becomes: one ONNX graph on disk, and what is known about it."""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

from edgekit.domain import CleanUp, TensorSpec

Shapes = dict[str, tuple[int, ...]]
MIN_OPSET = 13
"""Per-channel QDQ is valid from here on."""


class Original(Struct, frozen=True, kw_only=True):
    """A private copy of what the user gave: nobody changes it while edgekit works with it.

    Attributes:
        kind: the reader that takes it: ``tflite``, ``keras``, ``hdf5`` or ``saved_model``.
        path: the copy, a file or a folder.
        trusted: the user vouches for it: code of its own may run.
    """

    kind: str
    path: Path
    trusted: bool = False


class SourceModel(Struct, frozen=True, kw_only=True):
    """The user's model, and the graph edgekit made of it.

    Attributes:
        origin: the user's file.
        sha256: over the file and its external data; of a folder, over all its files.
        written: the ONNX file as the user wrote it, shapes and opset aside.
        graph: the normalised ONNX file: ``written``, cleaned up.
        probe: ``.npz`` with the outputs, in order, that the user's model gives in its own
            framework for ``random_feeds(inputs)``: what a conversion is compared with.
        opset: the opset the graph was written in.
        inputs: shapes with the batch axis of one.
        channels_first: the inputs whose second axis counts channels.
        notes: what was changed, in words.
        passes: what each pass of the clean-up did.
        original: what other formats can be made of without ONNX; ``None``: nothing.
    """

    origin: Path
    name: str
    sha256: str
    written: Path
    graph: Path
    probe: Path
    opset: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    channels_first: tuple[str, ...]
    notes: tuple[str, ...]
    passes: tuple[CleanUp, ...] = ()
    original: Original | None = None
