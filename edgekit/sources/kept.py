"""Models read once: what reading made of them is kept by their content, and found again."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from msgspec import structs

from edgekit import fingerprint, store
from edgekit.content import content
from edgekit.sources import readers
from edgekit.sources.model import Shapes, SourceModel
from edgekit.toolchain.environments import TOOLS

_TOOLS = ("ai-edge-litert", "numpy", "onnx", "onnxruntime", "onnxsim", "torch")
_SOURCE = "source.json"
_MOST_BYTES = 2**32
"""Larger files are read each time: no model that edgekit takes is, and a hostile one may be."""


def load(
    path: Path,
    folder: Path,
    shapes: Shapes | None = None,
    *,
    trust: bool = False,
    cache: Path | None = None,
) -> SourceModel:
    """Read a model as ``readers.load`` does, or find it read.

    Args:
        path: as there.
        folder: as there; not written to when there is a cache.
        shapes: as there.
        trust: as there.
        cache: where models are kept; nobody writes into what lies there.

    Raises:
        ModelError: as there.
        ToolMissing: as there.
    """
    if cache is None or not _is_modest(path):
        return readers.load(path, folder, shapes, trust=trust)
    entry = f"sources/{_key(path, shapes or {}, trust)}"
    fill = partial(_fill, path, shapes, trust)
    found = store.make(cache, entry, fill)
    encoded = (found / _SOURCE).read_bytes()
    kept = msgspec.json.decode(encoded, type=SourceModel, dec_hook=_path)
    return _moved(kept, path.resolve(), lambda inside: found / inside)


def _is_modest(path: Path) -> bool:
    files = path.rglob("*") if path.is_dir() else [path]
    sizes = [file.stat().st_size for file in files if file.is_file()]
    return 0 < sum(sizes) < _MOST_BYTES


def _key(path: Path, shapes: Shapes, trust: bool) -> str:
    how = msgspec.json.encode([path.name, shapes, trust, fingerprint.versions(_TOOLS)])
    tools = (tool.requirements.read_bytes() for tool in TOOLS.values())
    return store.key([*content(path), how, fingerprint.code(), *tools])


def _fill(path: Path, shapes: Shapes | None, trust: bool, folder: Path) -> None:
    made = readers.load(path, folder, shapes, trust=trust)
    inside = _moved(made, Path(path.name), lambda one: one.relative_to(folder))
    (folder / _SOURCE).write_bytes(msgspec.json.encode(inside, enc_hook=str))


def _moved(source: SourceModel, origin: Path, change: Callable[[Path], Path]) -> SourceModel:
    """The same with its files elsewhere."""
    original = source.original
    return structs.replace(
        source,
        origin=origin,
        written=change(source.written),
        graph=change(source.graph),
        probe=change(source.probe),
        original=original and structs.replace(original, path=change(original.path)),
    )


def _path(_type: type, given: Any) -> Path:
    return Path(given)
