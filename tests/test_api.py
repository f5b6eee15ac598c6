"""edgekit from Python: arrays in, a bundle and a measurement out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import edgekit as ek
from edgekit import api
from edgekit.domain import Format
from edgekit.errors import DataError
from tests.paths import CALIBRATION, DIGITS_MODEL, EVALUATION


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))


def test_from_a_file_to_a_measurement(tmp_path: Path) -> None:
    x = np.load(CALIBRATION)["x"]
    data = np.load(EVALUATION)
    model = ek.load(DIGITS_MODEL)
    goal = ek.Goal(max_accuracy_drop=0.01)
    plan = ek.plan(model, device="generic-x86-64", goal=goal)
    bundle = ek.build(
        model, plan, tmp_path / "out.edgekit", calibration=x, evaluate=(data["x"], data["y"])
    )
    assert bundle.manifest.validation.sample_count == 597
    assert bundle.manifest.recipe == plan.candidates[0].recipe
    result = ek.benchmark(
        bundle, on=f"local:{tmp_path / 'device'}", runs=20, seconds=0.05, processes=2
    )
    assert ek.figures(result).n >= 40


def test_without_calibration_nothing_static_is_tried(tmp_path: Path) -> None:
    model = ek.load(str(DIGITS_MODEL))
    plan = ek.plan(model, device="generic-x86-64")
    bundle = ek.build(model, plan, tmp_path / "out.edgekit", evaluate=EVALUATION)
    attempts = bundle.manifest.attempts
    static = [a for a in attempts if a.recipe.precision == "int8-static"]
    assert static
    assert all("needs calibration" in a.reason and a.size_bytes is None for a in static)
    assert bundle.manifest.recipe.precision != "int8-static"


def test_the_best_few_are_measured_when_asked(tmp_path: Path) -> None:
    here = f"local:{tmp_path / 'device'}"
    model = ek.load(DIGITS_MODEL)
    plan = ek.plan(
        model, device="generic-x86-64", choice=ek.Choice(formats=(Format.ONNXRUNTIME,)), on=here
    )
    terms = ek.Terms(on=here, count=2, rounds=1)
    out = tmp_path / "out.edgekit"
    bundle = ek.build_best(model, plan, out, terms=terms, evaluate=EVALUATION)
    measured = [one.recipe for one in bundle.manifest.measured]
    assert len(measured) == 2
    assert bundle.manifest.recipe in measured


def test_names_that_are_not_there() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        _ = ek.nonsense  # type: ignore[attr-defined]


def test_every_public_name_is_there() -> None:
    for name in ek.__all__:
        assert getattr(ek, name) is not None
    assert callable(ek.benchmark)


def test_samples_may_come_one_after_another() -> None:
    """And never need to be in memory at once; what is whole stays so."""
    pairs = (({"x": np.full((2, 3), n, np.float32)} for n in range(5)), range(5))
    with api._file(*pairs) as path, np.load(path) as archive:
        assert archive["x"].tolist() == [[[n] * 3] * 2 for n in range(5)]
        assert archive["y"].tolist() == list(range(5))
    for whole in (np.zeros((4, 2)), [[0, 0]] * 4, {"x": np.zeros((4, 2))}):
        with api._file(whole, None) as path, np.load(path) as archive:
            assert archive["x"].shape == (4, 2)
            assert archive.files == ["x"]


@pytest.mark.parametrize("count", [2, 4])
def test_as_many_labels_as_samples(count: int) -> None:
    samples = (np.zeros(2) for _ in range(3))
    with pytest.raises(DataError, match=f"{count} labels"), api._file(samples, range(count)):
        pass


def test_what_goes_wrong_in_the_users_own_generator_stays_what_it_is() -> None:
    def broken():
        yield np.zeros(2)
        raise ValueError("truncated jpeg 17")

    with pytest.raises(ValueError, match=r"^truncated jpeg 17$"), api._file(broken(), range(2)):
        pass


def test_a_sample_that_is_no_array_is_refused() -> None:
    ragged = iter([[[1], [2, 3]]])
    with pytest.raises(DataError, match="no array of numbers"), api._file(ragged, None):
        pass


def test_a_list_of_samples_by_name_is_taken_one_by_one() -> None:
    listed = [{"x": np.zeros(2)}, {"x": np.ones(2)}]
    with api._file(listed, None) as path, np.load(path) as archive:
        assert archive["x"].tolist() == [[0, 0], [1, 1]]
