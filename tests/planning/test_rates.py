"""Prices scaled from the reference: in which direction each moves, and by how much."""

import pytest
from msgspec import structs

from edgekit.domain import Format, Mode, Quantization, Recipe
from edgekit.planning import kernels, rates
from tests.planning.networks import shipped

REFERENCE = shipped("generic-x86-64-amx")
FLOAT = Recipe(format=Format.LITERT, runtime="litert")
STATIC = structs.replace(
    FLOAT, quantization=Quantization(mode=Mode.STATIC, weights="int8", activations="int8")
)


def own():
    return rates._reference()[0].runtimes["litert"]


def changed(**fields):
    cluster = structs.replace(REFERENCE.cpu.clusters[0], **fields)
    return structs.replace(REFERENCE, cpu=structs.replace(REFERENCE.cpu, clusters=(cluster,)))


def test_the_reference_is_its_own_scale():
    assert rates.scaled(REFERENCE, FLOAT) == own().rates["float32"]


def test_every_family_of_operators_has_prices():
    """But for those that no tool could make of a calibration network: they have a stand-in."""
    for runtime in rates._reference()[0].runtimes.values():
        for precision, found in runtime.rates.items():
            assert {"conv", "pointwise", "depthwise", "dense", "matmul"} <= set(found.kernels)
            assert set(found.kernels) <= {kind.value for kind in kernels.Family}, precision


def test_half_the_clock_is_twice_the_time():
    slow = rates.scaled(changed(max_clock_mhz=REFERENCE.cpu.clusters[0].max_clock_mhz / 2), FLOAT)
    now, then = slow.kernels["conv"].ns, own().rates["float32"].kernels["conv"].ns
    assert now["macs"] == pytest.approx(2 * then["macs"])
    assert now["outputs"] == pytest.approx(2 * then["outputs"])
    assert slow.call_ns == pytest.approx(2 * own().rates["float32"].call_ns)


def test_without_amx_int8_is_float_faster_by_the_ratio_of_the_peaks():
    pi = shipped("raspberry-pi-5")
    float_, static = (rates.scaled(pi, recipe).kernels["conv"].ns for recipe in (FLOAT, STATIC))
    assert float_["macs"] / static["macs"] == pytest.approx((32 / 8) ** 0.75)


def test_dynamic_int8_of_onnxruntime_is_for_products_only():
    dynamic = Quantization(mode=Mode.DYNAMIC, weights="int8", activations="float32")
    plain = Recipe(format=Format.ONNXRUNTIME, runtime="onnxruntime")
    pi = shipped("raspberry-pi-5")
    float_ = rates.scaled(pi, plain).kernels
    found = rates.scaled(pi, structs.replace(plain, quantization=dynamic)).kernels
    assert found["conv"] == float_["conv"]
    assert found["matmul"].ns["macs"] < float_["matmul"].ns["macs"]


def test_without_kernels_wide_activations_cost_a_multiple_of_float():
    wide = Quantization(mode=Mode.STATIC, weights="int8", activations="int16")
    recipe = structs.replace(FLOAT, quantization=wide)
    pi = shipped("raspberry-pi-5")
    slow, float_ = (rates.scaled(pi, each).kernels["conv"].ns for each in (recipe, FLOAT))
    assert slow["macs"] == pytest.approx(75 * float_["macs"])
    calibration = rates._reference()[0]
    assert rates.measured(calibration, recipe).kernels["conv"].ns["macs"] == pytest.approx(
        75 * own().rates["float32"].kernels["conv"].ns["macs"]
    )
    assert rates.memory(calibration, recipe)[0] == own().memory["int8-static"]


def test_narrow_vectors_have_small_blocks():
    narrow = changed(extensions=())
    then = own().rates["float32"].kernels["conv"].output_tile
    assert rates.scaled(narrow, FLOAT).kernels["conv"].output_tile == max(1, then // 4)


def test_bandwidth_pays_for_what_the_cache_cannot_keep():
    memory = structs.replace(REFERENCE.memory, bandwidth_gb_per_s=12.8)
    scaled = rates.scaled(structs.replace(REFERENCE, memory=memory), FLOAT).kernels["dense"].ns
    then = own().rates["float32"].kernels["dense"].ns
    assert scaled["spilled"] == pytest.approx(then["spilled"] * 25.6 / 12.8)
