"""The measure by which outputs are compared: nothing that was not compared agrees."""

import numpy as np
import pytest

from edgekit.sources.difference import largest_difference, relative_error

NAN, INF = np.nan, np.inf


@pytest.mark.parametrize(
    ("a", "b", "differ"),
    [
        ([1, -INF, 3], [1, -INF, 3], 0),
        ([1, -INF, 3], [1.5, -INF, 3], 0.5),
        ([1, -INF, 3], [1, INF, 3], INF),
        ([1, NAN, 3], [1.5, NAN, 3], 0.5),
        ([1, NAN, 3], [1, 2, 3], INF),
        ([1, 2, 3], [1, NAN, 3], INF),
        ([NAN, NAN], [NAN, NAN], INF),
        (NAN, NAN, INF),
        ([], [], 0),
    ],
)
def test_what_both_lack_is_left_out_and_never_all_there_is(a, b, differ):
    assert largest_difference(np.array(a, float), np.array(b, float)) == differ


def test_nothing_but_nan_is_no_agreement():
    nothing = np.full((2, 3), NAN)
    assert relative_error(nothing, nothing) == INF
    assert relative_error(np.array([2.5, NAN]), np.array([2.0, NAN])) == 0.25
