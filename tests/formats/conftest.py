"""The digits network, read once for all formats."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from edgekit import datasets, sources, validation
from edgekit.datasets import Dataset
from edgekit.sources import SourceModel
from edgekit.toolchain import isolation
from tests.paths import CALIBRATION, DIGITS_MODEL, EVALUATION


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> SourceModel:
    return sources.load(DIGITS_MODEL, tmp_path_factory.mktemp("source"))


@pytest.fixture
def here(source: SourceModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tools are called in this process: loading them takes longer than what they do here.

    ``test_equal_jobs_give_equal_bytes`` has each format call them as it does elsewhere.
    """

    def call[**P, T](
        function: Callable[P, T], _: object, /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        return function(*args, **kwargs)

    monkeypatch.setattr(isolation, "call", call)


@pytest.fixture(scope="session")
def calibration(source: SourceModel) -> Dataset:
    return datasets.load(CALIBRATION, source.inputs)


@pytest.fixture(scope="session")
def reference(
    source: SourceModel, tmp_path_factory: pytest.TempPathFactory
) -> validation.Reference:
    evaluation = datasets.load(EVALUATION, source.inputs)
    return validation.reference(source, evaluation, None, tmp_path_factory.mktemp("reference"))


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")
