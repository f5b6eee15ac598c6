"""What an application is to see of a model is held against the model."""

from __future__ import annotations

import pytest

from edgekit import interfaces
from edgekit.domain import Interface, Picture, TensorSpec
from edgekit.errors import UsageError

X = TensorSpec("x", (1, 3, 8, 8), "float32")
Y = TensorSpec("y", (1, 5), "float32")


@pytest.mark.parametrize(
    ("interface", "said"),
    [
        (Interface(pictures={"z": Picture(colours="rgb")}), "no input is named 'z'"),
        (Interface(pictures={"x": Picture(colours="gray")}), "a picture of gray needs"),
        (
            Interface(pictures={"x": Picture(colours="rgb", scale=(0.0,))}),
            "the scale of 'x': a scale of 0",
        ),
        (
            Interface(pictures={"x": Picture(colours="rgb", bias=(1.0, 2.0))}),
            "the bias of 'x': expected one number",
        ),
        (
            Interface(pictures={"x": Picture(colours="rgb", bias=(float("nan"),))}),
            "the bias of 'x': expected one number",
        ),
        (Interface(labels=("a", "b")), r"2 labels need a first output of scores of shape \[1, 2\]"),
    ],
)
def test_what_the_model_does_not_have_is_refused(interface: Interface, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        interfaces.check(interface, (X,), (Y,))


def test_the_axes_of_a_picture() -> None:
    last = TensorSpec("x", (1, 8, 8, 3), "float32")
    picture = Picture(colours="bgr", scale=(1, 2, 3))
    assert interfaces.to_pixels(X, picture) == (0, 2, 3, 1)
    assert interfaces.to_pixels(last, picture) == (0, 1, 2, 3)
