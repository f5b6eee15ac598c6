"""Exported PyTorch programs (``.pt2``), taken apart and written anew before PyTorch sees them.

``torch.export.load`` is not for strangers' files: it unpickles weights, constants and sample
inputs (CVE-2024-31580; ``weights_only`` is tried first and then given up), looks operators
up by ``getattr`` from ``torch``, evaluates expressions and guards as Python, imports the
types of its trees, and loads compiled libraries. What passes here is plain data of kinds
that are listed below; all else is left out or refused. PyTorch is not needed for it.
"""

from __future__ import annotations

import ast
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from edgekit.errors import ModelError

LARGEST_BYTES = 2**31
MOST_ENTRIES = 100_000
_LONGEST_EXPRESSION = 2_000

_PROGRAM = "models/model.json"
_SAMPLES = "data/sample_inputs/model.pt"
_CONFIGS = {
    "data/weights/model_weights_config.json": "weight",
    "data/constants/model_constants_config.json": "tensor",
}
_PLAIN = re.compile(
    r"archive_format|archive_version|byteorder|\.data/version|\.data/serialization_id"
    r"|data/weights/weight_\d+|data/constants/tensor_\d+"
)
_LEFT_OUT = re.compile(
    r"extra/.*|" + re.escape(_SAMPLES) + r"|\.format_version|\.storage_alignment"
)

_OPERATOR = re.compile(
    r"torch\.ops\.(aten|prims)\.(?!from_file\b)\w+\.\w+"
    r"|_operator\.(add|sub|mul|truediv|floordiv|mod|pow|neg|pos|eq|ne|lt|le|gt|ge|getitem"
    r"|and_|or_|not_)"
    r"|math\.(ceil|floor|trunc|sqrt)|torch\.sym_(int|float|max|min|not|ite|sum)"
)
_ARGUMENTS = re.compile(
    r"as_(none|complex|name|expr|scalar_type|memory_format|layout|device|int_lists"
    r"|(optional_|nested_)?tensors?|(sym_)?(ints?|floats?|bools?)|strings?)"
)
"""Kinds of arguments; no graphs, operators or objects among them."""

_KEYS = {
    "program": "graph_module opset_version range_constraints schema_version verifiers "
    "torch_version guards_code",
    "graph_module": "graph signature module_call_graph metadata treespec_namedtuple_fields",
    "graph": "inputs outputs nodes tensor_values sym_int_values sym_bool_values "
    "sym_float_values custom_obj_values is_single_tensor_return",
    "node": "target inputs outputs metadata is_hop_single_tensor_return name",
}
_VERIFIERS = ({"TRAINING"}, {"ATEN"}, {"TRAINING", "ATEN"})
_TREES = (None, "builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict")
_FUNCTIONS = re.compile(
    r"Symbol|Integer|Rational|Float|Add|Mul|Pow|Mod|Max|Min|FloorDiv|CleanDiv|PythonMod"
)
_LAYER = "nn_module_stack"
_NAME = re.compile(r"[A-Za-z0-9_]*")
_DOTTED_NAME = re.compile(r"[A-Za-z0-9_.-]*")
Json = Any


def clean(path: Path, destination: Path) -> None:
    """Write what is harmless of an archive into a new one, under ``model/``.

    Raises:
        ModelError: not an archive that ``torch.export.save`` writes, or one that holds what
            is no plain data: pickles, compiled code, operators of its own.
    """
    try:
        with zipfile.ZipFile(path) as archive, zipfile.ZipFile(destination, "w") as made:
            for name, content in _entries(archive):
                if kept := _cleaned(name, content):
                    made.writestr(zipfile.ZipInfo(f"model/{name}"), kept)
            made.writestr(zipfile.ZipInfo(f"model/{_SAMPLES}"), b"")
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError) as error:
        raise ModelError(
            f"{path.name} is no archive of an exported program, or it is damaged: {error}",
            "write it with torch.export.save of PyTorch 2.8 or later",
        ) from error
    except (msgspec.DecodeError, RecursionError, KeyError, IndexError, TypeError) as error:
        raise ModelError(f"{path.name} holds a damaged description of its program") from error


def _entries(archive: zipfile.ZipFile) -> Iterator[tuple[str, bytes]]:
    """The entries below the archive's one folder; their declared sizes are kept to."""
    found = archive.infolist()
    if len(found) > MOST_ENTRIES or sum(one.file_size for one in found) > LARGEST_BYTES:
        raise ModelError(f"the archive passes {MOST_ENTRIES} entries or {LARGEST_BYTES} bytes")
    names = [one.filename.partition("/") for one in found]
    roots = {root for root, _, _ in names}
    if len(roots) != 1 or len({name for _, _, name in names}) != len(names):
        raise ModelError("the archive has entries outside its folder, or one of them twice")
    if _PROGRAM not in {name for _, _, name in names}:
        raise ModelError(
            "the archive holds no exported program",
            "write it with torch.export.save of PyTorch 2.8 or later",
        )
    for one, (_, _, name) in zip(found, names, strict=True):
        if _LEFT_OUT.fullmatch(name):
            continue
        with archive.open(one) as file:
            yield name, file.read(one.file_size)


def _cleaned(name: str, content: bytes) -> bytes:
    if name == _PROGRAM:
        return msgspec.json.encode(_program(msgspec.json.decode(content)))
    if name in _CONFIGS:
        return msgspec.json.encode(_config(msgspec.json.decode(content), _CONFIGS[name]))
    if _PLAIN.fullmatch(name):
        return content
    raise _refused(f"the entry {name!r}, which may be code")


def _config(config: Json, prefix: str) -> Json:
    """Where each weight lies: as plain numbers, never pickled."""
    for name, told in _table(_table(config).get("config")).items():
        entry = _table(told)
        plain = re.fullmatch(rf"{prefix}_\d+", str(entry.get("path_name")))
        if entry.get("use_pickle") is not False or not plain:
            raise _refused(f"{name!r} as a pickle or an object")
        entry["tensor_meta"] = _walked(entry.get("tensor_meta"))
    return config


def _program(program: Json) -> Json:
    program = _only("program", program)
    module = _only("graph_module", program["graph_module"])
    graph = _only("graph", module["graph"])
    if graph.get("custom_obj_values"):
        raise _refused("objects of its own")
    if set(program["verifiers"]) not in _VERIFIERS:
        raise _refused(f"a dialect of its own ({program['verifiers']})")
    for node in graph["nodes"]:
        _check_operator(_only("node", node)["target"])
        layer = _table(node["metadata"]).get(_LAYER)
        node["metadata"] = {_LAYER: layer} if isinstance(layer, str) else {}
    for call in module["module_call_graph"]:
        if signature := _table(_table(call).get("signature") or {}):
            for key in ("in_spec", "out_spec"):
                _check_tree(msgspec.json.decode(signature[key])[1])
            for name in signature.get("forward_arg_names") or ():
                _check_name(name, _NAME)
    # Executed as Python when the program is run, and needed for nothing here.
    program["guards_code"] = []
    module["metadata"], module["treespec_namedtuple_fields"] = {}, {}
    return _walked(program)


def _only(what: str, value: Json) -> dict[str, Json]:
    """A part of the program with all its keys known."""
    part = _table(value)
    if unknown := set(part) - set(_KEYS[what].split()):
        raise ModelError(
            f"the program's {what} has a part {min(unknown)!r} that edgekit does not know",
            "export to ONNX in your own Python instead (torch.onnx.export)",
        )
    return part


def _table(value: Json) -> dict[str, Json]:
    if not isinstance(value, dict):
        raise ModelError("the archive describes its program in another way than PyTorch does")
    return value


def _check_operator(target: Json) -> None:
    if not isinstance(target, str) or not _OPERATOR.fullmatch(target):
        raise _refused(f"the operator {target!r}, which is none of PyTorch's own")


def _check_tree(spec: Json) -> None:
    """How inputs and outputs are nested: in plain containers only."""
    if _table(spec).get("type") not in _TREES:
        raise _refused(f"inputs or outputs in a {spec.get('type')}")
    for name in msgspec.json.decode(spec.get("context") or "null") or ():
        _check_name(name, _NAME)
    for child in spec.get("children_spec", ()):
        _check_tree(child)


def _walked(value: Json) -> Json:
    """Every expression, argument and device below a part of the program."""
    if isinstance(value, list):
        return [_walked(one) for one in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {"type", "index"} and isinstance(value["type"], str):
        return {"type": "cpu", "index": None}
    for key, inner in value.items():
        _check_name(key, _DOTTED_NAME)
        if key.endswith("name") or key == "fqn":
            _check_name(inner, _NAME if key in ("name", "as_name") else _DOTTED_NAME)
        if key.startswith("as_") and not _ARGUMENTS.fullmatch(key):
            raise _refused(f"an argument of kind {key!r}")
        if key == "expr_str":
            _check_expression(inner)
    return {key: _walked(inner) for key, inner in value.items()}


def _check_name(name: Json, allowed: re.Pattern[str]) -> None:
    """PyTorch writes names into the Python that it makes of a program, and executes that."""
    if name is not None and not (isinstance(name, str) and allowed.fullmatch(name)):
        raise _refused(f"the name {name!r}")


def _check_expression(text: Json) -> None:
    """A size as sympy writes it, and evaluates it: ``Mul(Integer(2), Symbol('s0'))``."""
    try:
        if not isinstance(text, str) or len(text) > _LONGEST_EXPRESSION:
            raise ValueError
        _check_node(ast.parse(text, mode="eval").body)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise _refused("a size that is no plain expression") from error


def _check_node(node: ast.expr) -> None:
    match node:
        case ast.Constant(value=bool() | int() | float()):
            return
        case ast.Constant(value=str(name)) if name.isidentifier():
            return
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            _check_node(operand)
        case ast.Call(func=ast.Name(id=name), args=args, keywords=keywords) if _FUNCTIONS.fullmatch(
            name
        ):
            for part in (*args, *(keyword.value for keyword in keywords)):
                _check_node(part)
        case _:
            raise ValueError


def _refused(what: str) -> ModelError:
    return ModelError(
        f"the exported program holds {what}: edgekit takes plain data and PyTorch's operators only",
        "whoever made it can export it to ONNX (torch.onnx.export), or give the live module",
    )
