"""Calibration and evaluation data: ``.npz`` files read as a stream, never as a whole.

A file holds ``x``, or one array per input of the model, with the samples on the first
axis; evaluation data may also hold ``y``, the labels. Memory does not grow with the
number of samples: a member of the zip is decoded a few samples at a time.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import permutations
from math import prod
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from edgekit.domain import TensorSpec
from edgekit.errors import DataError

LABELS = "y"
SINGLE = "x"
_MAX_AXES = 5
UNREADABLE = (
    *(OSError, EOFError, ValueError, TypeError, SyntaxError, ArithmeticError, RuntimeError),
    *(MemoryError, zipfile.BadZipFile, zlib.error, TokenError),
)
"""What zipfile and NumPy raise over a damaged or forged file."""

Array = NDArray[Any]
Sample = dict[str, Array]


class Member(Struct, frozen=True):
    """An array of the file: samples on the first axis."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    kind: str


class Dataset(Struct, frozen=True):
    """Data for a model's inputs, checked against them.

    Attributes:
        members: input name -> the array of the file that feeds it.
        inputs: the model's inputs, each with its batch axis of one.
        count: number of samples.
    """

    path: Path
    members: dict[str, Member]
    inputs: tuple[TensorSpec, ...]
    count: int
    sha256: str

    def samples(self) -> Iterator[Sample]:
        """Each sample as the model takes it: input name -> array of the input's shape."""
        with _reading(self.path), zipfile.ZipFile(self.path) as archive, ExitStack() as stack:
            streams = [
                (spec, _rows(stack.enter_context(archive.open(f"{member.name}.npy"))))
                for spec in self.inputs
                for member in (self.members[spec.name],)
            ]
            for _ in range(self.count):
                yield {spec.name: self._fitted(next(rows), spec) for spec, rows in streams}

    def labels(self) -> Array | None:
        """The labels, ``[count]`` or ``[count, ...]``; ``None`` when the file has none."""
        if any(member.name == LABELS for member in self.members.values()):
            return None
        with _reading(self.path), np.load(self.path, allow_pickle=False) as archive:
            return np.asarray(archive[LABELS]) if LABELS in archive.files else None

    def _fitted(self, row: Array, spec: TensorSpec) -> Array:
        """A row as the input takes it; a number that turns into another one is refused."""
        fitted = row.astype(spec.dtype, copy=False)
        if fitted.dtype.kind != "f" and not np.array_equal(fitted, row):
            raise DataError(f"{self.path}: a number for {spec.name!r} does not fit {spec.dtype}")
        return fitted.reshape(spec.shape)


def save(path: Path, samples: Iterable[Mapping[str, Array]]) -> None:
    """Write samples to a ``.npz``, one after another: never all of them are in memory.

    Args:
        path: where to.
        samples: arrays by name, without a batch axis; of each name all of one shape and type.

    Raises:
        DataError: there are none, or one is unlike the first.
    """
    with ExitStack() as stack:
        aside = tempfile.TemporaryDirectory(dir=path.parent, prefix=".saving-")
        folder = Path(stack.enter_context(aside))
        files: dict[str, IO[bytes]] = {}
        first: dict[str, Array] = {}
        count = 0
        for count, sample in enumerate(samples, 1):
            if not first:
                first = {name: np.asarray(array) for name, array in sample.items()}
                files = {
                    name: stack.enter_context((folder / str(n)).open("w+b"))
                    for n, name in enumerate(first)
                }
            _append(files, first, sample, count - 1)
        if not count:
            raise DataError("there are no samples")
        with zipfile.ZipFile(path, "w") as archive:
            for name, rows in files.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    _write_rows(member, rows, first[name], count)


def _append(
    files: Mapping[str, IO[bytes]],
    first: Mapping[str, Array],
    sample: Mapping[str, Array],
    index: int,
) -> None:
    if sample.keys() != first.keys():
        raise DataError(
            f"sample {index} has {', '.join(sorted(sample))}, the first {', '.join(sorted(first))}"
        )
    for name, array in sample.items():
        row, told = np.asarray(array), first[name]
        if (row.shape, row.dtype) != (told.shape, told.dtype):
            raise DataError(
                f"{name!r} of sample {index} is {row.dtype} {list(row.shape)}, "
                f"of the first {told.dtype} {list(told.shape)}"
            )
        files[name].write(np.ascontiguousarray(row).tobytes())


def _write_rows(member: IO[bytes], rows: IO[bytes], like: Array, count: int) -> None:
    descr = np.lib.format.dtype_to_descr(like.dtype)
    header = {"descr": descr, "fortran_order": False, "shape": (count, *like.shape)}
    np.lib.format.write_array_header_1_0(member, header)
    rows.seek(0)
    shutil.copyfileobj(rows, member)


def load(path: Path, inputs: tuple[TensorSpec, ...]) -> Dataset:
    """Open a file and check that it fits the model.

    Raises:
        DataError: no such file, no ``.npz``, an array that is missing, of another shape
            than the input's, or of another length than the others.
    """
    members = _members(path)
    chosen = _assigned(path, members, inputs)
    counts = {member.name: member.shape[0] for member in chosen.values()}
    if LABELS in members:
        counts[LABELS] = members[LABELS].shape[0] if members[LABELS].shape else 0
    if len(set(counts.values())) != 1 or 0 in counts.values():
        raise DataError(f"{path}: the arrays differ in their number of samples: {counts}")
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return Dataset(path, chosen, inputs, next(iter(counts.values())), sha256)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn what zipfile and NumPy raise over a damaged or forged file into a ``DataError``."""
    try:
        yield
    except FileNotFoundError as error:
        raise DataError(f"no such file: {path}") from error
    except UNREADABLE as error:
        raise DataError(
            f"{path} is not a NumPy .npz file: {error or type(error).__name__}",
            "numpy.savez(path, x=..., y=...) makes one",
        ) from error


def _members(path: Path) -> dict[str, Member]:
    with _reading(path), zipfile.ZipFile(path) as archive:
        entries = [entry for entry in archive.infolist() if entry.filename.endswith(".npy")]
        members = [_member(path, archive, entry) for entry in entries]
    return {member.name: member for member in members}


def _member(path: Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Member:
    name = entry.filename.removesuffix(".npy")
    with archive.open(entry) as stream:
        shape, fortran, dtype = _read_header(stream)
        held = entry.file_size - stream.tell()
    if dtype.hasobject:
        raise DataError(f"{path}: {name!r} holds Python objects, expected numbers")
    if fortran and len(shape) > 1:
        raise DataError(
            f"{path}: the samples of {name!r} are not contiguous (Fortran order)",
            f"save numpy.ascontiguousarray({name})",
        )
    if min(shape, default=0) < 0 or prod(shape) * dtype.itemsize != held:
        raise ValueError(f"{name!r} holds {held} bytes, expected {dtype.name} of {list(shape)}")
    return Member(name, shape, dtype.name, dtype.kind)


def _read_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(stream)
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in readers:
        raise ValueError(f"unknown .npy version {version}")
    return readers[version](stream)


def _rows(stream: IO[bytes]) -> Iterator[Array]:
    """The array's rows, one at a time."""
    shape, _, dtype = _read_header(stream)
    row = int(np.prod(shape[1:], dtype=np.int64)) * dtype.itemsize
    for _ in range(shape[0]):
        data = stream.read(row)
        if len(data) != row:
            raise ValueError("the array ends before its last sample")
        yield np.frombuffer(data, dtype).reshape(shape[1:])


def _assigned(
    path: Path, members: Mapping[str, Member], inputs: tuple[TensorSpec, ...]
) -> dict[str, Member]:
    data = members
    if len(inputs) == 1 and SINGLE in members:
        (only,) = inputs
        if only.name == LABELS or only.name not in members:
            data = {only.name: members[SINGLE]}
    missing = [spec.name for spec in inputs if spec.name not in data]
    if missing:
        raise DataError(
            f"{path} has no array for the input {missing[0]!r}; it holds: "
            f"{', '.join(sorted(members)) or 'nothing'}",
            f"name the arrays after the model's inputs ({', '.join(s.name for s in inputs)})"
            + (f" or, for a single input, {SINGLE!r}" if len(inputs) == 1 else ""),
        )
    chosen = {spec.name: data[spec.name] for spec in inputs}
    for spec in inputs:
        _check_shape(path, spec, chosen[spec.name])
    return chosen


def _check_shape(path: Path, spec: TensorSpec, member: Member) -> None:
    """A sample must have the input's axes; axes of one may be left out, nothing else."""
    if not member.shape:
        raise DataError(f"{path}: {member.name} is a single number, expected samples")
    got = tuple(size for size in member.shape[1:] if size != 1)
    expected = tuple(size for size in spec.shape if size != 1)
    if got == expected:
        _check_dtype(path, spec, member)
        return
    hint = "one sample per row, each of the model's input shape without the batch axis"
    if order := _order(member.shape[1:], spec.shape[1:]):
        axes = ", ".join(str(axis) for axis in (0, *(axis + 1 for axis in order)))
        hint = f"the axes are in another order: save numpy.ascontiguousarray(x.transpose({axes}))"
    raise DataError(
        f"{path}: samples of {member.name!r} have shape {list(member.shape[1:])}, the input "
        f"{spec.name!r} takes {list(spec.shape[1:])}",
        hint,
    )


def _order(got: tuple[int, ...], expected: tuple[int, ...]) -> tuple[int, ...] | None:
    """The order of axes that makes one shape the other; ``None`` when there is none."""
    if len(got) > _MAX_AXES or sorted(got) != sorted(expected):
        return None
    orders = permutations(range(len(got)))
    return next(order for order in orders if tuple(got[axis] for axis in order) == expected)


def _check_dtype(path: Path, spec: TensorSpec, member: Member) -> None:
    to_float = np.dtype(spec.dtype).kind == "f"
    if member.kind not in "fiub" or (member.kind == "f" and not to_float):
        raise DataError(
            f"{path}: {member.name!r} holds {member.dtype}, "
            f"the input {spec.name!r} takes {spec.dtype}"
        )
