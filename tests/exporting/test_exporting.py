"""Every export: the same bytes again, nothing overwritten that is another's, nothing outside."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import msgspec
import pytest

from edgekit import exporting
from edgekit.bundle import opened, write
from edgekit.cli import arguments
from edgekit.domain import Format
from edgekit.errors import BundleError, EdgekitError, UsageError
from edgekit.exporting import EXPORTS, folder
from edgekit.exporting.contract import ExportSpec, Files, Package
from tests.factories import make_bundle


def echoes(package: Package) -> Files:
    """The artifact and a file that names it."""
    return {
        f"assets/{package.name}.onnx": package.model,
        "wrapper.txt": f"{package.name} {package.sha256}".encode(),
    }


@pytest.fixture
def platform(monkeypatch: pytest.MonkeyPatch) -> str:
    """A platform of the tests, that takes what the factories make."""
    spec = ExportSpec(platform="echo", formats=(Format.ONNXRUNTIME,), files=echoes)
    monkeypatch.setitem(EXPORTS, "echo", spec)
    return "echo"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return make_bundle(tmp_path / "tiny").root


def tree(path: Path) -> dict[str, bytes]:
    return {p.relative_to(path).as_posix(): p.read_bytes() for p in path.rglob("*") if p.is_file()}


def refused(bundle: Path, platform: str, destination: Path, **options: str) -> EdgekitError:
    with pytest.raises(EdgekitError) as caught:
        exporting.export(bundle, platform, destination, **options)
    return caught.value


def test_the_command_line_offers_every_platform() -> None:
    assert set(arguments.EXPORTS) == set(EXPORTS)
    assert all(name == spec.platform and spec.formats for name, spec in EXPORTS.items())


def test_an_export_and_its_record(bundle: Path, platform: str, tmp_path: Path) -> None:
    made = exporting.export(bundle, platform, tmp_path / "out")
    files = tree(tmp_path / "out")
    record = json.loads(files.pop(folder.RECORD))
    assert set(files) == {"assets/tiny.onnx", "wrapper.txt"}
    assert record["files"] == {n: hashlib.sha256(c).hexdigest() for n, c in files.items()}
    assert (record["platform"], record["name"]) == ("echo", "tiny")
    assert files["assets/tiny.onnx"] == (bundle / "model.onnx").read_bytes()
    assert record["artifact_sha256"] == record["files"]["assets/tiny.onnx"]
    assert made.size_bytes == sum(map(len, files.values()))


def test_the_same_bundle_gives_the_same_bytes(bundle: Path, platform: str, tmp_path: Path) -> None:
    for name in ("one", "two"):
        exporting.export(bundle, platform, tmp_path / name)
    assert tree(tmp_path / "one") == tree(tmp_path / "two")


def test_an_earlier_export_is_replaced(bundle: Path, platform: str, tmp_path: Path) -> None:
    """Whole: what the new one does not have is gone."""
    exporting.export(bundle, platform, tmp_path / "out", name="before")
    exporting.export(bundle, platform, tmp_path / "out", name="after")
    assert set(tree(tmp_path / "out")) == {"assets/after.onnx", "wrapper.txt", folder.RECORD}


def test_what_is_another_s_is_left_alone(bundle: Path, platform: str, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    assert "holds something else" in refused(bundle, platform, mine).message
    assert "is a file" in refused(bundle, platform, mine / "thesis.txt").message
    assert tree(mine) == {"thesis.txt": b"years of work"}


@pytest.mark.parametrize("change", ["edit", "add", "remove"])
def test_a_change_to_an_export_is_not_lost(
    bundle: Path, platform: str, tmp_path: Path, change: str
) -> None:
    out = tmp_path / "out"
    exporting.export(bundle, platform, out)
    if change == "remove":
        (out / "wrapper.txt").unlink()
    else:
        (out / {"edit": "wrapper.txt", "add": "notes.txt"}[change]).write_text("mine")
    before = tree(out)
    error = refused(bundle, platform, out)
    assert isinstance(error, BundleError)
    assert "is not as it was exported" in error.message
    assert tree(out) == before


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/../../evil", "a\\b", folder.RECORD])
def test_no_file_lands_outside(
    bundle: Path, platform: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    spec = ExportSpec(platform="echo", formats=(Format.ONNXRUNTIME,), files=lambda _: {name: b"x"})
    monkeypatch.setitem(EXPORTS, "echo", spec)
    before = tree(tmp_path)
    assert repr(name) in refused(bundle, platform, tmp_path / "out").message
    assert tree(tmp_path) == before


def test_a_format_that_the_platform_does_not_take(bundle: Path, tmp_path: Path) -> None:
    error = refused(bundle, "c", tmp_path / "out")
    assert isinstance(error, UsageError)
    assert error.message.endswith("holds a model for onnxruntime, --c takes litert")
    assert error.hint == "build the bundle with --format litert"
    assert not (tmp_path / "out").exists()


def test_a_platform_that_there_is_not(bundle: Path, tmp_path: Path) -> None:
    assert "no platform 'symbian'" in refused(bundle, "symbian", tmp_path / "out").message


@pytest.mark.parametrize(
    "name", ["2go", "a-b", "Tiny", "class", "boolean", "time", "numpy", "a" * 65, "", "../x"]
)
def test_a_name_that_is_none(bundle: Path, platform: str, tmp_path: Path, name: str) -> None:
    assert "--name" in refused(bundle, platform, tmp_path / "out", name=name).message


def test_a_model_that_is_called_as_a_library_is(platform: str, tmp_path: Path) -> None:
    """Its name is made of the model's: it is told apart, not refused."""
    made = make_bundle(tmp_path / "tiny").root
    with opened(made) as tiny:
        manifest = msgspec.structs.replace(tiny.manifest, model_name="Signal")
        shutil.copytree(tiny.root, tmp_path / "parts", ignore=shutil.ignore_patterns("manifest*"))
    write(tmp_path / "parts", manifest, tmp_path / "signal")
    record = exporting.export(tmp_path / "signal", platform, tmp_path / "out").record
    assert record.name == "signal_"


def test_a_damaged_bundle_is_not_exported(bundle: Path, platform: str, tmp_path: Path) -> None:
    (bundle / "model.onnx").write_bytes(b"weights" * 999 + b"Weights")
    assert isinstance(refused(bundle, platform, tmp_path / "out"), BundleError)
    assert not (tmp_path / "out").exists()
