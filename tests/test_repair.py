"""Repair: the fewest nodes raised by a precision, found by what quantizing each of them costs."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from ai_edge_litert import schema_py_generated as schema
from onnx import numpy_helper

from edgekit import bundle, pipeline, profiles, repair, sources
from edgekit.compression import equalization
from edgekit.datasets import load
from edgekit.domain import Format, Goal, Mode, NodeCost, Outcome, Quantization, Recipe
from edgekit.formats import FORMATS, Job
from edgekit.pipeline import Request
from edgekit.planning import Choice
from tests import audio
from tests.paths import CALIBRATION, DIGITS_MODEL, EVALUATION

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
    assert repair.fewest(NAMES, 20, attempt) == needed
    assert len(attempt.asked) == len(set(attempt.asked)) <= 10


def test_too_much_in_float_is_no_repair() -> None:
    """Even where it would pass; fewer than that may."""

    def attempt(names: tuple[str, ...]) -> int | None:
        if len(names) >= 7:
            raise repair.TooMuch
        return len(names) if len(names) >= needed else None

    needed = 6
    assert repair.fewest(NAMES, 20, attempt) == 6
    needed = 7
    assert repair.fewest(NAMES, 20, attempt) is None


def test_no_more_are_raised_than_may_be() -> None:
    attempt = Attempts(needed=21)
    assert repair.fewest(NAMES, 20, attempt) is None
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
    assert {"conv1", "conv2", "dense"} <= {cost.source for cost in costs}
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
    assert repaired.price is not None
    assert repaired.price.latency_ms > 0
    assert repaired.price.size_bytes == repaired.size_bytes - naive.size_bytes
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


def torn(folder: Path) -> Path:
    """The digits network, but one channel between its convolutions is small; it computes the same.

    What the second one multiplies it by is then so large that four bits keep little of the rest.
    """
    model = onnx.load(sources.load(DIGITS_MODEL, folder).graph)
    pair = equalization.pairs(model)[0]
    (weight,) = [t for t in model.graph.initializer if t.name == pair.read[0][0]]
    factors = np.ones(weight.dims[pair.read[0][1]])
    factors[0] = 1 / 16
    equalization._scale(model, pair.made, factors)
    equalization._scale(model, pair.read, 1 / factors)
    onnx.save(model, folder / "torn.onnx")
    return folder / "torn.onnx"


def test_weights_that_four_bits_destroy_get_eight(tmp_path: Path) -> None:
    """One layer of three; the others keep four bits, in an artifact that is smaller than int8."""
    request = Request(
        model=torn(tmp_path),
        profile=profiles.find("raspberry-pi-5"),
        goal=Goal(max_accuracy_drop=1.1e-4),
        choice=Choice(formats=(Format.LITERT,), precisions=("int4-weight-only",)),
        calibration=CALIBRATION,
        evaluation=EVALUATION,
        metric="cosine",
    )
    out = tmp_path / "torn.edgekit"
    manifest = pipeline.build(request, out, cache=tmp_path / "cache").manifest
    all_in_four, mixed = manifest.attempts
    assert all_in_four.outcome is Outcome.REJECTED
    assert manifest.recipe.eight_bit_nodes == (manifest.sensitivity[0].name,)
    assert manifest.recipe.label.startswith("int4-weight-only but 1 node in 8 bits on litert")
    assert mixed.price is not None
    assert mixed.price.size_bytes == mixed.size_bytes - all_in_four.size_bytes > 0
    assert mixed.reason.startswith(
        f"passed with 1 node in 8 bits: {mixed.price.size_bytes} bytes more, about "
    )
    assert manifest.rounded is not None
    assert len(manifest.rounded.layers) == 2
    with bundle.opened(out) as opened:
        assert stored(opened.artifact.read_bytes()) == {"INT4": 2, "INT8": 1}


def stored(model: bytes) -> Counter[str]:
    """How many constants a ``.tflite`` has of each type in few bits."""
    made = schema.ModelT.InitFromPackedBuf(model, 0)
    kinds = {schema.TensorType.INT4: "INT4", schema.TensorType.INT8: "INT8"}
    constants = (t for t in made.subgraphs[0].tensors if made.buffers[t.buffer].data is not None)
    return Counter(kinds[tensor.type] for tensor in constants if tensor.type in kinds)
