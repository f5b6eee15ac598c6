"""Candidates tried in order: what is a verdict on them, and what is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekit import pipeline, profiles
from edgekit.domain import Format, Goal, Outcome
from edgekit.errors import GateError, ToolError, ToolMissing
from edgekit.pipeline import Request
from edgekit.planning import Choice
from edgekit.toolchain.environments import ONNX2TF
from tests.paths import CALIBRATION, DIGITS_MODEL, EVALUATION


def digits(**changes: object) -> Request:
    given: dict[str, object] = {
        "model": DIGITS_MODEL,
        "profile": profiles.find("raspberry-pi-5"),
        "goal": Goal(max_accuracy_drop=0.01),
        "calibration": CALIBRATION,
        "evaluation": EVALUATION,
    }
    return Request(**(given | changes))


@pytest.fixture
def broken_onnx2tf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A converter that fails on every model; gives the file that counts its calls."""
    monkeypatch.setenv("EDGEKIT_TOOLCHAIN", str(tmp_path / "toolchain"))
    calls = tmp_path / "calls"
    ONNX2TF.python.parent.mkdir(parents=True)
    ONNX2TF.python.write_text(f"#!/bin/sh\necho called >> {calls}\necho no way >&2\nexit 1\n")
    ONNX2TF.python.chmod(0o755)
    (ONNX2TF.folder / "edgekit-complete").touch()
    assert ONNX2TF.installed
    return calls


def test_a_missing_tool_is_no_verdict_on_a_candidate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a network the build must not quietly fall back, and keep that in the cache."""
    monkeypatch.setenv("EDGEKIT_TOOLCHAIN", str(tmp_path / "toolchain"))
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    with pytest.raises(ToolMissing, match="onnx2tf"):
        pipeline.build(digits(), tmp_path / "out.edgekit", cache=tmp_path / "cache")
    assert not (tmp_path / "out.edgekit").exists()
    assert not list((tmp_path / "cache").glob("bundles/*"))


def test_what_cannot_be_converted_is_converted_once_and_the_next_format_taken(
    broken_onnx2tf: Path, tmp_path: Path
) -> None:
    made = pipeline.build(digits(), tmp_path / "out.edgekit")
    attempts = made.manifest.attempts
    assert made.manifest.artifact.format is Format.ONNXRUNTIME
    assert broken_onnx2tf.read_text() == "called\n"
    failed = [a for a in attempts if a.recipe.format is Format.LITERT]
    assert failed
    assert all(a.outcome is Outcome.FAILED and "no way" in a.reason for a in failed)
    assert attempts[-1].outcome is Outcome.CHOSEN


def test_nothing_can_be_made(broken_onnx2tf: Path, tmp_path: Path) -> None:
    request = digits(choice=Choice(formats=(Format.LITERT,)))
    with pytest.raises(ToolError, match="no candidate could be made"):
        pipeline.build(request, tmp_path / "out.edgekit")


def test_a_candidate_that_fails_the_gate_is_followed_by_the_next(tmp_path: Path) -> None:
    """A drop below zero asks for more than the original has: only an improvement would do."""
    choice = Choice(formats=(Format.ONNXRUNTIME,))
    request = digits(choice=choice, goal=Goal(max_accuracy_drop=0.0), metric="cosine")
    made = pipeline.build(request, tmp_path / "out.edgekit")
    attempts = made.manifest.attempts
    assert [a.outcome for a in attempts[:-1]] == [Outcome.REJECTED] * (len(attempts) - 1)
    assert len(attempts) > 1
    assert made.manifest.recipe.precision == "float32"
    assert "cosine fell from" in attempts[0].reason


def test_none_passes(tmp_path: Path) -> None:
    choice = Choice(formats=(Format.ONNXRUNTIME,), precisions=("int8-static",))
    request = digits(choice=choice, goal=Goal(max_accuracy_drop=0.0), metric="cosine")
    with pytest.raises(GateError, match="no candidate passed") as caught:
        pipeline.build(request, tmp_path / "out.edgekit")
    assert "--max-drop" in caught.value.hint
    assert not (tmp_path / "out.edgekit").exists()


def test_a_damaged_cache_entry_is_built_again(tmp_path: Path) -> None:
    request = digits(choice=Choice(formats=(Format.ONNXRUNTIME,)))
    first = pipeline.build(request, tmp_path / "a.edgekit", cache=tmp_path / "cache")
    (kept,) = (tmp_path / "cache" / "bundles").iterdir()
    (kept / "model.onnx").write_bytes(b"cut short")
    again = pipeline.build(request, tmp_path / "b.edgekit", cache=tmp_path / "cache")
    assert not again.cached
    assert again.path.read_bytes() == first.path.read_bytes()


def test_a_plan_for_another_model_is_refused(tmp_path: Path) -> None:
    made, _ = pipeline.decide(digits())
    other = type(made)(
        **{f: getattr(made, f) for f in made.__struct_fields__} | {"model_sha256": "0"}
    )
    with pytest.raises(pipeline.InputError, match="another model"):
        pipeline.build(digits(plan=other), tmp_path / "out.edgekit")
