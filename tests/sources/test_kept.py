"""A model is read once; whatever would be read differently is read again."""

from __future__ import annotations

import shutil
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from edgekit import sources
from edgekit.errors import ModelError
from edgekit.sources import readers
from tests.paths import DIGITS_MODEL


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """What is really read, as it is."""
    done: list[Path] = []
    real = readers.load

    def load(path: Path, *how: object, **named: object) -> sources.SourceModel:
        done.append(path)
        return real(path, *how, **named)

    monkeypatch.setattr(readers, "load", load)
    return done


def _read(path: Path, tmp_path: Path, **how: object) -> sources.SourceModel:
    return sources.load(path, tmp_path / "unused", cache=tmp_path / "cache", **how)


def test_the_second_time_it_is_found(reads: list[Path], tmp_path: Path) -> None:
    first, second = _read(DIGITS_MODEL, tmp_path), _read(DIGITS_MODEL, tmp_path)
    assert reads == [DIGITS_MODEL]
    assert second == first
    assert first.origin == DIGITS_MODEL.resolve()
    for path in (first.graph, first.written, first.probe):
        assert path.is_relative_to(tmp_path / "cache")
        assert path.stat().st_size > 0
    alone = readers.load(DIGITS_MODEL, tmp_path)
    assert alone.graph.read_bytes() == first.graph.read_bytes()
    assert alone.inputs == first.inputs


def test_another_name_or_content_is_read_again(reads: list[Path], tmp_path: Path) -> None:
    _read(DIGITS_MODEL, tmp_path)
    copy = shutil.copyfile(DIGITS_MODEL, tmp_path / "copy.onnx")
    assert _read(copy, tmp_path).name == "copy"
    model = onnx.load(copy)
    model.graph.node[0].name = "renamed"
    onnx.save(model, copy)
    _read(copy, tmp_path)
    assert reads == [DIGITS_MODEL, copy, copy]


def test_another_shape_is_read_again(reads: list[Path], tmp_path: Path) -> None:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, "n"]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "open", [x], [y])
    path = tmp_path / "open.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    sizes = [_read(path, tmp_path, shapes={"x": (1, n)}).inputs[0].shape for n in (3, 5, 3)]
    assert sizes == [(1, 3), (1, 5), (1, 3)]
    assert len(reads) == 2


def test_what_is_refused_is_not_kept(reads: list[Path], tmp_path: Path) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(DIGITS_MODEL.read_bytes()[:100])
    for _ in range(2):
        with pytest.raises(ModelError):
            _read(path, tmp_path)
    assert len(reads) == 2
    assert list((tmp_path / "cache" / "sources").iterdir()) == []
    with pytest.raises(ModelError, match="no such file"):
        _read(tmp_path / "absent.onnx", tmp_path)
