"""Live objects: written to a file under the digest of its content, then read like any other."""

from __future__ import annotations

import os
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest

import edgekit as ek
from edgekit.errors import ModelError, UsageError
from edgekit.sources import live
from tests import models


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_an_onnx_object_is_read_like_its_file(tmp_path: Path) -> None:
    made = models.conv_net()
    from_file = ek.load(models.save(made, tmp_path / "tiny.onnx"))
    from_memory = ek.load(made)
    assert from_memory.summary == from_file.summary
    assert from_memory.path.name == "tiny.onnx"


def test_what_load_returns_is_built_like_a_file(tmp_path: Path) -> None:
    model = ek.load(models.dense_net())
    plan = ek.plan(model, device="generic-x86-64")
    data = np.random.default_rng(0).standard_normal((8, 1, 6)).astype(np.float32)
    built = ek.build(model, plan, tmp_path / "out.edgekit", evaluate=(data, np.zeros(8, int)))
    assert built.manifest.model_sha256 == model.summary.sha256


def test_an_object_that_did_not_change_is_the_same_file(cache: Path) -> None:
    first, second = ek.load(models.conv_net()), ek.load(models.conv_net())
    assert first == second
    other = models.conv_net()
    other.graph.node[0].attribute.pop()
    assert ek.load(other).path != first.path
    assert len(list((cache / "live").iterdir())) == 2


def test_an_object_is_not_changed() -> None:
    made = models.old_net()
    before = made.SerializeToString(deterministic=True)
    ek.load(made)
    assert made.SerializeToString(deterministic=True) == before


def test_the_shapes_of_an_object_are_kept() -> None:
    model = ek.load(models.sequence_net(), shapes={"x": (1, 7, 4)})
    assert model.summary.outputs[0].shape == (1, 7, 2)
    assert model.shapes == {"x": (1, 7, 4)}


@pytest.mark.parametrize("name", ["../../outside", "a/b", "..", "", "\0x", "-o", " net 2 "])
def test_a_graphs_name_never_leaves_the_store(name: str, cache: Path) -> None:
    made = models.dense_net()
    made.graph.name = name
    path = live.written(made, None, cache)
    assert path.parent.parent == cache / "live"
    assert os.sep not in path.stem
    assert path.stem.strip(".")


def test_weights_outside_an_object_are_refused(tmp_path: Path, monkeypatch) -> None:
    path = models.save_external(models.dense_net(), tmp_path / "model.onnx")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match="not beside it"):
        ek.load(onnx.load(path, load_external_data=False))


@pytest.mark.parametrize("made", [object(), None, b"onnx", SimpleNamespace(graph=1), {"a": 1}])
def test_another_object_is_refused(made: object) -> None:
    with pytest.raises(UsageError) as caught:
        ek.load(made)
    assert type(made).__name__ in caught.value.message
    assert "example_inputs" in caught.value.hint


def test_a_keras_model_is_the_same_file_whenever_it_is_saved(cache: Path) -> None:
    keras = pytest.importorskip("keras", reason="Keras is not installed")
    keras.utils.set_random_seed(0)
    made = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)], name="small")
    first = live.written(made, None, cache)
    time.sleep(1.1)  # the archive that Keras writes holds the second it was written in
    assert live.written(made, None, cache) == first
    assert first.name == "small.keras"
    again = keras.saving.load_model(first)
    x = np.ones((2, 4), np.float32)
    np.testing.assert_array_equal(again.predict(x), made.predict(x))
