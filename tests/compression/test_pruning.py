"""The stage in the pipeline: a pruned bundle, judged against the whole network."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekit import pipeline, profiles
from edgekit.cli import main
from edgekit.domain import Channels, Format, Goal, Recipe
from edgekit.errors import GoalError, InputError
from edgekit.pipeline import Request
from edgekit.planning import Choice
from tests.paths import CALIBRATION, DIGITS_MODEL, EVALUATION


def request(**changes: object) -> Request:
    given: dict[str, object] = {
        "model": DIGITS_MODEL,
        "profile": profiles.find("raspberry-pi-5"),
        "goal": Goal(max_accuracy_drop=0.03),
        "choice": Choice(formats=(Format.ONNXRUNTIME,), precisions=("int8-static",), prune=0.25),
        "calibration": CALIBRATION,
        "evaluation": EVALUATION,
    }
    return Request(**(given | changes))


def test_a_pruned_and_quantized_bundle_passes_against_the_original(tmp_path: Path) -> None:
    """MACs counted on what was made, the accuracy on the original's own evaluation."""
    cache = tmp_path / "cache"
    manifest = pipeline.build(request(), tmp_path / "out.edgekit", cache=cache).manifest
    assert manifest.recipe.pruning is not None
    assert manifest.recipe.pruning.fraction == 0.25
    assert manifest.pruned is not None
    assert 0 < manifest.pruned.macs_after <= 0.75 * manifest.pruned.macs_before
    assert any(layer.after < layer.before for layer in manifest.pruned.layers)
    assert manifest.validation.passed
    assert manifest.validation.data == "evaluation"
    assert len(list((cache / "pruned").iterdir())) == 1


def test_without_calibration_data_it_is_refused_with_its_reason() -> None:
    with pytest.raises(GoalError, match="pruning needs calibration data"):
        pipeline.decide(request(choice=Choice(calibration=False, prune=0.25)))


def test_every_candidate_is_pruned_when_it_is_asked_for() -> None:
    made, _ = pipeline.decide(request(choice=Choice(prune=0.25)))
    assert made.candidates
    assert all(c.recipe.pruning and c.recipe.pruning.fraction == 0.25 for c in made.candidates)
    whole, _ = pipeline.decide(request(choice=Choice()))
    assert not any(c.recipe.pruning for c in whole.candidates)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.5, 25.0])
def test_a_fraction_that_makes_no_sense_is_refused(fraction: float) -> None:
    with pytest.raises(InputError, match="between 0 and 1"):
        Choice(prune=fraction)


def test_the_label_names_it() -> None:
    recipe = Recipe(format=Format.LITERT, runtime="litert", pruning=Channels(0.25))
    assert recipe.label == "float32 pruned-25 on litert (cpu)"


def test_the_command_line_takes_it(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["plan", str(DIGITS_MODEL), "--device", "raspberry-pi-5", "--prune", "0.3", "--json"]
    assert main(words) == 0
    assert "pruned-30" in capsys.readouterr().out
