"""What libraries load if they find it, and edgekit does not need of them: hidden from them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

NAMES = ("jax", "keras", "sklearn", "tensorflow", "tf_keras", "torch")


@contextmanager
def hidden(*others: str) -> Iterator[None]:
    """Within, importing a training framework fails as where none is installed.

    onnxsim and ``onnxruntime.tools`` would load PyTorch, which takes seconds and
    hundreds of megabytes, for functions that edgekit does not use; coremltools would load
    scikit-learn, too. What is loaded already stays so.

    Args:
        *others: modules that the library at hand does without, too.
    """
    absent = [name for name in (*NAMES, *others) if name not in sys.modules]
    sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type]  # None: not to be found
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]
