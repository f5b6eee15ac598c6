"""A tiny model with two outputs, and a right bundle of it."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper, save

from edgekit import resources
from tests.runtime_stubs import bundles
from tests.runtime_stubs.bundles import Contents, Tensor


@pytest.fixture(scope="session")
def runner() -> ModuleType:
    """The runner as a module, for its functions without effects."""
    spec = importlib.util.spec_from_file_location("runner_under_test", resources.runner())
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """``y = x @ w`` and ``total = sum(y)``: two outputs, three numbers in."""
    weights = np.arange(6, dtype=np.float32).reshape(3, 2)
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["y"]),
            helper.make_node("ReduceSum", ["y"], ["total"], keepdims=1),
        ],
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3])],
        [
            helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2]),
            helper.make_tensor_value_info("total", TensorProto.FLOAT, [1, 1]),
        ],
        [numpy_helper.from_array(weights, "w")],
    )
    path = tmp_path / "tiny.onnx"
    opset = [helper.make_opsetid("", 17)]
    save(helper.make_model(graph, opset_imports=opset, ir_version=9), path)
    return path


@pytest.fixture
def contents(model: Path) -> Contents:
    """A right bundle of ``model``."""
    x = np.random.default_rng(0).normal(size=(4, 1, 3)).astype(np.float32)
    y = x @ np.arange(6, dtype=np.float32).reshape(3, 2)
    total = y.sum(axis=2, keepdims=True)
    return Contents(
        model,
        "onnxruntime",
        ["onnxruntime"],
        [Tensor("x", x)],
        [Tensor("y", y), Tensor("total", total)],
    )


@pytest.fixture
def bundle(tmp_path: Path, contents: Contents) -> Path:
    return bundles.write(tmp_path / "bundle", contents)
