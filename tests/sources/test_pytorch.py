"""PyTorch: modules and exported programs become ONNX; skipped where PyTorch is not installed."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import numpy_helper

import edgekit as ek
from edgekit import sources
from edgekit.errors import ModelError, UsageError
from edgekit.sources import pytorch
from tests import models
from tests.paths import ROOT

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
pytest.importorskip("onnxscript", reason="onnxscript is not installed")


class Block(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3, padding=1)
        self.norm = torch.nn.BatchNorm2d(4)
        self.drop = torch.nn.Dropout(0.5)

    def forward(self, x):
        return self.drop(torch.relu(self.norm(self.conv(x))))


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.block, self.head = Block(), torch.nn.Linear(4, 5)

    def forward(self, x, scale=None):
        pooled = self.block(x).mean((2, 3))
        return self.head(pooled if scale is None else pooled * scale)


X = torch.linspace(-1, 1, 3 * 8 * 8).reshape(1, 3, 8, 8)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def agrees(model: ek.Model, module: torch.nn.Module, **feeds: torch.Tensor) -> bool:
    (got,) = models.run(model.path, {name: value.numpy() for name, value in feeds.items()}).values()
    with torch.no_grad():
        expected = module.eval()(**feeds).numpy()
    return bool(np.allclose(got, expected, atol=1e-4 * np.abs(expected).max()))


def test_a_module_becomes_what_it_computes() -> None:
    module = Net().eval()
    model = ek.load(module, example_inputs=(X,))
    assert model.summary.name == "Net"
    assert model.summary.inputs[0].shape == (1, 3, 8, 8)
    assert agrees(model, module, x=X)


def test_nodes_are_named_after_their_modules() -> None:
    names = [node.name for node in ek.load(Net().eval(), example_inputs=(X,)).summary.nodes]
    assert any(name.startswith("block.") for name in names)
    assert any(name.startswith("head/") for name in names)


def test_inputs_are_given_by_name() -> None:
    module, scale = Net().eval(), torch.tensor([1.0, 2.0, 3.0, 4.0])
    model = ek.load(module, example_inputs={"x": X, "scale": scale})
    assert {spec.name for spec in model.summary.inputs} == {"x", "scale"}
    assert agrees(model, module, x=X, scale=scale)


def test_a_module_in_training_is_exported_for_inference_and_stays_in_training() -> None:
    module = Net()
    module.block.drop.eval()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    model = ek.load(module, example_inputs=(X,))
    assert [m.training for m in (module, module.block, module.block.drop)] == [True, True, False]
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    assert agrees(model, module, x=X)


def test_an_exported_program_needs_no_inputs() -> None:
    module = Net().eval()
    program = torch.export.export(
        module, (X.repeat(2, 1, 1, 1),), dynamic_shapes={"x": {0: torch.export.Dim("n", max=8)}}
    )
    model = ek.load(program)
    assert model.summary.inputs[0].shape == (1, 3, 8, 8)
    assert agrees(model, module, x=X)


def test_equal_modules_are_equal_bytes_in_every_process() -> None:
    code = (
        "import edgekit as ek; from tests.sources.test_pytorch import Net, X;"
        "print(ek.load(Net().eval(), example_inputs=(X,)).path)"
    )
    here = ek.load(Net().eval(), example_inputs=(X,)).path
    env = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "7"}
    told = subprocess.run(
        [sys.executable, "-c", code], env=env, check=True, capture_output=True, text=True
    )
    assert told.stdout.split()[-1] == str(here)
    assert str(ROOT).encode() not in here.read_bytes()


def test_a_module_without_inputs_says_how_to_give_them() -> None:
    with pytest.raises(UsageError) as caught:
        ek.load(Net())
    assert "example_inputs=(" in caught.value.hint


def spoilt(model):
    """An exporter's defect: a weight that is a little off."""
    weight = model.graph.initializer[0]
    array = numpy_helper.to_array(weight) * np.float32(1.01)
    weight.CopyFrom(numpy_helper.from_array(array, weight.name))
    return model


@pytest.mark.parametrize("live", [True, False])
def test_an_export_that_gives_something_else_is_refused(live: bool, monkeypatch) -> None:
    module, plain = Net().eval(), pytorch._plain
    given = module if live else torch.export.export(module, (X,))
    monkeypatch.setattr(pytorch, "_plain", lambda model: spoilt(plain(model)))
    with pytest.raises(ModelError, match="does not give what the model gives"):
        ek.load(given, example_inputs=(X,) if live else None)


class Broken(torch.nn.Module):
    def forward(self, x):
        raise ValueError("this layer is broken")


def test_a_module_that_fails_says_why() -> None:
    with pytest.raises(ModelError, match="this layer is broken"):
        ek.load(Broken(), example_inputs=(X,))


def test_an_exported_program_in_a_file(tmp_path: Path) -> None:
    module = Net().eval()
    program = torch.export.export(
        module, (X.repeat(2, 1, 1, 1),), dynamic_shapes={"x": {0: torch.export.Dim("n", max=8)}}
    )
    path = tmp_path / "net.pt2"
    torch.export.save(program, path)
    (tmp_path / "graphs").mkdir()
    source = sources.load(path, tmp_path / "graphs")
    assert (source.name, source.origin) == ("net", path)
    assert source.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert source.inputs[0].shape == (1, 3, 8, 8)
    (got,) = models.run(source.graph, {"x": X.numpy()}).values()
    expected = module(X).detach().numpy()
    np.testing.assert_allclose(got, expected, atol=1e-4 * np.abs(expected).max())
