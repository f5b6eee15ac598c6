"""Calm windows are believed; without one, the least disturbed is, for what counting lost."""

import pytest

from edgekit.calibrating.windows import Window, believed, undisturbed


def test_the_best_is_not_the_luckiest_moment():
    windows = [Window(1000, 60), *(Window(1000, 100 + n) for n in range(19))]
    assert undisturbed(windows) == 101
    assert undisturbed([Window(1000, 100)]) == 100


def test_of_calm_windows_the_least_counts():
    windows = [Window(1200, 100), Window(1100, 106), Window(900, 160)]
    assert believed(windows, 100) == 1100


def test_without_a_calm_window_the_least_disturbed_is_corrected():
    windows = [Window(1400, 160), Window(1500, 150), Window(1000, 200)]
    assert believed(windows, 100) == pytest.approx(1500 / 1.5)
