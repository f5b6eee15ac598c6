"""Which inputs are channels-first: an operator that says so must be met on the way."""

import pytest

from edgekit.sources.layout import channels_first
from tests import models
from tests.models import model, node, tensor, weights


def residual(*then):
    """A residual sum of [1, T, C] around a dense layer, and what follows it."""
    return model(
        [node("MatMul", ["x", "w"], ["h"]), node("Add", ["x", "h"], ["s"]), *then],
        [tensor("x", [1, 12, 8])],
        [tensor("y", None)],
        {"w": weights(8, 8), "k": weights(4, 12, 3)},
    )


def test_a_mean_over_the_features_of_a_sequence_says_nothing():
    """It is written as a global pool; a layer norm is made of two of them."""
    mean = node("GlobalAveragePool", ["s"], ["m"])
    assert channels_first(residual(mean, node("Sub", ["s", "m"], ["y"]))) == ()


def test_a_convolution_behind_a_residual_sum_does():
    assert channels_first(residual(node("Conv", ["s", "k"], ["y"]))) == ("x",)


@pytest.mark.parametrize(("made", "inputs"), [(models.conv_net, ("x",)), (models.nhwc_net, ())])
def test_images(made, inputs):
    assert channels_first(made()) == inputs
