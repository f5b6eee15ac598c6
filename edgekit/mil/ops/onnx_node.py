"""One ONNX operator, run by ONNX Runtime: for what takes NumPy too long.

A model of one node is made for each kind of use and kept; it leaves every size open.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from edgekit.mil.types import Array

type _Attributes = tuple[tuple[str, Any], ...]


def run(kind: str, attributes: Mapping[str, Any], inputs: Sequence[Array]) -> Array:
    """The output of an ONNX operator (opset 17) on float32 arrays, in float32."""
    ranks = tuple(array.ndim for array in inputs)
    session = _session(kind, tuple(sorted(attributes.items())), ranks)
    feeds = {f"i{n}": np.asarray(array, np.float32, order="C") for n, array in enumerate(inputs)}
    output: Array = session.run(None, feeds)[0]
    return output


@lru_cache(maxsize=1024)
def _session(kind: str, attributes: _Attributes, ranks: tuple[int, ...]) -> Any:
    """A session that runs one operator; every size is left open."""
    import onnxruntime
    from onnx import TensorProto, helper

    names = [f"i{n}" for n in range(len(ranks))]
    node = helper.make_node(kind, names, ["o"], **dict(attributes))
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * rank)
        for name, rank in zip(names, ranks, strict=True)
    ]
    output = helper.make_tensor_value_info("o", TensorProto.FLOAT, [None] * ranks[0])
    graph = helper.make_graph([node], kind, inputs, [output])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = onnxruntime.SessionOptions()
    # What fails is raised; it is not to be printed as well.
    options.log_severity_level = 4
    # A pool of threads for every session would be hundreds of threads.
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
