"""PyTorch modules and exported programs, to ONNX through PyTorch's own exporter.

PyTorch is imported here and nowhere else, and only when a module or a program is given.
A program in a file is written anew by ``pt2_archive`` first, and loaded and exported in a
process of its own.
"""

from __future__ import annotations

import ast
import hashlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from edgekit.domain import TensorSpec
from edgekit.errors import ModelError, ToolMissing, UsageError
from edgekit.sources import onnx_file, pt2_archive
from edgekit.sources.feeds import random_feeds
from edgekit.sources.model import Shapes, SourceModel
from edgekit.toolchain import isolation
from edgekit.toolchain.process import GIB, Limits

if TYPE_CHECKING:
    import onnx

OPSET = 18
"""What PyTorch's exporter is written in; a higher one is made by raising it afterwards."""

PICKLES = (".pt", ".pth", ".ckpt", ".pkl", ".pickle")
"""What PyTorch writes by default: programs in Python's pickle, and never loaded."""

_LIMITS = Limits(seconds=600, memory_bytes=16 * GIB)
_INSTALL = "pip install 'edgekit[torch]'"
_SCOPES = "pkg.torch.onnx.name_scopes"


def read(path: Path, folder: Path, shapes: Shapes, _trust: bool = False) -> SourceModel:
    """Read a ``.pt2``; see ``readers.load``. No pickle in it is loaded, whatever is trusted."""
    if find_spec("torch") is None:
        raise ToolMissing(f"{path.name} needs PyTorch, which is not installed", _INSTALL)
    original = Path(shutil.copyfile(path, folder / "original.pt2"))
    made = folder / "exported.onnx"
    isolation.call(_export, _LIMITS, original, made)
    source = onnx_file.read(made, folder, shapes)
    with original.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return msgspec.structs.replace(source, origin=path, name=path.stem, sha256=sha256)


def refuse(path: Path, _folder: Path, _shapes: Shapes, _trust: bool = False) -> SourceModel:
    """Refuse a pickle, unread.

    Raises:
        ModelError: always.
    """
    raise ModelError(
        f"{path.name} is a Python pickle: whoever loads it runs what it says",
        "torch.export.save(torch.export.export(module, inputs), 'model.pt2') writes a file that "
        "edgekit reads; in Python, ek.load(module, example_inputs=...) takes the module itself",
    )


def _export(original: Path, made: Path) -> None:
    """What runs in a process of its own; only there is a stranger's program loaded."""
    cleaned = original.with_name("cleaned.pt2")
    pt2_archive.clean(original, cleaned)
    import torch

    try:
        program = torch.export.load(cleaned)
    except Exception as error:
        raise ModelError(
            f"PyTorch cannot load the program: {_reason(error)}",
            f"it was written by another version than the {torch.__version__} installed here, or "
            "it is damaged",
        ) from error
    made.write_bytes(exported(program, None).SerializeToString(deterministic=True))


def exported(model: Any, inputs: Sequence[Any] | Mapping[str, Any] | None) -> onnx.ModelProto:
    """A ``torch.nn.Module`` or ``torch.export.ExportedProgram`` as ONNX, in evaluation mode.

    The nodes are named after the module they came from; the paths and the source lines
    that PyTorch writes into the file are left out, so that equal models are equal bytes.

    Args:
        model: its weights stay as they are, and so do its training flags.
        inputs: what a module is called with; a program knows its own.

    Raises:
        UsageError: a module without inputs.
        ToolMissing: onnxscript is not installed.
        ModelError: PyTorch cannot export the model, or the export gives something else.
    """
    import torch

    if isinstance(model, torch.nn.Module) and inputs is None:
        raise UsageError(
            "a torch.nn.Module cannot be exported without example inputs",
            "give ek.load(module, example_inputs=(torch.zeros(1, 3, 224, 224),))",
        )
    named = dict(inputs) if isinstance(inputs, Mapping) else None
    given = () if named is not None or inputs is None else tuple(inputs)
    try:
        with _evaluating(model), torch.no_grad():
            program = torch.onnx.export(
                model, given, kwargs=named, dynamo=True, opset_version=OPSET, verbose=False
            )
    except ImportError as error:
        raise ToolMissing(
            f"PyTorch's ONNX exporter needs {error.name}, which is not installed",
            _INSTALL,
        ) from error
    except Exception as error:  # whatever the user's own code raises
        raise ModelError(f"PyTorch cannot export the model: {_reason(error)}") from error
    made = _plain(program.model_proto)
    made.graph.name = type(model).__name__
    with _evaluating(model), torch.no_grad():
        _compare(model, made, given, named or {})
    return made


def _compare(
    model: Any, made: onnx.ModelProto, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    """Run both once: the export must give what PyTorch gives.

    A program brings no inputs; they are made up, with 2 for every free axis. One that does
    not take such inputs is not compared.
    """
    import torch
    from torch.utils import _pytree as tree

    from edgekit.sources import reference

    call = model
    if not isinstance(model, torch.nn.Module):
        leaves = [torch.from_numpy(array) for array in random_feeds(_specs(made)).values()]
        if model.call_spec.in_spec.num_leaves != len(leaves):
            return
        args, kwargs = tree.tree_unflatten(leaves, model.call_spec.in_spec)
        call = model.module()
    given = _arrays(tree.tree_leaves((args, kwargs)))
    names = [value.name for value in made.graph.input]
    try:
        expected = _arrays(tree.tree_leaves(call(*args, **kwargs)))
    except Exception:
        if call is model:
            raise
        return
    if len(names) != len(given):
        return
    got = reference.run(made, dict(zip(names, given, strict=True)))
    if not reference.agree(got, dict(zip(got, expected, strict=True))):
        raise ModelError(
            "the ONNX that PyTorch exported does not give what the model gives in PyTorch",
            "this is a defect of the exporter: please report it with the model",
        )


def _arrays(leaves: list[Any]) -> list[Any]:
    """The tensors among the leaves of a tree, as NumPy's arrays."""
    return [leaf.detach().cpu().numpy() for leaf in leaves if hasattr(leaf, "detach")]


def _specs(made: onnx.ModelProto) -> tuple[TensorSpec, ...]:
    from onnx import helper

    return tuple(
        TensorSpec(
            value.name,
            tuple(axis.dim_value or 2 for axis in value.type.tensor_type.shape.dim),
            helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type).name,
        )
        for value in made.graph.input
    )


def _reason(error: Exception) -> str:
    """The error that the exporter met, in one line; it wraps it in pages of advice."""
    while error.__cause__ is not None and isinstance(error.__cause__, Exception):
        error = error.__cause__
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"[:400]


@contextmanager
def _evaluating(model: Any) -> Iterator[None]:
    """Evaluation mode for a while: dropout and batch statistics are no part of inference."""
    modules = list(model.modules()) if callable(getattr(model, "modules", None)) else []
    training = [module for module in modules if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _plain(model: onnx.ModelProto) -> onnx.ModelProto:
    for node in model.graph.node:
        told = {entry.key: entry.value for entry in node.metadata_props}
        if scope := _module_path(told.get(_SCOPES, "")):
            node.name = f"{scope}/{node.name}"
    for part in (model, model.graph, *model.graph.node, *model.graph.input, *model.graph.output):
        del part.metadata_props[:]
        part.doc_string = ""
    for part in (*model.graph.value_info, *model.graph.initializer):
        del part.metadata_props[:]
    return model


def _module_path(scopes: str) -> str:
    """``layer1.0.conv1`` of ``['', 'layer1', 'layer1.0', 'layer1.0.conv1', 'conv2d']``."""
    try:
        path = ast.literal_eval(scopes)[-2]
    except (SyntaxError, ValueError, IndexError, TypeError):
        return ""
    return path if isinstance(path, str) else ""
