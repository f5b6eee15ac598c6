"""Damaged files of every kind of source: an error or a model, and nothing else happens.

Each kind is a row of ``SEEDS``. Its seeds are damaged at random for
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
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seed_by
from hypothesis import strategies as st

from edgekit import inspection, sources
from edgekit.errors import EdgekitError, ToolMissing
from edgekit.sources import onnx_file
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
SLACK_S = 15


def _onnx(folder: Path) -> list[Path]:
    made = (
        models.conv_net(),
        models.dense_net(batch="N"),
        models.old_net(),
        models.qdq_net(),
        models.lstm_net(),
        models.nhwc_net(),
    )
    return [models.save(one, folder / f"{index}.onnx") for index, one in enumerate(made)]


def _pt2(folder: Path) -> list[Path]:
    return [programs.save(folder / "program.pt2")]


SEEDS: dict[str, Callable[[Path], list[Path]]] = {".onnx": _onnx, ".pt2": _pt2}
"""A kind's suffix -> what writes small sound files of it."""

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


def listing(folder: Path) -> dict[str, str]:
    """Every file below a folder, with its digest."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("suffix", SEEDS)
def test_damaged_files_do_no_harm(suffix: str, tmp_path: Path, limits: None) -> None:
    seeds = [path.read_bytes() for path in SEEDS[suffix](_made(tmp_path / "seeds"))]
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
    @given(seed=st.sampled_from(seeds), edits=damage())
    def one(seed: bytes, edits: list[tuple[str, float, bytes]]) -> None:
        content, work = damaged(seed, edits), _made(tmp_path / "work")
        try:
            counted[_read(content, suffix, work)] += 1
        except ToolMissing:
            pytest.skip(f"what reads {suffix} is not installed")
        except BaseException:
            _keep(content, suffix)
            raise
        finally:
            shutil.rmtree(work)
        assert listing(outside) == before

    for number in itertools.count():
        if time.monotonic() > deadline:
            break
        seed_by(number)(one)()
    _LOG.info("%s: %s", suffix, counted)
    assert counted["refused"] > 0
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 < LIMITS.memory_bytes


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _read(content: bytes, suffix: str, work: Path) -> str:
    """Read one file as ``edgekit inspect`` does; what came of it."""
    path = work / f"model{suffix}"
    path.write_bytes(content)
    started = time.monotonic()
    try:
        source = sources.load(path, _made(work / "graphs"))
        inspection.inspect(source)
    except ToolMissing:
        raise
    except EdgekitError as error:
        outcome = "refused" if error.message else "refused without a word"
    else:
        outcome = "model"
    assert time.monotonic() - started < LIMITS.seconds + SLACK_S
    assert path.read_bytes() == content
    return outcome


def _keep(content: bytes, suffix: str) -> None:
    if KEEP:
        name = hashlib.sha256(content).hexdigest()[:12]
        (Path(KEEP) / f"{name}{suffix}").write_bytes(content)
