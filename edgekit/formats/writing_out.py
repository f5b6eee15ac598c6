"""Operators that ONNX defines by smaller ones, written out for a converter that does not know them.

ONNX's specification gives a body to some operators (attention, RMS normalization, rotary
embedding, ...): functions of its smaller ones, equal by definition.
"""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import helper, inliner

from edgekit.domain import Format
from edgekit.errors import ToolError
from edgekit.formats import binding, support
from edgekit.sources import SourceModel, cleanup, random_feeds

_LEVELS = 3
"""A body is made of functions again, and those of others."""

_TIMES = 2
"""Folding one constant makes the next one."""

_ALWAYS = frozenset({"CastLike"})
"""Within bodies only: its type is known by then."""


def write_out(source: SourceModel, format_: Format, destination: Path) -> tuple[str, ...]:
    """Write the source's graph without the operators that a format does not take; their names.

    To be run by ``isolation.call``.

    Raises:
        ToolError: there are none, or onnx cannot write them out.
    """
    model = onnx.load(source.graph)
    operators = {node.op_type for node in model.graph.node if not node.domain}
    names = sorted(name for name in operators if support.writable(name, format_))
    if not names:
        raise ToolError("ONNX has no smaller operators for those of the graph")
    ids = [("", name) for name in (*names, *_ALWAYS)]
    try:
        for _ in range(_LEVELS):
            model = inliner.inline_selected_functions(
                _typed(model), ids, inline_schema_functions=True
            )
    except cleanup.ONNX_ERRORS as error:
        raise ToolError(f"onnx cannot write out {', '.join(names)}", str(error)) from error
    feeds, expected = random_feeds(source.inputs), binding.probed(source)
    for _ in range(_TIMES):
        model, _done = cleanup.cleaned(model, feeds, expected)
    destination.write_bytes(model.SerializeToString(deterministic=True))
    return tuple(names)


def _typed(model: onnx.ModelProto) -> onnx.ModelProto:
    """With the type of every tensor, weights included: some bodies depend on types."""
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    known = {value.name for value in inferred.graph.value_info}
    inferred.graph.value_info.extend(
        helper.make_tensor_value_info(one.name, one.data_type, one.dims)
        for one in inferred.graph.initializer
        if one.name not in known
    )
    return inferred
