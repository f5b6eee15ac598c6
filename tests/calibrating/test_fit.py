"""Prices are found again in times that were made of them, and a bad measurement is outvoted."""

import numpy as np
import pytest

from edgekit import inspection
from edgekit.calibrating import artifacts, fit, networks
from edgekit.domain import Format, Kernel, Recipe
from edgekit.planning import kernels, rates
from edgekit.planning.kernels import Family
from edgekit.planning.rates import USUAL_SCALING
from tests.planning.networks import shipped

TRUE = {
    Family.CONV: Kernel(
        ns={"macs": 0.01, "outputs": 0.2, "calls": 800.0}, output_tile=16, input_tile=4
    ),
    Family.POINTWISE: Kernel(ns={"macs": 0.02, "reads": 0.1, "calls": 500.0}, output_tile=32),
    Family.DEPTHWISE: Kernel(ns={"macs": 0.05, "calls": 300.0}, output_tile=8),
}
CALL_NS = 2000.0
EXPECTED = rates.scaled(
    shipped("generic-x86-64-amx"), Recipe(format=Format.LITERT, runtime="litert")
)


@pytest.fixture(scope="module")
def summaries(tmp_path_factory):
    folder = tmp_path_factory.mktemp("networks")
    wanted = ("conv", "pointwise", "depthwise")
    return {
        name: inspection.inspect(artifacts._source(name, model, folder))
        for name, model in networks.designed()
        if name.startswith(wanted)
    }


def true_ns(summary):
    """What the network takes where these prices hold."""
    total = CALL_NS
    for node in summary.nodes:
        if (kind := kernels.family(node)) in TRUE:
            kernel = TRUE[kind]
            asked = kernels.quantities(node, kernel)
            total += sum(price * asked[name] for name, price in kernel.ns.items())
    return total


def fitted(measured, summaries):
    checks = {name: ns for name, ns in measured.items() if name.endswith("_14_1")}
    rest = {name: ns for name, ns in measured.items() if name not in checks}
    return fit.rates(rest, checks, summaries, "float32", EXPECTED)


def test_prices_and_blocks_are_found_again(summaries):
    measured = {name: true_ns(summary) for name, summary in summaries.items()}
    found = fitted(measured, summaries)
    assert found.within_10_percent == 1.0
    assert found.measured == len(measured)
    assert found.spread == (pytest.approx(0.95), pytest.approx(1.05))
    conv = found.kernels["conv"]
    assert (conv.output_tile, conv.input_tile) == (16, 4)
    assert conv.ns["macs"] == pytest.approx(0.01, rel=0.1)


def test_a_few_wrong_measurements_are_outvoted(summaries):
    measured = {name: true_ns(summary) for name, summary in summaries.items()}
    for name in sorted(measured)[::12]:
        measured[name] *= 3
    found = fitted(measured, summaries)
    assert found.within_10_percent > 0.85
    assert found.kernels["conv"].ns["macs"] == pytest.approx(0.01, rel=0.15)


def test_prices_that_the_networks_leave_open_stay_near_what_was_expected(summaries):
    few = ("conv3_32-32-32-32_32_1", "depthwise3_64_192_1")
    measured = {name: 2 * true_ns(summaries[name]) for name in few}
    found = fit.rates(measured, {}, summaries, "float32", EXPECTED)
    assert set(found.kernels) == set(EXPECTED.kernels)
    for name, kernel in found.kernels.items():
        assert any(kernel.ns.values()), f"{name} is free"
    for name in few:
        (kind,) = {kernels.family(n).value for n in summaries[name].nodes} - {"folded"}
        kernel = found.kernels[kind]
        asked = [kernels.quantities(n, kernel) for n in summaries[name].nodes]
        own = sum(kernel.ns.get(q, 0.0) * amount for row in asked for q, amount in row.items())
        assert own == pytest.approx(measured[name], rel=0.5)


def test_noise_is_in_the_interval(summaries):
    random = np.random.default_rng(0)
    noise = {name: float(random.uniform(0.8, 1.25)) for name in summaries}
    measured = {name: true_ns(summary) * noise[name] for name, summary in summaries.items()}
    low, high = fitted(measured, summaries).spread
    assert low < 0.9
    assert high > 1.1


@pytest.mark.parametrize(("serial", "sync_ns"), [(0.0, 0.0), (0.2, 3000.0), (0.05, 10_000.0)])
def test_what_threads_bring(serial, sync_ns):
    pairs = [
        fit.Threaded(n, operators, alone, alone * (serial + (1 - serial) / n) + sync_ns * operators)
        for n in (2, 4)
        for operators, alone in ((1, 1e6), (3, 4e6), (20, 1e5))
    ]
    found = fit.scaling(pairs)
    assert found.serial == pytest.approx(serial, abs=1e-6)
    assert found.sync_ns == pytest.approx(sync_ns, abs=1e-3)


def test_without_a_second_core_what_is_usual_holds():
    assert fit.scaling([]) == USUAL_SCALING


def test_memory_is_taken_apart():
    peaks = [
        fit.Peak(weights, arena, 50e6 + 2 * weights + 1.5 * arena)
        for weights, arena in ((1e3, 1e3), (8e6, 1e4), (1e4, 2e7))
    ]
    found = fit.memory(peaks, "float32")
    assert found.base_bytes == pytest.approx(50e6, rel=1e-3)
    assert found.per_weight_byte == pytest.approx(2, rel=1e-3)
    assert found.per_arena_byte == pytest.approx(1.5, rel=1e-3)
    quarter = fit.memory([p._replace(arena_bytes=4 * p.arena_bytes) for p in peaks], "int8-static")
    assert quarter == found
