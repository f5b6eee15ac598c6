"""Weights that an ONNX file keeps beside itself: read from plain files of its own folder only.

Every file is opened once, part by part of its path and without following a link, and what
was checked is what is read: nobody can swap it in between. onnx's own reader was led out
of the folder time and again (CVE-2022-25882, CVE-2024-27318, CVE-2024-5187).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path, PurePosixPath

import onnx
from google.protobuf.message import Message
from onnx import TensorProto

from edgekit.errors import ModelError

LARGEST_BYTES = 2**31 - 1
"""Of all weights together: a graph is one protobuf message."""

_NO_LINK = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


def load(model: onnx.ModelProto, folder: Path) -> dict[str, bytes]:
    """Load a model's external data into it; what each file held, by its location.

    Raises:
        ModelError: data outside ``folder``, behind a link, a hard link, out of bounds, or
            more than ``LARGEST_BYTES``.
    """
    files: dict[str, bytes] = {}
    for tensor in tensors(model):
        if tensor.data_location != TensorProto.EXTERNAL:
            continue
        told = {entry.key: entry.value for entry in tensor.external_data}
        location = told.get("location", "")
        if location not in files:
            files[location] = _read(folder, location, sum(map(len, files.values())))
        tensor.raw_data = _slice(files[location], told, location)
        tensor.data_location = TensorProto.DEFAULT
        del tensor.external_data[:]
    return files


def tensors(message: Message) -> Iterator[TensorProto]:
    """Every tensor of a model, wherever it is: sparse, in an attribute, a branch or a function."""
    if isinstance(message, TensorProto):
        yield message
        return
    for field, value in message.ListFields():
        if field.type == field.TYPE_MESSAGE:
            for part in (value,) if isinstance(value, Message) else value:
                yield from tensors(part)


def _read(folder: Path, location: str, already: int) -> bytes:
    pure = PurePosixPath(location)
    if pure.is_absolute() or ".." in pure.parts or not pure.parts:
        raise _outside(location)
    try:
        with ExitStack() as opened:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            for part in pure.parts:
                opened.callback(os.close, descriptor)
                descriptor = os.open(part, _NO_LINK, dir_fd=descriptor)
            with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor, not a path
                _check(os.fstat(descriptor), location, already)
                return file.read()
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        if _meets_a_link(folder, pure):
            raise _outside(location) from error
        raise ModelError(
            f"the model keeps weights in {location!r}, which is not beside it",
            "copy the external data file into the model's folder",
        ) from error
    except OSError as error:
        if _meets_a_link(folder, pure):
            raise _outside(location) from error
        raise ModelError(f"external data {location!r} cannot be read: {error.strerror}") from error


def _meets_a_link(folder: Path, pure: PurePosixPath) -> bool:
    """Why a file could not be opened; only the message depends on it."""
    try:
        return any((folder / part).is_symlink() for part in (pure, *pure.parents))
    except (OSError, ValueError):
        return False


def _check(found: os.stat_result, location: str, already: int) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise ModelError(f"external data {location!r} cannot be read: it is no plain file")
    if found.st_nlink > 1:
        raise ModelError(f"external data {location!r} is a hard link", "copy the file instead")
    if already + found.st_size > LARGEST_BYTES:
        raise ModelError(
            f"the model's external data pass {LARGEST_BYTES} bytes with {location!r}",
            "edgekit takes models of up to 2 GiB",
        )


def _slice(content: bytes, told: dict[str, str], location: str) -> bytes:
    try:
        offset = int(told.get("offset") or 0)
        length = int(told.get("length") or len(content) - offset)
    except ValueError as error:
        raise ModelError(f"external data {location!r} cannot be read: {error}") from error
    if offset < 0 or length < 0 or offset + length > len(content):
        raise ModelError(
            f"external data {location!r} cannot be read: {length} bytes from {offset} of a file "
            f"that holds {len(content)}"
        )
    return content[offset : offset + length]


def _outside(location: str) -> ModelError:
    return ModelError(
        f"the model keeps weights in {location!r}, outside its own folder or behind a link",
        "external data must be plain files beside the model",
    )
