"""Keras files looked at before Keras sees them: what could run code or read other files.

A ``.keras`` file is a zip of a configuration and HDF5 weights, an ``.h5`` file is HDF5 with
the configuration in an attribute. Keras runs what a configuration names; its own
``safe_mode`` does not cover HDF5 (CVE-2025-9905), nor every class that a ``.keras`` file can
name (CVE-2025-1550, CVE-2025-8747, CVE-2025-9906), nor files beside it (CVE-2025-12058).
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, BinaryIO

from edgekit.errors import ModelError

if TYPE_CHECKING:
    import h5py

_CONFIG, _WEIGHTS = "config.json", "model.weights.h5"
_MEMBERS = frozenset({"metadata.json", _CONFIG, _WEIGHTS})
_MOST_MEMBERS = 1000
_MOST_BYTES = 4 << 30
_MOST_CONFIG_BYTES = 64 << 20
_MOST_RATIO = 200
"""Weights hardly compress; a bomb does, a thousandfold."""
_MOST_OBJECTS = 100_000

_KERAS_PACKAGES = ("keras", "keras_core", "tf_keras", "builtins")
_CODE = {
    "Lambda": "a Lambda layer, which is Python code",
    "TFSMLayer": "a layer that loads a SavedModel from another place",
    "TorchModuleWrapper": "a pickled PyTorch module",
    "JaxLayer": "a function that is Python code",
    "FlaxLayer": "a function that is Python code",
    "__lambda__": "a function that is Python code",
}
_FILE_KEYS = ("vocabulary",)
"""What lookup layers read from the path that it names."""
_TRUST = "if you know who made it, --trust lets it run"


def check(path: Path, *, trusted: bool) -> str:
    """Look at a ``.keras`` or HDF5 file; the version of Keras that wrote it, or nothing.

    Raises:
        ModelError: damaged, too large, or it would run code or read other files. Of a
            trusted file, only code is let through.
    """
    config, version = (_archive if zipfile.is_zipfile(path) else _hdf5)(path)
    if not trusted:
        for reason in _reasons(config):
            raise ModelError(f"{path.name} holds {reason}", _TRUST)
    return version


def _archive(path: Path) -> tuple[Any, str]:
    try:
        with zipfile.ZipFile(path) as archive:
            _check_members(path.name, archive.infolist())
            with io.BytesIO(archive.read(_WEIGHTS)) as weights:
                _check_links(weights, path.name)
            config = _decoded(archive.read(_CONFIG), path.name)
            told = _decoded(archive.read("metadata.json"), path.name)
    except (zipfile.BadZipFile, KeyError, NotImplementedError, EOFError, OSError) as error:
        raise ModelError(f"{path.name} is not a Keras archive, or it is damaged: {error}") from None
    return config, str(told.get("keras_version", "")) if isinstance(told, dict) else ""


def _check_members(name: str, members: list[zipfile.ZipInfo]) -> None:
    names = [member.filename for member in members]
    if len(names) > _MOST_MEMBERS or len(set(names)) != len(names):
        raise ModelError(f"{name} holds too many files, or one twice")
    for member in members:
        parts = PurePosixPath(member.filename).parts
        inside = member.filename in _MEMBERS or (parts[:1] == ("assets",) and ".." not in parts)
        if not inside:
            raise ModelError(f"{name} holds {member.filename!r}, which no Keras model does")
        if member.file_size > _MOST_RATIO * max(member.compress_size, 1024):
            raise ModelError(f"{name} holds {member.filename!r}, which unpacks to far too much")
    if sum(member.file_size for member in members) > _MOST_BYTES:
        raise ModelError(f"{name} unpacks to more than 4 GiB")


def _hdf5(path: Path) -> tuple[Any, str]:
    import h5py

    with path.open("rb") as file:
        _check_links(file, path.name)
        with h5py.File(file, "r") as opened:
            config = opened.attrs.get("model_config")
            version = _text(opened.attrs.get("keras_version", ""))
    if config is None:
        raise ModelError(
            f"{path.name} holds no model, only weights or other data",
            "save the whole model: model.save(...)",
        )
    return _decoded(config, path.name), version


def _check_links(file: BinaryIO | io.BytesIO, name: str) -> None:
    """Everything lies in this one file: no links out of it, no data kept elsewhere."""
    import h5py

    try:
        with h5py.File(file, "r") as opened:
            for count, what in enumerate(_leaks(opened)):
                if what or count > _MOST_OBJECTS:
                    raise ModelError(f"{name} {what or 'holds far too many objects'}")
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        raise ModelError(f"{name} is not an HDF5 file, or it is damaged: {error}") from error


def _leaks(opened: h5py.File) -> Iterator[str]:
    """For every object of a file what it reaches outside of it; nothing for most."""
    import h5py

    waiting, seen = [opened["/"]], {opened["/"].id.__hash__()}
    while waiting:
        group = waiting.pop()
        for name in group:
            link = group.get(name, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                yield f"links to another file: {link.filename!r}"
            elif isinstance(link, h5py.HardLink):
                item = group[name]
                if isinstance(item, h5py.Dataset):
                    yield _elsewhere(item)
                elif isinstance(item, h5py.Group) and item.id.__hash__() not in seen:
                    seen.add(item.id.__hash__())
                    waiting.append(item)
            yield ""


def _elsewhere(data: h5py.Dataset) -> str:
    if data.external:
        return f"keeps data in another file: {data.external[0][0]!r}"
    return "keeps data in other files (a virtual dataset)" if data.is_virtual else ""


def _decoded(raw: Any, name: str) -> Any:
    if len(raw) > _MOST_CONFIG_BYTES:
        raise ModelError(f"the configuration of {name} takes more than 64 MiB")
    try:
        return json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"the configuration of {name} is damaged: {error}") from error


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _reasons(config: Any) -> Iterator[str]:
    """What in a configuration would run code or read files."""
    waiting = [config]
    while waiting:
        part = waiting.pop()
        if isinstance(part, list):
            waiting += part
        elif isinstance(part, dict):
            yield from _of_object(part)
            waiting += part.values()


def _of_object(part: dict[str, Any]) -> Iterator[str]:
    name, module = part.get("class_name"), part.get("module")
    if isinstance(name, str) and name in _CODE:
        yield _CODE[name]
    if isinstance(module, str) and module.partition(".")[0] not in _KERAS_PACKAGES:
        yield f"{name or 'something'} of the module {module!r}, which is not Keras"
    if module == "builtins" and part.get("class_name") == "function":
        yield f"the function {part.get('config')!r} of Python itself"
    if isinstance(name, str) and ">" in name:
        yield f"{name}, a class of the user's own"
    for key in _FILE_KEYS:
        if isinstance(part.get(key), str):
            yield f"a layer that reads the file {part[key]!r}"
