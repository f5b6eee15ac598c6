"""SavedModel folders: cut down to their signature, loaded by TensorFlow, traced for tf2onnx.

A SavedModel is a program. What TensorFlow would run when it loads one is taken out of
edgekit's private copy, and of what the signature runs, only operators are let through
that compute and nothing else: those that tf2onnx can convert.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import saved_model_pb2

from edgekit.domain import TensorSpec
from edgekit.errors import ModelError
from edgekit.sources.model import Original, Shapes
from edgekit.sources.shapes import fixed
from edgekit.sources.traced import Traceable

_TAG, _SIGNATURE = "serve", "serving_default"
_COMPUTES = frozenset(
    {"VarHandleOp", "ReadVariableOp", "NoOp", "PartitionedCall", "StatefulPartitionedCall"}
    | {"While", "StatelessWhile", "If", "StatelessIf", "Case", "StatelessCase", "IdentityN"}
    | {"EnsureShape", "StopGradient", "PreventGradient", "CheckNumerics"}
)
"""Beside what tf2onnx converts: what it resolves before that."""
_TRUST = "if you know who made it, --trust lets it run"


def traceable(original: Original, shapes: Shapes) -> Traceable:
    """The signature of a folder as a function.

    Raises:
        ModelError: it is damaged, has no such signature, or would run something else.
    """
    saved = original.path / "saved_model.pb"
    model = _parsed(saved)
    if not original.trusted:
        _check(model)
    _harmless(model)
    saved.write_bytes(model.SerializeToString())
    try:
        loaded = tf.saved_model.load(str(original.path), tags=[_TAG])
        signature = _chosen(loaded.signatures)
    except ModelError:
        raise
    except Exception as error:  # whatever TensorFlow finds odd
        said = (str(error).splitlines() or [""])[0]
        raise ModelError(
            f"TensorFlow cannot load the model: {type(error).__name__}: {said[:400]}"
        ) from error
    inputs = tuple(_specs(signature.structured_input_signature[1], shapes))
    outputs = list(signature.structured_outputs)

    def call(*tensors: Any) -> list[Any]:
        named = {spec.name: tensor for spec, tensor in zip(inputs, tensors, strict=True)}
        got = signature(**named)
        return [got[name] for name in outputs]

    return Traceable(
        inputs=inputs,
        outputs=outputs,
        function=call,
        owner=loaded,
        framework=f"TensorFlow {tf.__version__}",
    )


def _parsed(path: Path) -> Any:
    model = saved_model_pb2.SavedModel()
    try:
        model.ParseFromString(path.read_bytes())
    except (DecodeError, OSError) as error:
        raise ModelError("saved_model.pb is damaged or not there", str(error)) from error
    kept = [graph for graph in model.meta_graphs if _TAG in graph.meta_info_def.tags]
    if not kept:
        raise ModelError(f"the SavedModel holds no graph for {_TAG!r}")
    return model


def _check(model: Any) -> None:
    """Refuse what would run more than arithmetic, when loaded or when called."""
    for graph in model.meta_graphs:
        nodes = graph.object_graph_def.nodes
        if not nodes:
            raise ModelError("the SavedModel is TensorFlow 1's, which runs a graph to load", _TRUST)
        if any(node.WhichOneof("kind") in ("resource", "asset") for node in nodes):
            raise ModelError("the SavedModel holds tables or files that it loads", _TRUST)
        _check_operators(graph)


def _check_operators(graph: Any) -> None:
    allowed = _COMPUTES | _convertible()
    functions = {function.signature.name: function for function in graph.graph_def.library.function}
    for name in _reachable(_entries(graph, functions), functions):
        for node in functions[name].node_def:
            if node.op not in allowed:
                raise ModelError(
                    f"the SavedModel runs {node.op} ({node.name!r}), which is none of the "
                    "operators that only compute",
                    _TRUST,
                )


def _entries(graph: Any, functions: Mapping[str, Any]) -> Iterator[str]:
    """The functions behind the signatures."""
    nodes = graph.object_graph_def.nodes
    for node in nodes:
        if node.user_object.identifier == "signature_map":
            for child in node.children:
                name = nodes[child.node_id].bare_concrete_function.concrete_function_name
                if name not in functions:
                    raise ModelError(f"the SavedModel lacks its function {name!r}")
                yield name


def _reachable(names: Iterable[str], functions: Mapping[str, Any]) -> set[str]:
    waiting, seen = list(names), set()
    while waiting:
        name = waiting.pop()
        if name in seen or name not in functions:
            continue
        seen.add(name)
        for node in functions[name].node_def:
            for value in node.attr.values():
                waiting += [value.func.name, *(func.name for func in value.list.func)]
    return seen


def _convertible() -> frozenset[str]:
    from tf2onnx import tfonnx  # noqa: F401 - registers its handlers
    from tf2onnx.handler import tf_op

    from edgekit.sources import traced_operators  # noqa: F401 - the same

    versions = (opsets for domain, opsets in tf_op.get_opsets().items() if domain == "")
    return frozenset(name for opsets in versions for names in opsets for name in names)


def _harmless(model: Any) -> None:
    """Take out what TensorFlow would run to restore more than variables, and what trips it.

    An optimizer's slots are of no use here, and loading them fails where Keras 3 reads what
    Keras 2 wrote (``add_slot``).
    """
    for graph in model.meta_graphs:
        for node in graph.object_graph_def.nodes:
            node.ClearField("saveable_objects")
            node.ClearField("registered_saver")
            node.ClearField("slot_variables")


def _chosen(signatures: Mapping[str, Any]) -> Any:
    if _SIGNATURE in signatures:
        return signatures[_SIGNATURE]
    if len(signatures) == 1:
        return next(iter(signatures.values()))
    raise ModelError(
        f"the SavedModel has no signature {_SIGNATURE!r}; it has: "
        f"{', '.join(signatures) or 'none at all'}",
        "save it with signatures, or save the Keras model with model.export(...)",
    )


def _specs(signature: Mapping[str, Any], shapes: Shapes) -> Iterator[TensorSpec]:
    if unknown := sorted(set(shapes) - set(signature)):
        raise ModelError(f"--shape names {unknown[0]!r}; the inputs: {', '.join(signature)}")
    for name, spec in signature.items():
        if spec.shape.rank is None and name not in shapes:
            raise ModelError(f"input {name!r} declares no shape", f"give --shape {name}=1,N,...")
        declared = [None] * len(shapes[name]) if spec.shape.rank is None else list(spec.shape)
        shape = fixed(name, declared, shapes.get(name))
        yield TensorSpec(name, shape, np.dtype(spec.dtype.as_numpy_dtype).name)
