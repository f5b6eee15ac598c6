"""Exported programs that would run code: refused, or stripped of it; each with its way in."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from edgekit import sources
from edgekit.errors import ModelError
from edgekit.sources import pt2_archive
from tests.hostile import programs
from tests.hostile.programs import Program, save

needs_torch = pytest.mark.skipif(find_spec("torch") is None, reason="PyTorch is not installed")


class Payload:
    """What a pickle runs when it is loaded."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (str(self.canary), "w"))


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    return tmp_path / "canary"


def cleaned(path: Path) -> zipfile.ZipFile:
    made = path.with_name("cleaned.pt2")
    pt2_archive.clean(path, made)
    return zipfile.ZipFile(made)


def test_plain_data_pass(tmp_path: Path) -> None:
    with cleaned(save(tmp_path / "a.pt2")) as archive:
        assert set(archive.namelist()) >= {"model/models/model.json", "model/data/weights/weight_0"}
        assert archive.testzip() is None


@needs_torch
def test_pytorch_takes_what_was_cleaned(tmp_path: Path) -> None:
    source = sources.load(save(tmp_path / "a.pt2"), tmp_path)
    assert [spec.shape for spec in source.inputs] == [(1, 4)]
    assert source.name == "a"


Change = Callable[[Program, Program], object]


def graph(program: Program) -> Program:
    return program["graph_module"]["graph"]


def weight(**told: Any) -> Change:
    return lambda _program, weights: weights["config"]["weight"].update(told)


def node(**told: Any) -> Change:
    return lambda program, _weights: graph(program)["nodes"][0].update(told)


def argument(**told: Any) -> Change:
    return lambda program, _weights: graph(program)["nodes"][0]["inputs"][0].update(told)


def size(text: str) -> Change:
    """An input whose last axis is an expression."""
    axis = {"as_expr": {"expr_str": text, "hint": None}}
    return lambda program, _weights: graph(program)["tensor_values"]["x"]["sizes"].append(axis)


def call(**told: Any) -> Change:
    def change(program: Program, _weights: Program) -> None:
        program["graph_module"]["module_call_graph"][0]["signature"].update(told)

    return change


def tree(kind: str, *context: str) -> Change:
    spec = {"type": kind, "context": json.dumps(context), "children_spec": []}
    return call(in_spec=json.dumps([1, spec]))


def parameter(name: str) -> Change:
    def change(program: Program, _weights: Program) -> None:
        specs = program["graph_module"]["signature"]["input_specs"]
        specs[0]["parameter"]["parameter_name"] = name

    return change


OBJECT = {"name": "o", "class_fqn": "c"}
HOSTILE: dict[str, Change] = {
    # CVE-2024-31580 and what its fix left: every part that PyTorch would unpickle.
    "pickled weight": weight(use_pickle=True),
    "pickle not said to be none": lambda _, weights: weights["config"]["weight"].pop("use_pickle"),
    "opaque object": weight(path_name="opaque_obj_0"),
    "weight elsewhere": weight(path_name="../../../etc/passwd"),
    "script object": lambda program, _: graph(program).update(custom_obj_values={"o": OBJECT}),
    "object as argument": argument(arg={"as_custom_obj": OBJECT}),
    # Operators are looked up by getattr, from torch down to whatever it imports.
    "torch.load": node(target="torch.load"),
    "os.system": node(target="torch.os.system"),
    "through an operator": node(target="torch.ops.aten.mul.Tensor.__class__"),
    "an operator that reads files": node(target="torch.ops.aten.from_file.default"),
    "operator as argument": argument(arg={"as_operator": "torch.os.system"}),
    "operator of another library": node(target="torch.ops.evil.run.default"),
    "attrgetter": node(target="_operator.attrgetter"),
    # Expressions are evaluated by sympy.
    "expression": size("__import__('os').system('true')"),
    "expression with an attribute": size("Symbol('s').__class__"),
    "expression in text": size("Symbol('__import__(1)')"),
    "expression without end": size("(" * 900 + "1" + ")" * 900),
    # Names become the Python text of a function that is executed.
    "node's name": node(name="mul\nimport os"),
    "tensor's name": node(outputs=[{"as_tensor": {"name": "a; import os"}}]),
    "argument's name": argument(name="x=open('f')"),
    "parameter's name": parameter('a"), open("f'),
    "input's name": call(forward_arg_names=["x=open('f')"]),
    # Trees import the modules that their types name.
    "defaultdict": tree("collections.defaultdict", "os", "system"),
    "key as name": tree("builtins.dict", "a=1):"),
    # What a later PyTorch may add is not known to be harmless.
    "unknown part": lambda program, _: program.update(new_code=["1"]),
    "unknown part of a node": node(hook="torch.load"),
    "own dialect": lambda program, _: program.update(verifiers=["evil"]),
    # Malformed.
    "no nodes": lambda program, _: graph(program).pop("nodes"),
    "a list for a table": lambda program, _: program["graph_module"].update(graph=[]),
    "a text for a call": lambda program, _: program["graph_module"].update(module_call_graph="x"),
    "a number for a call's signature": lambda program, _: program["graph_module"].update(
        module_call_graph=[{"fqn": "", "signature": 1}]
    ),
    "a number for a target": node(target=1),
    "no verifiers": lambda program, _: program.update(verifiers=None),
}


@pytest.mark.parametrize("change", HOSTILE.values(), ids=HOSTILE.keys())
def test_what_is_no_plain_data_is_refused(change: Any, tmp_path: Path) -> None:
    with pytest.raises(ModelError):
        cleaned(save(tmp_path / "a.pt2", change))


@pytest.mark.parametrize(
    "name",
    [
        "data/aotinductor/model/a.so",
        "data/constants/custom_obj_0",
        "data/constants/opaque_obj_0",
        "data/weights/model.pt",
        "data/weights/weight_x",
        "models/other.json",
        "serialized_state_dict.pt",
        "../outside",
        "data.pkl",
    ],
)
def test_entries_that_may_be_code_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError):
        cleaned(save(tmp_path / "a.pt2", extra={name: b"x"}))
    assert not (tmp_path.parent / "outside").exists()


def test_sample_inputs_and_guards_are_left_out(tmp_path: Path, canary: Path) -> None:
    """Unpickled, and executed, by ``torch.export.load`` and by the program that it gives."""
    payload = pickle.dumps(Payload(canary))
    path = save(
        tmp_path / "a.pt2",
        lambda p, w: p.update(guards_code=[f"open({str(canary)!r}, 'w')"]),
        {"data/sample_inputs/model.pt": payload, "extra/notes": payload},
    )
    with cleaned(path) as archive:
        assert archive.read("model/data/sample_inputs/model.pt") == b""
        assert b"open(" not in archive.read("model/models/model.json")
        assert "model/extra/notes" not in archive.namelist()


@needs_torch
def test_pytorch_runs_what_edgekit_leaves_out(tmp_path: Path, canary: Path) -> None:
    """The way in is real: PyTorch itself goes it, edgekit does not."""
    import torch

    payload = pickle.dumps(Payload(canary))
    path = save(tmp_path / "a.pt2", extra={"data/sample_inputs/model.pt": payload})
    sources.load(path, tmp_path)
    assert not canary.exists()
    with pytest.raises(Exception):  # noqa: B017, PT011 - whatever PyTorch makes of it
        torch.export.load(path)
    assert canary.exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"# not an archive\n" * 9])
def test_what_is_no_archive_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.pt2"
    path.write_bytes(content)
    with pytest.raises(ModelError, match="no archive"):
        cleaned(path)


def test_an_archive_that_is_cut_is_refused(tmp_path: Path) -> None:
    whole = save(tmp_path / "a.pt2").read_bytes()
    for tenth in range(1, 10):
        path = tmp_path / "cut.pt2"
        path.write_bytes(whole[: len(whole) * tenth // 10])
        with pytest.raises(ModelError):
            cleaned(path)


def test_entries_given_twice_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.pt2")
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("archive/models/model.json", b"{}")
    with pytest.raises(ModelError, match="twice"):
        cleaned(path)


def test_a_bomb_is_refused_by_what_it_declares(tmp_path: Path) -> None:
    path = tmp_path / "a.pt2"
    save(path)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        with archive.open(zipfile.ZipInfo("archive/data/weights/weight_1"), "w") as file:
            file.write(b"\0")
        archive.infolist()[-1].file_size = pt2_archive.LARGEST_BYTES
    with pytest.raises(ModelError, match="bytes"):
        cleaned(path)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".ckpt", ".pkl"])
def test_a_pickle_is_refused_unread(suffix: str, tmp_path: Path, canary: Path) -> None:
    path = tmp_path / f"model{suffix}"
    path.write_bytes(pickle.dumps(Payload(canary)))
    with pytest.raises(ModelError, match="pickle") as caught:
        sources.load(path, tmp_path)
    assert "torch.export.save" in caught.value.hint
    assert not canary.exists()


def test_the_archive_of_these_tests_is_not_all_refused(tmp_path: Path) -> None:
    """A change that does no harm passes: what is refused above is refused for its change."""
    weights = programs.WEIGHTS["config"]["weight"]["path_name"]
    assert weights == "weight_0"
    cleaned(save(tmp_path / "a.pt2", lambda p, w: p.update(torch_version="2.16"))).close()
