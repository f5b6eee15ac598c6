"""Training frameworks, hidden from libraries that load whichever of them they find."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

NAMES = ("jax", "keras", "tensorflow", "tf_keras", "torch")


@contextmanager
def hidden() -> Iterator[None]:
    """Within, importing a framework fails as where none is installed.

    onnxsim and ``onnxruntime.tools`` would load PyTorch, which takes seconds and
    hundreds of megabytes, for functions that edgekit does not use. A framework that is
    loaded already stays so.
    """
    absent = [name for name in NAMES if name not in sys.modules]
    sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type]  # None: not to be found
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]
