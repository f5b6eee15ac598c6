"""A small exported program as ``torch.export.save`` lays it out, made without PyTorch."""

from __future__ import annotations

import copy
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

Program = dict[str, Any]


def meta(*sizes: int) -> Program:
    """A tensor's description: float32 on the CPU, strided, contiguous."""
    strides = [int(np.prod(sizes[axis + 1 :])) for axis in range(len(sizes))]
    return {
        "dtype": 7,
        "sizes": [{"as_int": size} for size in sizes],
        "requires_grad": False,
        "device": {"type": "cpu", "index": None},
        "strides": [{"as_int": stride} for stride in strides],
        "storage_offset": {"as_int": 0},
        "layout": 7,
    }


def _tensor(name: str) -> Program:
    return {"as_tensor": {"name": name}}


def _leaf(*children: Program, kind: str | None = None, context: str | None = None) -> Program:
    return {"type": kind, "context": context, "children_spec": list(children)}


_IN = _leaf(
    _leaf(_leaf(), kind="builtins.tuple", context="null"),
    _leaf(kind="builtins.dict", context="[]"),
    kind="builtins.tuple",
    context="null",
)
PROGRAM: Program = {
    "graph_module": {
        "graph": {
            "inputs": [_tensor("p_weight"), _tensor("x")],
            "outputs": [_tensor("mul")],
            "nodes": [
                {
                    "target": "torch.ops.aten.mul.Tensor",
                    "inputs": [
                        {"name": "self", "arg": _tensor("x"), "kind": 1},
                        {"name": "other", "arg": _tensor("p_weight"), "kind": 1},
                    ],
                    "outputs": [_tensor("mul")],
                    "metadata": {"nn_module_stack": "L__self__,,my.Scale", "custom": "{}"},
                    "is_hop_single_tensor_return": None,
                    "name": "mul",
                }
            ],
            "tensor_values": {"p_weight": meta(4), "x": meta(1, 4), "mul": meta(1, 4)},
            "sym_int_values": {},
            "sym_bool_values": {},
            "is_single_tensor_return": False,
            "custom_obj_values": {},
            "sym_float_values": {},
        },
        "signature": {
            "input_specs": [
                {"parameter": {"arg": {"name": "p_weight"}, "parameter_name": "weight"}},
                {"user_input": {"arg": _tensor("x")}},
            ],
            "output_specs": [{"user_output": {"arg": _tensor("mul")}}],
        },
        "module_call_graph": [
            {
                "fqn": "",
                "signature": {
                    "inputs": [],
                    "outputs": [],
                    "in_spec": json.dumps([1, _IN]),
                    "out_spec": json.dumps([1, _leaf()]),
                    "forward_arg_names": ["x"],
                },
            }
        ],
        "metadata": {},
        "treespec_namedtuple_fields": {},
    },
    "opset_version": {"aten": 10},
    "range_constraints": {},
    "schema_version": {"major": 8, "minor": 20},
    "verifiers": ["TRAINING"],
    "torch_version": "2.15.0",
    "guards_code": [],
}
WEIGHTS: Program = {
    "config": {
        "weight": {
            "path_name": "weight_0",
            "is_param": True,
            "use_pickle": False,
            "tensor_meta": meta(4),
        }
    }
}


def save(
    path: Path,
    change: Callable[[Program, Program], None] = lambda _program, _weights: None,
    extra: Mapping[str, bytes] | None = None,
) -> Path:
    """Write the archive: ``change`` edits its program and its weights' table beforehand."""
    program, weights = copy.deepcopy(PROGRAM), copy.deepcopy(WEIGHTS)
    change(program, weights)
    entries = {
        "models/model.json": json.dumps(program).encode(),
        "data/weights/model_weights_config.json": json.dumps(weights).encode(),
        "data/weights/weight_0": np.arange(4, dtype=np.float32).tobytes(),
        "data/constants/model_constants_config.json": b'{"config": {}}',
        "data/sample_inputs/model.pt": b"",
        "archive_format": b"pt2",
        "archive_version": b"0",
        "byteorder": b"little",
        ".data/version": b"6\n",
        **(extra or {}),
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(zipfile.ZipInfo(f"archive/{name}"), content)
    return path
