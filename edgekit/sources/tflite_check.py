"""TFLite files looked at before a runtime sees them, which trusts every offset and index."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from pathlib import Path

from edgekit.errors import ModelError
from edgekit.sources.flatbuffer import Flatbuffer

_OPERATOR_CODES, _SUBGRAPHS, _BUFFERS, _SIGNATURES = 1, 2, 4, 7
_TENSORS, _INPUTS, _OUTPUTS, _OPERATORS = 0, 1, 2, 3
_CUSTOM = 32
_OPTIONAL = -1
_ITEM_BYTES = {0: 4, 1: 2, 2: 4, 3: 1, 4: 8, 6: 1, 7: 2, 8: 8, 9: 1, 10: 8, 11: 16, 12: 8, 15: 4}
"""Of a tensor's type, by its number; what is not here (text, 4-bit, ...) has no fixed size."""

_MOST_SUBGRAPHS, _MOST_AXES = 1000, 8
_MOST_BYTES = 8 << 30
"""Of one tensor: more does not fit any device."""


def check(path: Path) -> None:
    """Check the offsets, the indices and the sizes of a file.

    Raises:
        ModelError: it is damaged or made to do harm, or needs custom operators.
    """
    file = Flatbuffer(path.read_bytes())
    try:
        file.verify()
        _check_model(file)
    except ModelError as error:
        raise ModelError(f"{path.name} is damaged: {error.message}", error.hint) from error


def _check_model(file: Flatbuffer) -> None:
    buffers = file.tables(file.root, _BUFFERS)
    codes = file.tables(file.root, _OPERATOR_CODES)
    subgraphs = file.tables(file.root, _SUBGRAPHS)
    if not 1 <= len(subgraphs) <= _MOST_SUBGRAPHS:
        raise ModelError(f"it holds {len(subgraphs)} graphs")
    _check_codes(file, codes)
    for buffer in buffers:
        # Data of models beyond 2 GiB lie behind the flatbuffer, at offsets of their own.
        if file.value(buffer, 1, "<Q") + file.value(buffer, 2, "<Q") > len(file.content):
            raise ModelError("a buffer lies behind the end of the file")
    sizes = [file.vector(buffer, 0, 1)[1] for buffer in buffers]
    for subgraph in subgraphs:
        _check_subgraph(file, subgraph, sizes, len(codes))
    for signature in file.tables(file.root, _SIGNATURES):
        graph = file.value(signature, 4, "<I")
        _check_indices([graph], len(subgraphs), "a signature's graph")
        count = len(file.tables(subgraphs[graph], _TENSORS))
        for slot in (0, 1):
            named = [file.value(one, 1, "<I") for one in file.tables(signature, slot)]
            _check_indices(named, count, "a signature's tensor")


def _check_codes(file: Flatbuffer, codes: list[int]) -> None:
    custom = {
        file.text(code, 1) or "without a name"
        for code in codes
        if _CUSTOM in (file.value(code, 0, "<b"), file.value(code, 3, "<i"))
    }
    if custom:
        raise ModelError(
            f"it needs custom operators: {', '.join(sorted(custom))}",
            "edgekit knows TFLite's own operators only: convert the model without the others",
        )


def _check_subgraph(file: Flatbuffer, subgraph: int, sizes: list[int], codes: int) -> None:
    tensors = file.tables(subgraph, _TENSORS)
    for tensor in tensors:
        _check_tensor(file, tensor, sizes)
    for slot in (_INPUTS, _OUTPUTS):
        _check_indices(file.numbers(subgraph, slot), len(tensors), "a graph's tensor")
    for operator in file.tables(subgraph, _OPERATORS):
        _check_indices([file.value(operator, 0, "<I")], codes, "an operator's code")
        for slot in (1, 2, 8):
            used = [i for i in file.numbers(operator, slot) if i != _OPTIONAL]
            _check_indices(used, len(tensors), "an operator's tensor")


def _check_tensor(file: Flatbuffer, tensor: int, sizes: list[int]) -> None:
    shape = file.numbers(tensor, 0)
    buffer = file.value(tensor, 2, "<I")
    item = _ITEM_BYTES.get(file.value(tensor, 1, "<b"), 0)
    _check_indices([buffer], max(len(sizes), 1), "a tensor's buffer")
    if len(shape) > _MOST_AXES or any(size < 0 for size in shape):
        raise ModelError(f"a tensor of shape {list(shape[:20])}")
    if (needed := prod(shape) * item) > _MOST_BYTES:
        raise ModelError(f"a tensor of shape {list(shape)} takes {needed >> 30} GiB")
    held = sizes[buffer] if sizes else 0
    sparse = file.field(tensor, 6) is not None
    if held and item and not sparse and held != needed:
        raise ModelError(f"a tensor of shape {list(shape)} has {held} bytes of data, not {needed}")


def _check_indices(indices: Iterable[int], count: int, what: str) -> None:
    for index in indices:
        if not 0 <= index < count:
            raise ModelError(f"{what} is number {index} of {count}")
