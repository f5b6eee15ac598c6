"""What each MIL operation computes: one function each, its parameters named as MIL names them.

The definitions are those of coremltools (``converters/mil/mil/ops/defs``, iOS 15 to 18). A
function takes float32 where the program has float16, returns its output or a tuple of them, and
raises whatever NumPy raises on inputs that do not fit; ``evaluator`` says which operation it was.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from edgekit.mil.ops import (
    convolution,
    elementwise,
    indexing,
    linear,
    lists,
    normalization,
    recurrent,
    reduction,
    resizing,
    shape,
    weights,
)
from edgekit.mil.types import Value

_MODULES = (
    convolution,
    elementwise,
    indexing,
    linear,
    lists,
    normalization,
    recurrent,
    reduction,
    resizing,
    shape,
    weights,
)

OPERATIONS: Mapping[str, Callable[..., Value]] = {
    name: function for module in _MODULES for name, function in module.OPERATIONS.items()
}
