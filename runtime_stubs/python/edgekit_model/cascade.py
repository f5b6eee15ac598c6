"""A small model first; a large one only where the small one is not sure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, Generic, TypeVar

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

Answer = TypeVar("Answer")


class Cascade(Generic[Answer]):
    """Two models that answer the same.

    Args:
        small: asked first.
        large: asked where the small one's confidence is below the threshold.
        confidence: of an answer of the small one: ``lambda a: margin(softmax(a.logits))``.
        threshold: from which confidence on the small model's answer stands.
    """

    def __init__(
        self,
        small: Callable[..., Answer],
        large: Callable[..., Answer],
        confidence: Callable[[Answer], float],
        threshold: float,
    ) -> None:
        self._small, self._large = small, large
        self._confidence, self._threshold = confidence, threshold

    def predict(self, *inputs: Any, **named: Any) -> Answer:
        """The answer, of whichever gives it."""
        first = self._small(*inputs, **named)
        # A confidence that is not a number is none.
        sure = self._confidence(first) >= self._threshold
        return first if sure else self._large(*inputs, **named)


def softmax(scores: Array) -> Array:
    """Probabilities of scores that are none, over the last axis."""
    shifted = np.exp(scores - np.max(scores, axis=-1, keepdims=True))
    probabilities: Array = shifted / np.sum(shifted, axis=-1, keepdims=True)
    return probabilities


def margin(probabilities: Array) -> float:
    """How far the likeliest class is before the next one."""
    second, first = np.sort(np.ravel(probabilities))[-2:]
    return float(first - second)
