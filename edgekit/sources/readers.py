"""Which reader takes which file, by its suffix; a folder is a SavedModel."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from edgekit.errors import ModelError
from edgekit.sources import onnx_file, pytorch, tensorflow
from edgekit.sources.model import Shapes, SourceModel

Reader = Callable[[Path, Path, Shapes, bool], SourceModel]
FOLDER = "a folder"

READERS: dict[str, Reader] = {
    ".onnx": onnx_file.read,
    ".pt2": pytorch.read,
    ".tflite": partial(tensorflow.read, "tflite"),
    ".keras": partial(tensorflow.read, "keras"),
    ".h5": partial(tensorflow.read, "keras"),
    ".hdf5": partial(tensorflow.read, "keras"),
    FOLDER: partial(tensorflow.read, "saved_model"),
}
_REFUSED: dict[str, Reader] = dict.fromkeys(pytorch.PICKLES, pytorch.refuse)


def load(
    path: Path, folder: Path, shapes: Shapes | None = None, *, trust: bool = False
) -> SourceModel:
    """Read a model and write its normalised graph into ``folder``.

    Args:
        path: the user's file, or a SavedModel's folder.
        folder: where the graph is written.
        shapes: input name -> shape, for inputs with dynamic axes beyond the batch.
        trust: the user vouches for the file: code that it carries may run.

    Raises:
        ModelError: no such file, of no kind that edgekit reads, damaged, hostile, out of
            reach of the converter, a dynamic axis without a shape, or its graph does not
            give what the file gives in its own framework.
        ToolMissing: the framework that reads it is not installed and cannot be.
    """
    if not path.exists():
        raise ModelError(f"no such file: {path}")
    kind = FOLDER if path.is_dir() else path.suffix.lower()
    reader = (READERS | _REFUSED).get(kind)
    if reader is None:
        raise ModelError(
            f"{path.name}: expected {', '.join(READERS)}, got {kind or 'no suffix'}",
            "export the model to one of them first (torch.onnx.export, model.save, ...)",
        )
    return reader(path.resolve(), folder, shapes or {}, trust)
