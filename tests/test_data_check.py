"""Calibration data that will not do, or are not like those of the evaluation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgekit import data_check, datasets
from edgekit.cli import main
from edgekit.datasets import Dataset
from edgekit.domain import TensorSpec
from edgekit.errors import DataError
from tests.paths import CALIBRATION, DIGITS_MODEL, EVALUATION

INPUTS = (TensorSpec("x", (1, 3, 8, 8), "float32"),)


def data(folder: Path, name: str, samples: np.ndarray) -> Dataset:
    np.savez(folder / name, x=samples.astype(np.float32))
    return datasets.load(folder / name, INPUTS)


def pictures(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((count, 3, 8, 8))


def test_data_of_one_kind_pass_without_a_word(tmp_path: Path) -> None:
    calibration = data(tmp_path, "a.npz", pictures(20))
    evaluation = data(tmp_path, "b.npz", pictures(30, seed=1))
    assert data_check.checked(calibration, evaluation) == ()
    assert data_check.checked(calibration, None) == ()
    assert data_check.checked(None, evaluation) == ()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_no_number_is_refused_by_its_sample(tmp_path: Path, value: float) -> None:
    samples = pictures(20)
    samples[7, 1, 2, 3] = value
    with pytest.raises(DataError, match="sample 7 of 'x'"):
        data_check.checked(data(tmp_path, "a.npz", samples), None)


def test_samples_that_are_all_the_same_are_refused(tmp_path: Path) -> None:
    samples = np.repeat(pictures(1), 20, axis=0)
    with pytest.raises(DataError, match="all 20 samples are the same"):
        data_check.checked(data(tmp_path, "a.npz", samples), None)
    # As evaluation data they are the user's own business.
    same = data(tmp_path, "b.npz", samples)
    assert data_check.checked(data(tmp_path, "c.npz", pictures(20)), same) == ()


@pytest.mark.parametrize("change", [lambda x: 255 * x, lambda x: x / 255, lambda x: x + 10])
def test_another_scale_than_that_of_the_evaluation_is_refused(tmp_path: Path, change) -> None:  # type: ignore[no-untyped-def]
    calibration = data(tmp_path, "a.npz", change(pictures(20)))
    with pytest.raises(DataError, match=r"in the\s+calibration data.*evaluation data") as caught:
        data_check.checked(calibration, data(tmp_path, "b.npz", pictures(20, seed=1)))
    assert "prepared otherwise" in caught.value.hint


def test_what_is_merely_unlike_is_said(tmp_path: Path) -> None:
    calibration = data(tmp_path, "a.npz", 3 * pictures(20))
    (note,) = data_check.checked(calibration, data(tmp_path, "b.npz", pictures(20)))
    assert "'x' runs from" in note


def test_few_samples_are_said(tmp_path: Path) -> None:
    (note,) = data_check.checked(data(tmp_path, "a.npz", pictures(4)), None)
    assert note.startswith("4 calibration samples")
    assert len(data_check.checked(data(tmp_path, "b.npz", pictures(1)), None)) == 1


def test_a_build_refuses_pictures_of_bytes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with np.load(CALIBRATION) as archive:
        np.savez(tmp_path / "bytes.npz", x=255 * archive["x"])
    argv = ["build", str(DIGITS_MODEL), "--device", "raspberry-pi-5"]
    argv += ["--calibration", str(tmp_path / "bytes.npz"), "--evaluate", str(EVALUATION)]
    assert main([*argv, "-o", str(tmp_path / "out.edgekit")]) == 2
    assert "prepared otherwise" in capsys.readouterr().err
    assert not (tmp_path / "out.edgekit").exists()
