"""One thread that runs a model for all callers, and a queue before it that has an end."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future
from threading import Condition, Thread
from typing import Any, Callable, List, Tuple

from .errors import ModelError, QueueFull

Call = Tuple[Any, "Future[Any]"]


class Worker:
    """Runs a model on a thread of its own.

    Args:
        run: answers so many inputs, in their order: ``model.predict_many``.
        capacity: how many calls may wait; one more is refused.
        batch: how many waiting calls are run together at most.
    """

    def __init__(
        self, run: Callable[[List[Any]], List[Any]], capacity: int = 16, batch: int = 1
    ) -> None:
        if not 1 <= batch <= capacity:
            raise ModelError(f"a batch of {batch} never fills with a queue of {capacity}")
        self._run, self._capacity, self._batch = run, capacity, batch
        self._waiting: deque[Call] = deque()
        self._changed, self._open = Condition(), True
        self._thread = Thread(target=self._work, name="edgekit", daemon=True)
        self._thread.start()

    def submit(self, inputs: Any) -> Future[Any]:
        """Have inputs answered, in their turn.

        Raises:
            QueueFull: too many wait already.
            ModelError: the worker is closed.
        """
        answer: Future[Any] = Future()
        with self._changed:
            if not self._open:
                raise ModelError("the worker is closed")
            if len(self._waiting) >= self._capacity:
                raise QueueFull(self._capacity)
            self._waiting.append((inputs, answer))
            self._changed.notify()
        return answer

    def close(self) -> None:
        """End the thread after the call that it is at; who waits is told that nothing comes."""
        with self._changed:
            self._open = False
            left = list(self._waiting)
            self._waiting.clear()
            self._changed.notify()
        for _, answer in left:
            if answer.set_running_or_notify_cancel():
                answer.set_exception(ModelError("the worker was closed"))
        self._thread.join()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _work(self) -> None:
        while True:
            with self._changed:
                while self._open and not self._waiting:
                    self._changed.wait()
                if not self._open:
                    return
                count = min(self._batch, len(self._waiting))
                calls = [self._waiting.popleft() for _ in range(count)]
            self._answer([c for c in calls if c[1].set_running_or_notify_cancel()])

    def _answer(self, calls: List[Call]) -> None:
        if not calls:
            return
        try:
            results = self._run([inputs for inputs, _ in calls])
            if len(results) != len(calls):
                raise ModelError(f"{len(results)} answers to {len(calls)} calls")
        except Exception as error:
            if len(calls) == 1:
                calls[0][1].set_exception(error)
                return
            for call in calls:  # one that fails must not take the others with it
                self._answer([call])
            return
        for (_, answer), result in zip(calls, results):
            answer.set_result(result)
