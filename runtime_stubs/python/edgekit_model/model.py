"""A model: its artifact checked and loaded, arrays by name in, arrays by name out."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from threading import Lock
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, NamedTuple, Sequence, Tuple

import numpy as np

from . import sessions
from .content import digest
from .errors import ModelError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from .tensors import Tensor

    Array = NDArray[Any]
    Arrays = List[Array]


class Artifact(NamedTuple):
    """The model's file, and what runs it.

    ``kind`` is ``litert`` or ``onnxruntime``; ``modules`` are the Python modules that run it,
    the first that there is does; ``delegate`` reaches an accelerator.
    """

    sha256: str
    kind: str
    modules: Tuple[str, ...]
    threads: int
    delegate: str | None = None


class Model:
    """A loaded model, for any number of threads; they take turns.

    Args:
        path: the artifact's file.
        artifact: what it must be.
        inputs: in the artifact's order.
        outputs: the same.
        threads: CPU threads; ``None``: what the model was built for.
        accelerated: ``False`` leaves the accelerator alone.
        kept: how many answers are kept for inputs that come again, to the last bit; the one
            that was longest of no use goes first.

    Raises:
        ModelError: another file than it must be, no runtime that loads it, or less than nothing
            is to be kept.
    """

    def __init__(
        self,
        path: Path,
        artifact: Artifact,
        inputs: Sequence[Tensor],
        outputs: Sequence[Tensor],
        *,
        threads: int | None = None,
        accelerated: bool = True,
        kept: int = 0,
    ) -> None:
        if kept < 0:
            raise ModelError(f"{kept} answers cannot be kept")
        check(path, artifact.sha256)
        self.inputs, self.outputs = tuple(inputs), tuple(outputs)
        self.session = sessions.load(
            artifact.kind,
            path,
            ([t.artifact_name for t in inputs], [t.artifact_name for t in outputs]),
            artifact.modules,
            threads or artifact.threads,
            artifact.delegate if accelerated else None,
        )
        self._turn = Lock()
        self._kept: OrderedDict[bytes, Arrays] = OrderedDict()
        self._capacity = kept

    def predict(self, inputs: Mapping[str, Any]) -> Dict[str, Array]:
        """One answer, by the outputs' names.

        Raises:
            ModelError: an input that is missing, unknown or of another shape, or a run that fails.
        """
        return self.predict_many([inputs])[0]

    def predict_many(self, calls: Sequence[Mapping[str, Any]]) -> List[Dict[str, Array]]:
        """An answer to each, run together where the model's first axis is open."""
        taken = [self._taken(inputs) for inputs in calls]
        keys = [_key(arrays) if self._capacity else b"" for arrays in taken]
        with self._turn:
            known = {key: self._kept[key] for key in keys if key in self._kept}
            fresh = [i for i, key in enumerate(keys) if key not in known]
            ran = dict(zip(fresh, self._run([taken[i] for i in fresh])))
            answers = [ran[i] if i in ran else known[key] for i, key in enumerate(keys)]
            self._keep(zip(keys, answers))
        return [self._given(arrays) for arrays in answers]

    def _taken(self, inputs: Mapping[str, Any]) -> Arrays:
        names = [tensor.name for tensor in self.inputs]
        if set(inputs) != set(names):
            raise ModelError(f"the model takes {names}, got {sorted(inputs)}")
        return [tensor.to_artifact(inputs[tensor.name]) for tensor in self.inputs]

    def _given(self, arrays: Arrays) -> Dict[str, Array]:
        return {t.name: t.from_artifact(array) for t, array in zip(self.outputs, arrays)}

    def _run(self, samples: Sequence[Arrays]) -> List[Arrays]:
        try:
            if len(samples) > 1 and self.session.is_open:
                together = self.session.run([np.concatenate(each) for each in zip(*samples)])
                return [list(one) for one in zip(*(np.split(a, len(samples)) for a in together))]
            return [self.session.run(arrays) for arrays in samples]
        except Exception as error:
            raise ModelError(f"{self.session.runtime} failed: {error}") from error

    def _keep(self, answers: Any) -> None:
        if not self._capacity:
            return
        for key, arrays in answers:
            self._kept[key] = arrays
            self._kept.move_to_end(key)
        while len(self._kept) > self._capacity:
            self._kept.popitem(last=False)


def check(path: Path, sha256: str) -> None:
    """Refuse a file that is not the one that was exported.

    Raises:
        ModelError: it is another one, or there is none.
    """
    try:
        got = digest(path)
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}") from error
    if got != sha256:
        raise ModelError(
            f"{path} is not the model that was exported: expected sha256 {sha256}, got {got}"
        )


def _key(arrays: Arrays) -> bytes:
    """A digest of inputs; their shapes and types are the artifact's always."""
    made = hashlib.sha256()
    for array in arrays:
        made.update(array.tobytes())
    return made.digest()
