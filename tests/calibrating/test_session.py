"""A calibration on this very machine, with a few networks: from the design to the prices."""

import pytest

from edgekit import calibrating, profiles
from edgekit.calibrating import networks
from edgekit.errors import DeviceRuntimeMissing
from edgekit.planning import cost, rates
from tests.planning.networks import CONVOLUTIONS, shipped

pytestmark = pytest.mark.xdist_group("calibrating")

FEW = ("conv3_32-32-32-32_32", "pointwise1_16-16-16-16_12", "depthwise3_16_48")
PRECISIONS = {"float32", "int8-static", "int8-dynamic", "int8-weight-only"}
STORED = "float16"
PROFILE = shipped("generic-x86-64-amx")


def chosen(name):
    return name.startswith(FEW) or name in (networks.SMALL, networks.LARGE, networks.WIDE)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("calibration")
    settings = calibrating.Settings(seconds=1.0, rounds=1, chosen=chosen)
    return calibrating.calibrate(PROFILE, f"local:{folder}/device", folder / "cache", settings)


def test_both_runtimes_are_measured_in_every_precision(found):
    assert set(found.runtimes) == {"litert", "onnxruntime"}
    assert set(found.runtimes["litert"].rates) >= PRECISIONS
    assert set(found.runtimes["onnxruntime"].rates) == PRECISIONS
    for runtime in found.runtimes.values():
        assert STORED not in runtime.rates, "it computes as float32"
        assert STORED in runtime.memory
    assert found.device == PROFILE.name
    assert found.networks > 60
    assert found.fingerprint


def test_what_it_found_is_a_price_of_time_and_memory(found):
    for runtime in found.runtimes.values():
        assert 0 <= runtime.scaling.serial <= 1
        for precision, known in runtime.rates.items():
            paid = [p for kernel in known.kernels.values() for p in kernel.ns.values()]
            assert all(price >= 0 for price in paid)
            assert any(price > 0 for price in paid), precision
            assert 10e6 < runtime.memory[precision].base_bytes < 1e9
    assert 5e6 < found.process_bytes < 200e6


def test_it_is_what_plans_are_made_of(found):
    for recipe in (r for r in recipes_of(PROFILE) if rates.measured(found, r)):
        known = cost.predict(CONVOLUTIONS, PROFILE, recipe, found).latency_ms
        assert 0 < known.low < known.mid < known.high
        assert known.mid != cost.predict(CONVOLUTIONS, PROFILE, recipe).latency_ms.mid


def recipes_of(profile):
    from edgekit.planning.recipes import Unreachable, recipes

    return [r for r in recipes(profile) if not isinstance(r, Unreachable)]


def test_a_device_without_a_runtime_says_so(tmp_path):
    odd = profiles.find("generic-x86-64-amx")
    from msgspec import structs

    none = tuple(structs.replace(r, versions=">=99") for r in odd.runtimes)
    with pytest.raises(DeviceRuntimeMissing):
        calibrating.calibrate(
            structs.replace(odd, runtimes=none), f"local:{tmp_path}", tmp_path / "cache"
        )
