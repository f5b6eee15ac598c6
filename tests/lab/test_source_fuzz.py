"""Damaged files of every kind of source: an error or a model, and nothing else happens.

Each kind is a row of ``KINDS``. Its seeds are damaged at random for
``EDGEKIT_FUZZ_MINUTES`` (10 by default), and each result is read as a user's file is: in
a process of its own, under limits. Nothing but an ``EdgekitError`` may reach this process,
nothing may be written outside the folder, and no read may outlast its limit. Where a
damaged file was found to do harm, it is kept in ``EDGEKIT_FUZZ_KEEP``, if that is set.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
import os
import resource
import shutil
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seed_by
from hypothesis import strategies as st
from msgspec import Struct

from edgekit import inspection, sources
from edgekit.errors import EdgekitError, ToolMissing
from edgekit.sources import onnx_file, tensorflow
from edgekit.toolchain.process import GIB, Limits
from tests import models
from tests.hostile import programs

pytestmark = pytest.mark.lab

_LOG = logging.getLogger(__name__)
_BATCH = 20
"""Cases between two looks at the clock."""

MINUTES = float(os.environ.get("EDGEKIT_FUZZ_MINUTES", "10"))
KEEP = os.environ.get("EDGEKIT_FUZZ_KEEP")
LIMITS = Limits(seconds=60, memory_bytes=2 * GIB)
TENSORFLOW_LIMITS = Limits(seconds=60, memory_bytes=4 * GIB)
SLACK_S = 15

Seeds = Callable[[Path, pytest.FixtureRequest], list["Parts"]]


Parts = dict[str, bytes]
"""A file by its name, or the files of a folder or an archive."""


def _onnx(folder: Path, _request: pytest.FixtureRequest) -> list[Parts]:
    made = (
        models.conv_net(),
        models.dense_net(batch="N"),
        models.old_net(),
        models.qdq_net(),
        models.lstm_net(),
        models.nhwc_net(),
    )
    return [_file(models.save(one, folder / f"{index}.onnx")) for index, one in enumerate(made)]


def _pt2(folder: Path, _request: pytest.FixtureRequest) -> list[Parts]:
    return [_file(programs.save(folder / "program.pt2"))]


def _tensorflow(*names: str) -> Seeds:
    """Of those that ``tests/tensorflow_models.py`` makes."""

    def seeds(_folder: Path, request: pytest.FixtureRequest) -> list[Parts]:
        made: Path = request.getfixturevalue("tensorflow_models")
        return [_folder_of(made / name) if (made / name).is_dir() else _file(made / name)
                for name in names]  # fmt: skip

    return seeds


def _members(name: str) -> Seeds:
    """The members of an archive: damaged from without, it is hardly ever more than that."""

    def seeds(_folder: Path, request: pytest.FixtureRequest) -> list[Parts]:
        made: Path = request.getfixturevalue("tensorflow_models")
        with zipfile.ZipFile(made / name) as archive:
            return [{member: archive.read(member) for member in archive.namelist()}]

    return seeds


def _file(path: Path) -> Parts:
    return {path.name: path.read_bytes()}


def _folder_of(path: Path) -> Parts:
    files = (file for file in path.rglob("*") if file.is_file())
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in files}


def _as_file(parts: Parts, path: Path) -> None:
    (content,) = parts.values()
    path.write_bytes(content)


def _as_folder(parts: Parts, path: Path) -> None:
    for name, content in parts.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)


def _as_archive(parts: Parts, path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)


class Kind(Struct, frozen=True):
    """A kind of source: its suffix, what makes small sound ones, and how their parts are kept."""

    suffix: str
    seeds: Seeds
    write: Callable[[Parts, Path], None] = _as_file


KINDS = {
    "onnx": Kind(".onnx", _onnx),
    "pt2": Kind(".pt2", _pt2),
    "tflite": Kind(".tflite", _tensorflow("conv.tflite", "lstm.tflite", "lstm_int8.tflite")),
    "h5": Kind(".h5", _tensorflow("two_by_two.h5")),
    "keras": Kind(".keras", _tensorflow("gru.keras", "two_by_two.keras")),
    "keras-members": Kind(".keras", _members("conv1d.keras"), _as_archive),
    "saved-model": Kind("", _tensorflow("saved"), _as_folder),
}

TOKENS = (b"\0", b"\xff" * 4, b"\x80" * 9 + b"\1", b"\xff" * 8, b"../../etc/passwd", b"/dev/zero")
TOKENS += (b"\x7f\xff\xff\xff", b"location", b"If", b"Loop", b"Constant", b"ConstantOfShape")


@st.composite
def damage(draw: st.DrawFn) -> list[tuple[str, float, bytes]]:
    """Edits: what to do, where (a fraction of the file), and with which bytes."""
    kind = st.sampled_from(("flip", "insert", "overwrite", "delete", "repeat", "cut"))
    content = st.one_of(st.binary(min_size=1, max_size=16), st.sampled_from(TOKENS))
    edit = st.tuples(kind, st.floats(0, 1, exclude_max=True), content)
    return draw(st.lists(edit, min_size=1, max_size=6))


def damaged(content: bytes, edits: list[tuple[str, float, bytes]]) -> bytes:
    """The content after the edits."""
    for kind, where, new in edits:
        at, size = int(where * len(content)), len(new)
        before, after = content[:at], content[at:]
        content = {
            "flip": lambda b=before, a=after, n=new: (
                b + bytes([(a[:1] or b"\0")[0] ^ n[0]]) + a[1:]
            ),
            "insert": lambda b=before, a=after, n=new: b + n + a,
            "overwrite": lambda b=before, a=after, n=new, s=size: b + n + a[s:],
            "delete": lambda b=before, a=after, s=size: b + a[s:],
            "repeat": lambda b=before, a=after, s=size: b + a[:s] * 50 + a,
            "cut": lambda b=before, a=after: b or a,
        }[kind]()
    return content


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tighter than a user's: what passes them is found sooner."""
    monkeypatch.setattr(onnx_file, "_LIMITS", LIMITS)
    monkeypatch.setattr(tensorflow, "_LIMITS", TENSORFLOW_LIMITS)


def listing(folder: Path) -> dict[str, str]:
    """Every file below a folder, with its digest."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("name", KINDS)
def test_damaged_files_do_no_harm(
    name: str, tmp_path: Path, limits: None, request: pytest.FixtureRequest
) -> None:
    kind = KINDS[name]
    seeds = kind.seeds(_made(tmp_path / "seeds"), request)
    outside = _made(tmp_path / "outside")
    (outside / "user.txt").write_text("the user's own")
    before, counted = listing(outside), {"model": 0, "refused": 0}
    deadline = time.monotonic() + 60 * MINUTES

    @settings(
        max_examples=_BATCH,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(data=st.data(), edits=damage())
    def one(data: st.DataObject, edits: list[tuple[str, float, bytes]]) -> None:
        if time.monotonic() > deadline:
            return
        parts = data.draw(st.sampled_from(seeds))
        part = data.draw(st.sampled_from(sorted(parts)))
        work = _made(tmp_path / "work")
        path = work / f"model{kind.suffix}"
        kind.write({**parts, part: damaged(parts[part], edits)}, path)
        try:
            counted[_read(path, _made(work / "graphs"))] += 1
        except ToolMissing:
            pytest.skip(f"what reads {name} is not installed")
        except BaseException:
            _keep(path)
            raise
        finally:
            shutil.rmtree(work)
        assert listing(outside) == before

    for number in itertools.count():
        if time.monotonic() > deadline:
            break
        seed_by(number)(one)()
    _LOG.info("%s: %s", name, counted)
    assert counted["refused"] > 0
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 < LIMITS.memory_bytes


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _read(path: Path, folder: Path) -> str:
    """Read one source as ``edgekit inspect`` does; what came of it."""
    before, started = _digests(path), time.monotonic()
    try:
        inspection.inspect(sources.load(path, folder))
    except ToolMissing:
        raise
    except EdgekitError as error:
        outcome = "refused" if error.message else "refused without a word"
    else:
        outcome = "model"
    assert time.monotonic() - started < LIMITS.seconds + SLACK_S
    assert _digests(path) == before
    return outcome


def _digests(path: Path) -> dict[str, str]:
    if path.is_dir():
        return listing(path)
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest()}


def _keep(path: Path) -> None:
    if not KEEP:
        return
    said = "".join(sorted(_digests(path).values()))
    kept = Path(KEEP) / f"{hashlib.sha256(said.encode()).hexdigest()[:12]}{path.suffix}"
    if path.is_dir():
        shutil.copytree(path, kept, dirs_exist_ok=True)
    else:
        shutil.copyfile(path, kept)
