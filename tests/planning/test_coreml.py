"""What is planned for Apple's devices: by processor, and by the oldest system they may have."""

from __future__ import annotations

import pytest
from msgspec import structs

from edgekit.domain import CPU, Format, Goal, Mode, Plan, Prefer, Quantization, coreml
from edgekit.errors import GoalError
from edgekit.planning import Choice, plan
from tests.planning.networks import CONVOLUTIONS, shipped

NEURAL_ENGINE, GPU = "neural-engine", "apple-gpu"


def planned(device: str, versions: str | None = None) -> Plan:
    profile = shipped(device)
    if versions:
        runtimes = tuple(structs.replace(r, versions=versions) for r in profile.runtimes)
        profile = structs.replace(profile, runtimes=runtimes)
    # Four and six bits are a stage of their own: offered where size is preferred.
    return plan(CONVOLUTIONS, profile, Goal(prefer=Prefer.SIZE))


def on(made: Plan, accelerator: str) -> set[str]:
    recipes = [candidate.recipe for candidate in made.candidates]
    assert all(recipe.format is Format.COREML for recipe in recipes)
    return {recipe.precision for recipe in recipes if recipe.accelerator == accelerator}


def test_the_neural_engine_is_given_what_it_computes_in() -> None:
    """It has no float32; int8 with int8 since the A17."""
    made = planned("iphone-15-pro")
    packed = {"int8-weight-only", "palettized-6bit", "palettized-4bit"}
    assert on(made, NEURAL_ENGINE) == {"float16", "int8-static"} | packed
    assert on(made, GPU) == {"float32", "float16"} | packed
    assert on(made, CPU) == {"float32", "float16"} | packed
    assert "int8-static" not in on(planned("iphone-14"), NEURAL_ENGINE)


@pytest.mark.parametrize(
    ("versions", "int4", "static"),
    [(">=16.4", False, False), (">=17", False, True), (">=18", True, True)],
)
def test_what_the_oldest_system_loads_is_planned(versions: str, int4: bool, static: bool) -> None:
    precisions = on(planned("iphone-15-pro", versions), NEURAL_ENGINE)
    assert ("int4-weight-only" in precisions, "int8-static" in precisions) == (int4, static)


def test_reasons_name_the_release_and_the_processor() -> None:
    made = planned("iphone-16")
    told = {c.recipe.label: " ".join(c.reasons) for c in made.candidates}
    assert "float16, loaded from iOS 16 on" in told["float16 on coreml (neural-engine)"]
    assert "iOS 17" in told["int8-static on coreml (neural-engine)"]
    assert "4 bits, loaded from iOS 18 on" in told["int4-weight-only on coreml (apple-gpu)"]


def test_a_system_older_than_all_releases_gets_nothing() -> None:
    with pytest.raises(GoalError, match="too old for ML Programs"):
        planned("iphone-12")


def test_sizes_follow_the_bits() -> None:
    made = planned("iphone-16")
    sizes = {
        c.recipe.precision: c.prediction.size_bytes.mid
        for c in made.candidates
        if c.recipe.accelerator == GPU
    }
    graph = sizes["float32"] - 2 * (sizes["float32"] - sizes["float16"])
    weights = sizes["float16"] - graph
    assert sizes["int8-weight-only"] - graph == pytest.approx(weights / 2)
    assert sizes["palettized-4bit"] - graph == pytest.approx(weights / 4)


def test_a_precision_can_be_asked_for() -> None:
    choice = Choice(precisions=("palettized-4bit",))
    made = plan(CONVOLUTIONS, shipped("iphone-16"), Goal(), choice)
    assert {c.recipe.precision for c in made.candidates} == {"palettized-4bit"}


@pytest.mark.parametrize(
    ("form", "release"),
    [
        (None, 16),
        (("float16", Mode.FLOAT16, 0.0), 16),
        (("int8", Mode.WEIGHT_ONLY, 0.0), 16),
        (("lut4", Mode.PALETTIZED, 0.0), 16),
        (("lut3", Mode.PALETTIZED, 0.0), 18),
        (("int8", Mode.STATIC, 0.0), 17),
        (("int4", Mode.WEIGHT_ONLY, 0.0), 18),
        (("lut4", Mode.PALETTIZED, 0.5), 18),
    ],
)
def test_each_form_has_its_first_release(
    form: tuple[str, Mode, float] | None, release: int
) -> None:
    quantization = None
    if form:
        weights, mode, sparsity = form
        quantization = Quantization(
            mode=mode, weights=weights, activations="float16", sparsity=sparsity
        )
    assert coreml.needs(quantization) == release
