"""``--ort-package``: ONNX Runtime itself opens it, picks a variant and loads it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edgekit import bundle, exporting
from edgekit.domain import Interface, Picture
from edgekit.errors import BundleError, EdgekitError, UsageError
from tests.exporting import ort_model_package
from tests.exporting.conftest import LABELS
from tests.factories import make_bundle
from tests.paths import ROOT

pytestmark = pytest.mark.xdist_group("exports")
knows_packages = pytest.mark.skipif(
    ort_model_package.API is None, reason="this onnxruntime has no stable API for model packages"
)
CUDA = "CUDAExecutionProvider"


def changed(path: Path, folder: Path, **changes: Any) -> Path:
    """Another bundle of the same files."""
    with bundle.opened(path) as opened:
        shutil.copytree(opened.root, folder / "parts")
        manifest = msgspec.structs.replace(opened.manifest, **changes)
    bundle.write(folder / "parts", manifest, folder / "changed.edgekit")
    return folder / "changed.edgekit"


def looked(package: Path) -> dict[str, Any]:
    """What ONNX Runtime says of a package, in a process that it cannot take with it."""
    argv = [sys.executable, "-m", ort_model_package.__name__, str(package)]
    ran = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


@knows_packages
def test_onnx_runtime_opens_it_and_loads_what_it_picks(onnx_bundle: Path, tmp_path: Path) -> None:
    accelerated = changed(onnx_bundle, tmp_path, delegate=CUDA)
    out = tmp_path / "out"
    exporting.export(accelerated, "ort-package", out, name="digits", others=[onnx_bundle])
    found = looked(out)
    assert found["component"] == "digits"
    assert found["variants"] == {"cuda": CUDA, "cpu": "CPUExecutionProvider"}
    assert (found["schema"], found["chosen"]) == (1, "cpu")
    assert Path(found["folder"]) == out / "digits" / "cpu"
    assert (found["inputs"], found["outputs"]) == (1, 1)
    with bundle.opened(onnx_bundle) as opened:
        assert (out / "digits/cpu/model.onnx").read_bytes() == opened.artifact.read_bytes()


@knows_packages
def test_the_test_can_fail(onnx_bundle: Path, tmp_path: Path) -> None:
    exporting.export(onnx_bundle, "ort-package", tmp_path / "out", name="digits")
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    (tmp_path / "out/manifest.json").write_text(json.dumps(manifest | {"configs_dir": "x"}))
    with pytest.raises(AssertionError, match="unknown field 'configs_dir'"):
        looked(tmp_path / "out")


def test_what_an_application_has_to_know(onnx_bundle: Path, tmp_path: Path) -> None:
    shown = Interface(pictures={"image": Picture(colours="gray")}, labels=LABELS)
    path = changed(onnx_bundle, tmp_path, interface=shown)
    exporting.export(path, "ort-package", tmp_path / "out", name="digits")
    component = json.loads((tmp_path / "out/digits/component.json").read_text())
    told = component["additional_metadata"]["edgekit"]
    assert told["labels"] == list(LABELS)
    assert told["inputs"][0]["picture"]["colours"] == "gray"
    with bundle.opened(path) as opened:
        variant = component["variants"]["cpu"]["additional_metadata"]["edgekit"]
        assert variant["sha256"] == opened.manifest.artifact.sha256


def refused(tmp_path: Path, *paths: Path, platform: str = "ort-package") -> EdgekitError:
    with pytest.raises(EdgekitError) as caught:
        exporting.export(paths[0], platform, tmp_path / "refused", others=paths[1:])
    assert not (tmp_path / "refused").exists()
    return caught.value


def test_bundles_that_do_not_belong_together(tmp_path: Path) -> None:
    first = make_bundle(tmp_path / "tiny").root
    (tmp_path / "a").mkdir()
    other = changed(first, tmp_path / "a", model_sha256="1" * 64, delegate=CUDA)
    assert "are of two models" in refused(tmp_path, first, other).message
    assert "two bundles are for CPUExecutionProvider" in refused(tmp_path, first, first).message
    with bundle.opened(first) as opened:
        artifact = opened.manifest.artifact
        one = artifact.inputs[0]
        half = msgspec.structs.replace(one.artifact, dtype="float16")
        inputs = (msgspec.structs.replace(one, artifact=half),)
        artifact = msgspec.structs.replace(artifact, inputs=inputs)
    (tmp_path / "b").mkdir()
    odd = changed(first, tmp_path / "b", artifact=artifact, delegate=CUDA)
    assert "takes or gives other tensors" in refused(tmp_path, first, odd).message


def test_one_bundle_is_enough_for_others(tmp_path: Path) -> None:
    first = make_bundle(tmp_path / "tiny").root
    error = refused(tmp_path, first, first, platform="python")
    assert isinstance(error, UsageError)
    assert error.message == "--python takes one bundle, got 2"


@pytest.mark.parametrize("provider", ["../../x", "cpu", " ", "A/ExecutionProvider"])
def test_what_is_no_execution_provider_names_no_folder(tmp_path: Path, provider: str) -> None:
    tiny = changed(make_bundle(tmp_path / "tiny").root, tmp_path / "odd", delegate=provider)
    with pytest.raises(BundleError, match="expected an execution provider"):
        exporting.export(tiny, "ort-package", tmp_path / "out")
