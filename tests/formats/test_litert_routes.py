"""The ways to LiteRT: the first whose file runs and agrees is taken; why not others is said."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edgekit.domain import Format, Recipe
from edgekit.errors import ConversionFailed, ToolError, ToolMissing
from edgekit.formats import Job, litert, litert_routes
from edgekit.formats.litert_routes import Route
from edgekit.sources import Original, SourceModel
from edgekit.toolchain.environments import TENSORFLOW

SMALLER = "onnx2tf 2.6.9 of smaller operators"
RECIPE = Recipe(format=Format.LITERT, runtime="litert")


@pytest.fixture
def right(source: SourceModel, cache: Path, tmp_path: Path) -> Path:
    """What onnx2tf made of the source, kept for all tests of the format."""
    job = Job(source=source, recipe=RECIPE, folder=tmp_path, cache=cache)
    return litert._converted(job) / litert._FLOAT


def gives(path: Path) -> Route:
    """A way that ends at a copy of a file."""

    def convert(_source: SourceModel, scratch: Path) -> Path:
        return Path(shutil.copyfile(path, scratch / "made.tflite"))

    return Route(name=path.stem, convert=convert)


def fails(name: str, error: ToolError) -> Route:
    def convert(_source: SourceModel, _scratch: Path) -> Path:
        raise error

    return Route(name=name, convert=convert)


def converted(source: SourceModel, folder: Path, *routes: Route) -> litert.Converted:
    """What is kept of a conversion by these ways; the folder holds nothing else."""
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(litert_routes, "ROUTES", routes)
        made = litert._converted(Job(source=source, recipe=RECIPE, folder=folder))
    assert sorted(p.name for p in made.iterdir()) == [litert._CONVERTED, litert._FLOAT]
    return msgspec.json.decode((made / litert._CONVERTED).read_bytes(), type=litert.Converted)


def other(source: SourceModel, folder: Path) -> SourceModel:
    """A source that gives something else: no file that was right for the first is for it."""
    probe = folder / "other.npz"
    with np.load(source.probe) as archive:
        np.savez(probe, *(archive[name] + 1 for name in archive.files))
    return msgspec.structs.replace(source, probe=probe)


def test_the_first_that_agrees_is_taken_and_why_others_were_not_is_said(
    source: SourceModel, right: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(b"TFL3" * 8)
    refuses = fails("refuses", ToolError("no such operator", "line one\nGELU"))
    kept = converted(source, tmp_path / "made", refuses, gives(broken), gives(right), refuses)
    first, second, third = kept.notes
    assert first == "by float"
    assert second == "refuses did not do: no such operator (line one GELU)"
    assert third.startswith("broken did not do: ")
    assert [b.source for b in (*kept.inputs, *kept.outputs)] == [*source.inputs, *source.outputs]


def test_a_file_that_runs_and_gives_something_else_is_not_taken(
    source: SourceModel, right: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConversionFailed) as caught:
        converted(other(source, tmp_path), tmp_path / "made", gives(right))
    assert "float did not do: the converted model does not give what" in caught.value.message


def test_where_a_tool_was_missing_that_is_the_error(
    source: SourceModel, right: Path, tmp_path: Path
) -> None:
    """It is no verdict on the model: with the tool there may be a way."""
    missing = fails("missing", ToolMissing("no network", "install it"))
    failing = fails("failing", ToolError("no such operator"))
    with pytest.raises(ToolMissing, match="no network"):
        converted(source, tmp_path / "one", failing, missing)
    kept = converted(source, tmp_path / "two", missing, gives(right))
    assert kept.notes == ("by float", "missing did not do: no network (install it)")


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (None, ["onnx2tf 2.6.9", SMALLER, "onnxsim"]),
        ("tflite", ["the .tflite file itself", "onnx2tf 2.6.9", SMALLER, "onnxsim"]),
        ("keras", ["TFLiteConverter", "onnx2tf 2.6.9", SMALLER, "onnxsim"]),
        ("saved_model", ["TFLiteConverter", "onnx2tf 2.6.9", SMALLER, "onnxsim"]),
    ],
)
def test_which_ways_are_open_to_which_source(
    kind: str | None, names: list[str], source: SourceModel, tmp_path: Path
) -> None:
    original = None if kind is None else Original(kind=kind, path=tmp_path / "original")
    of = litert_routes.of(msgspec.structs.replace(source, original=original))
    assert [route.name for route in of] == names


def test_the_last_way_installs_nothing_by_itself(
    source: SourceModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEKIT_TOOLCHAIN", str(tmp_path / "toolchain"))
    if all(map(find_spec, TENSORFLOW.extra)):
        pytest.skip("this Python has the extra")
    with pytest.raises(ToolError, match="edgekit toolchain install tensorflow"):
        litert_routes.ROUTES[-1].convert(source, tmp_path)
    assert not (tmp_path / "toolchain").exists()
