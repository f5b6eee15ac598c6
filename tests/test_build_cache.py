"""A build is found again when nothing that decides its bytes has changed, and only then."""

import shutil

import msgspec
import numpy as np
import onnx
import pytest

from edgekit import build_cache, profiles, resources
from edgekit.domain import Goal
from edgekit.pipeline import Request
from edgekit.planning import Choice
from tests import models


def external(path, location="weights.bin", seed=0):
    """A model whose weights lie in a file of their own."""
    made = models.model(
        [models.node("MatMul", ["x", "w"], ["y"])],
        [models.tensor("x", [1, 8])],
        [models.tensor("y", [1, 8])],
        {"w": models.weights(8, 8, seed=seed)},
    )
    (path.parent / location).parent.mkdir(parents=True, exist_ok=True)
    onnx.save(made, path, save_as_external_data=True, location=location, size_threshold=0)
    return path


@pytest.fixture
def folder(tmp_path):
    """A model with external data and calibration data for it."""
    made = tmp_path / "made"
    made.mkdir()
    external(made / "model.onnx")
    np.savez(made / "calibration.npz", x=np.zeros((4, 8), np.float32))
    return made


def entry(folder, **changes):
    request = Request(
        model=folder / "model.onnx",
        profile=profiles.find("raspberry-pi-5"),
        goal=Goal(max_accuracy_drop=0.01),
        choice=Choice(precisions=("int8",)),
        calibration=folder / "calibration.npz",
    )
    request = msgspec.structs.replace(request, **changes)
    return build_cache.entry(request.model, request, (request.calibration, request.evaluation))


def flip(path, at=-1):
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def test_it_stays_the_same(folder):
    assert entry(folder) == entry(folder)
    assert entry(folder).startswith("bundles/")


def test_it_does_not_change_with_where_the_files_lie(folder, tmp_path, monkeypatch):
    before = entry(folder)
    shutil.copytree(folder, tmp_path / "deep/down/elsewhere")
    shutil.rmtree(folder)
    assert entry(tmp_path / "deep/down/elsewhere") == before
    monkeypatch.chdir(tmp_path / "deep")
    assert entry(tmp_path.joinpath("deep/down/elsewhere").relative_to(tmp_path / "deep")) == before


@pytest.mark.parametrize("name", ["model.onnx", "weights.bin", "calibration.npz"])
def test_it_changes_with_a_byte_of_a_file(folder, name):
    before = entry(folder)
    flip(folder / name)
    assert entry(folder) != before


def test_it_changes_with_external_data_in_a_folder_below(folder):
    external(folder / "model.onnx", "parts/weights.bin")
    before = entry(folder)
    flip(folder / "parts/weights.bin")
    after = entry(folder)
    assert after != before
    (folder / "parts/weights.bin").unlink()
    assert entry(folder) not in (before, after)


def test_external_data_under_a_long_name_is_never_taken_for_the_same(folder):
    external(folder / "model.onnx", "w" * 200)
    assert entry(folder) != entry(folder)


def test_a_hostile_name_of_external_data_ends_nothing(folder):
    external(folder / "model.onnx", "w" * 120)
    raw = (folder / "model.onnx").read_bytes()
    (folder / "model.onnx").write_bytes(raw.replace(b"w" * 120, b"\xff" * 120))
    assert entry(folder) == entry(folder)


def test_external_data_outside_the_folder_are_not_read(folder):
    external(folder / "model.onnx", "in/outside.bin")
    (folder / "in/outside.bin").rename(folder.parent / "outside.bin")
    raw = (folder / "model.onnx").read_bytes()
    (folder / "model.onnx").write_bytes(raw.replace(b"in/outside", b"../outside"))
    before = entry(folder)
    flip(folder.parent / "outside.bin")
    assert entry(folder) == before


REQUESTS = [
    {"goal": Goal(max_accuracy_drop=0.02)},
    {"goal": Goal(max_accuracy_drop=0.01, max_size_mb=1)},
    {"profile": profiles.find("raspberry-pi-4")},
    {"choice": Choice(precisions=("float16",))},
    {"choice": Choice(precisions=())},
    {"shapes": {"x": (1, 8)}},
    {"metric": "cosine"},
    {"calibration": None},
]


@pytest.mark.parametrize("changes", REQUESTS, ids=lambda changes: next(iter(changes)))
def test_it_changes_with_the_request(folder, changes):
    assert entry(folder, **changes) != entry(folder)


def test_a_profile_that_was_edited_is_another(folder):
    profile = profiles.find("raspberry-pi-5")
    less = msgspec.structs.replace(profile.memory, model_budget_mib=1)
    edited = msgspec.structs.replace(profile, memory=less)
    assert entry(folder, profile=edited) != entry(folder)


def test_calibration_is_not_evaluation(folder):
    data = folder / "calibration.npz"
    seen = {
        entry(folder, calibration=data, evaluation=None),
        entry(folder, calibration=None, evaluation=data),
        entry(folder, calibration=data, evaluation=data),
    }
    assert len(seen) == 3


def test_it_changes_with_the_models_name_which_the_bundle_bears(folder):
    before = entry(folder)
    (folder / "model.onnx").rename(folder / "other.onnx")
    assert entry(folder, model=folder / "other.onnx") != before


def test_it_changes_with_the_runner_that_is_put_into_the_bundle(folder, tmp_path, monkeypatch):
    before = entry(folder)
    runner = tmp_path / "edgekit_runner.py"
    shutil.copyfile(resources.runner(), runner)
    monkeypatch.setattr(resources, "runner", lambda: runner)
    assert entry(folder) == before
    flip(runner)
    assert entry(folder) != before


def test_a_metric_of_the_users_own_code_is_never_taken_for_the_same(folder):
    assert entry(folder, metric="mine:score") != entry(folder, metric="mine:score")


def test_it_changes_with_a_tools_version(folder, monkeypatch):
    before = entry(folder)
    installed = build_cache.fingerprint.versions
    monkeypatch.setattr(
        build_cache.fingerprint, "versions", lambda names: installed(names) | {"onnx": "0.0.1"}
    )
    assert entry(folder) != before
