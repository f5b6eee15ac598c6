"""The suite itself: what is expensive is made once, by the worker that needs it."""

import os

import pytest


@pytest.mark.xdist_group("alone")
def test_groups_stay_together(request):
    """Were the mark without effect, every worker would build every expensive fixture."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        pytest.skip("there is one process")
    assert request.node.nodeid.endswith("@alone")
