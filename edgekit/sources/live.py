"""Live objects: each is written to a file, which then goes the way of every other file.

No framework is imported here: an object is known by the classes it descends from, and
whoever made it has loaded its framework already. The file lies in the store under the
digest of its content: an object that did not change is the same file every time.
"""

from __future__ import annotations

import re
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from edgekit import store
from edgekit.errors import ModelError, UsageError

ExampleInputs = Sequence[Any] | Mapping[str, Any]
"""What a module is called with: in order, or by name."""

_ODD = re.compile(r"[^\w.-]+")
_SAVED_AT = "date_saved"


def written(model: object, example_inputs: ExampleInputs | None, root: Path) -> Path:
    """The file of a live object.

    Args:
        model: an ``onnx.ModelProto``, a Keras model, a ``torch.nn.Module`` or a
            ``torch.export.ExportedProgram``.
        example_inputs: what a module is called with; the others need none.
        root: of the store that the file is kept in.

    Raises:
        UsageError: an object of another kind, or a module without example inputs.
        ModelError: its framework cannot write it.
    """
    write = _writer(model)
    with tempfile.TemporaryDirectory(prefix="edgekit-") as scratch:
        made = write(model, example_inputs, Path(scratch))
        entry = f"live/{store.key([made.name, made.read_bytes()])}"
        kept = store.make(root, entry, lambda folder: _move(made, folder))
    return kept / made.name


def _move(made: Path, folder: Path) -> None:
    shutil.move(made, folder / made.name)


Writer = Callable[[Any, ExampleInputs | None, Path], Path]


def _writer(model: object) -> Writer:
    for ancestor in type(model).__mro__:
        package = ancestor.__module__.partition(".")[0]
        if write := _WRITERS.get((package, ancestor.__name__)):
            return write
    raise UsageError(
        f"a model cannot be loaded from {type(model).__module__}.{type(model).__name__}",
        "give a file's path, an onnx.ModelProto, a Keras model, a torch.nn.Module with "
        "example_inputs, or a torch.export.ExportedProgram",
    )


def _onnx(model: Any, _inputs: ExampleInputs | None, folder: Path) -> Path:
    path = folder / f"{_plain(model.graph.name)}.onnx"
    try:
        path.write_bytes(model.SerializeToString(deterministic=True))
    except Exception as error:  # protobuf's own, which differ between its implementations
        raise ModelError(
            f"the ONNX model cannot be written: {error}",
            "above 2 GiB, save it with external data and give the file",
        ) from error
    return path


def _torch(model: Any, inputs: ExampleInputs | None, folder: Path) -> Path:
    from edgekit.sources.pytorch import exported

    return _onnx(exported(model, inputs), None, folder)


def _keras(model: Any, _inputs: ExampleInputs | None, folder: Path) -> Path:
    saved = folder / "saved.keras"
    try:
        model.save(saved)
    except Exception as error:  # whatever the user's own layers raise
        raise ModelError(
            f"Keras cannot save the model: {type(error).__name__}: {error}",
            "custom layers need a get_config of their own",
        ) from error
    return _settled(saved, folder / f"{_plain(model.name)}.keras")


def _settled(saved: Path, path: Path) -> Path:
    """The archive without the time it was written at: equal models are equal bytes."""
    with zipfile.ZipFile(saved) as source, zipfile.ZipFile(path, "w") as target:
        for name in sorted(source.namelist()):
            content = source.read(name)
            if name == "metadata.json":
                told = msgspec.json.decode(content, type=dict[str, Any])
                told.pop(_SAVED_AT, None)
                content = msgspec.json.encode(told, order="deterministic")
            target.writestr(zipfile.ZipInfo(name), content)
    return path


def _plain(name: str) -> str:
    """A name as a file's: it is also the model's in every report."""
    return _ODD.sub("_", name).strip("._") or "model"


_WRITERS: dict[tuple[str, str], Writer] = {
    ("onnx", "ModelProto"): _onnx,
    ("keras", "Model"): _keras,
    ("tf_keras", "Model"): _keras,
    ("torch", "Module"): _torch,
    ("torch", "ExportedProgram"): _torch,
}
