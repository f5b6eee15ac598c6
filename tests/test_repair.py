"""Repair: the fewest nodes in float, found by what quantizing each of them costs."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import numpy_helper

from edgekit import bundle, pipeline, profiles, repair, sources
from edgekit.datasets import load
from edgekit.domain import Format, Goal, Mode, NodeCost, Outcome, Quantization, Recipe
from edgekit.formats import FORMATS, Job
from edgekit.pipeline import Request
from edgekit.planning import Choice
from tests import audio
from tests.paths import CALIBRATION, DIGITS_MODEL

NAMES = tuple(f"node{index}" for index in range(40))


class Attempts:
    """Passes from so many nodes on; counts how often it was asked."""

    def __init__(self, needed: int) -> None:
        self.needed = needed
        self.asked: list[int] = []

    def __call__(self, names: tuple[str, ...]) -> int | None:
        assert names == NAMES[: len(names)]
        self.asked.append(len(names))
        return len(names) if len(names) >= self.needed else None


@pytest.mark.parametrize("needed", range(1, 21))
def test_the_fewest_are_found_in_few_attempts(needed: int) -> None:
    attempt = Attempts(needed)
    assert repair.fewest(NAMES, len(NAMES), attempt) == needed
    assert len(attempt.asked) == len(set(attempt.asked)) <= 10


def test_too_much_in_float_is_no_repair() -> None:
    """Even where it would pass; fewer than that may."""

    def attempt(names: tuple[str, ...]) -> int | None:
        if len(names) >= 7:
            raise repair.TooMuch
        return len(names) if len(names) >= needed else None

    needed = 6
    assert repair.fewest(NAMES, len(NAMES), attempt) == 6
    needed = 7
    assert repair.fewest(NAMES, len(NAMES), attempt) is None


def test_a_network_is_not_left_in_float() -> None:
    attempt = Attempts(needed=21)
    assert repair.fewest(NAMES, len(NAMES), attempt) is None
    assert max(attempt.asked) == 20
    assert repair.fewest((), 10, attempt) is None


def test_what_costs_nothing_is_never_blamed() -> None:
    costs = [NodeCost("a", 0.1), NodeCost("b", 0.0), NodeCost("d", 0.3), NodeCost("c", 0.3)]
    assert [cost.name for cost in repair.by_cost(costs)] == ["c", "d", "a"]


@pytest.mark.parametrize(
    ("format_", "activations"), [(Format.LITERT, "int8"), (Format.ONNXRUNTIME, "uint8")]
)
def test_every_node_has_a_cost_and_can_stay_in_float(
    format_: Format, activations: str, tmp_path: Path
) -> None:
    """With all of them in float, the artifact is the float network."""
    spec = FORMATS[format_]
    assert spec.sensitivity
    source = sources.load(DIGITS_MODEL, tmp_path)
    quantization = Quantization(mode=Mode.STATIC, weights="int8", activations=activations)
    recipe = Recipe(format=format_, runtime=spec.host_runtime, quantization=quantization)

    def job(folder: str, *float_nodes: str) -> Job:
        (tmp_path / folder).mkdir()
        mixed = Recipe(
            format=format_,
            runtime=spec.host_runtime,
            quantization=quantization,
            float_nodes=float_nodes,
        )
        calibration = load(CALIBRATION, source.inputs)
        return Job(source=source, recipe=mixed, folder=tmp_path / folder, calibration=calibration)

    costs = spec.sensitivity(job("costs"))
    assert {cost.error > 0 for cost in costs} >= {True}
    assert max(cost.error for cost in costs) < 0.1
    names = [cost.name for cost in repair.by_cost(costs)]
    sizes = [
        spec.make(job(f"float-{count}", *names[:count])).size_bytes for count in (0, len(names))
    ]
    assert sizes[1] > 2 * sizes[0]
    assert recipe.label.startswith("int8-static on")


def test_a_front_end_that_int8_destroys_stays_in_float(tmp_path: Path) -> None:
    """Power and logarithm are found by what they cost; at least 80 % of the weights are int8."""
    model, calibration, evaluation = audio.save(tmp_path)
    request = Request(
        model=model,
        profile=profiles.find("raspberry-pi-5"),
        goal=Goal(max_accuracy_drop=0.01),
        choice=Choice(formats=(Format.ONNXRUNTIME,), precisions=("int8-static",)),
        calibration=calibration,
        evaluation=evaluation,
    )
    out = tmp_path / "audio.edgekit"
    manifest = pipeline.build(request, out, cache=tmp_path / "cache").manifest
    naive, repaired = manifest.attempts
    assert naive.outcome is Outcome.REJECTED
    assert naive.validation is not None
    assert naive.validation.drop > 0.3
    assert repaired.outcome is Outcome.CHOSEN
    assert manifest.validation.drop <= 0.01
    assert {"front.power", "front.mel"} <= set(manifest.recipe.float_nodes)
    assert all(name.startswith("front.") for name in manifest.recipe.float_nodes)
    assert manifest.sensitivity[0].error > 1
    with bundle.opened(out) as opened:
        graph = onnx.load(opened.artifact).graph
    sizes = {True: 0, False: 0}
    for tensor in graph.initializer:
        array = numpy_helper.to_array(tensor)
        sizes[array.dtype == "int8"] += array.size
    assert sizes[True] / sum(sizes.values()) > 0.8
