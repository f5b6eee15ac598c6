"""The designed networks are networks, and between them they have what real ones have."""

import numpy as np
import onnx
import onnxruntime
import pytest

from edgekit import inspection
from edgekit.calibrating import artifacts, networks
from edgekit.planning import kernels
from edgekit.planning.kernels import Family

DESIGNED = dict(networks.designed())


def test_each_name_is_of_one_network():
    assert len(DESIGNED) == sum(1 for _ in networks.designed())


def test_the_same_design_is_the_same_bytes():
    name = "pointwise1_8-16-8-16_48_1"
    assert dict(networks.designed())[name] == DESIGNED[name]


@pytest.mark.parametrize("name", [networks.LARGE, networks.SMALL, networks.WIDE])
def test_those_that_are_asked_for_by_name_are_there(name):
    assert name in DESIGNED


@pytest.mark.parametrize("prefix", networks.CHECKS)
def test_whole_networks_are_kept_for_checking(prefix):
    assert sum(name.startswith(prefix) for name in DESIGNED) >= 3


@pytest.mark.parametrize(
    "name",
    ["conv3_3-8_96_3_2", "lstm_28_28_20", "mobile_64", "resnet_32_8_2", "matmul_32_40-160-40"],
)
def test_they_run(name):
    model = DESIGNED.get(name) or next(m for n, m in DESIGNED.items() if n.startswith(name[:6]))
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    shape = networks.shape_of(model.graph.input[0])
    (given,) = session.run(None, {"x": networks.sample(shape, 1).reshape(shape)})
    assert given.shape == networks.shape_of(model.graph.output[0])
    assert np.isfinite(given).all()
    assert given.std() > 0


@pytest.mark.parametrize("name", ["residual_16_32", "maxpool_16_24", "separable_16_24"])
def test_operators_stay_in_the_layout_of_the_convolutions_around_them(name, tmp_path):
    """Alone a runtime changes the layout before each and after it, and that would be priced."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    onnxruntime.InferenceSession(DESIGNED[name].SerializeToString(), options)
    run = [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node]
    assert len(run) >= 3
    assert not any(operator.startswith("Reorder") for operator in run[1:-1])


def test_every_family_of_operators_is_measured_apart(tmp_path):
    """What always came together could not be told apart by any fit."""
    found: dict[Family, set[str]] = {}
    for name, model in DESIGNED.items():
        if not name.startswith(networks.CHECKS):
            summary = inspection.inspect(artifacts._source(name, model, tmp_path))
            for node in summary.nodes:
                found.setdefault(kernels.family(node), set()).add(name)
    assert set(Family) == set(found)
    assert len({frozenset(names) for names in found.values()}) == len(Family)
