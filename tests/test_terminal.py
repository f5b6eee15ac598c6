"""What people see: names that others wrote are shown as they are, and steer nothing."""

from __future__ import annotations

import pytest
from msgspec import structs

from edgekit.domain import (
    CleanUp,
    Format,
    GraphSize,
    Measured,
    ModelSummary,
    NodeSummary,
    Outcome,
    Prediction,
    Range,
    Recipe,
    TensorSpec,
)
from edgekit.pipeline import Inspection
from edgekit.report import layout, measurements, terminal

NASTY = "conv[/x]\x1b]0;owned\x07"


def summary(name: str) -> ModelSummary:
    node = NodeSummary(name, "Conv", 9, 9, 36, 4, 4, (1, 1, 2, 2))
    tensor = TensorSpec(name, (1, 1, 2, 2), "float32")
    return ModelSummary(
        sha256="0",
        name=name,
        opset=13,
        inputs=(tensor,),
        outputs=(tensor,),
        nodes=(node,),
        parameters=9,
        parameter_bytes=36,
        macs=9,
        activation_peak_bytes=32,
        quantized=False,
    )


def seen(name: str) -> Inspection:
    size = GraphSize(nodes=2, transposes=0, macs=None, weight_bytes=36)
    passes = (CleanUp("fold", name, True), CleanUp("fuse", "fused", False, name))
    return Inspection(
        summary=summary(name), notes=(name,), written=size, cleaned=size, passes=passes
    )


def test_markup_and_escapes_in_names_are_harmless(capsys: pytest.CaptureFixture[str]) -> None:
    layout.show(terminal.inspection(seen(NASTY)))
    shown = capsys.readouterr().out
    assert "conv[/x]" in shown
    assert "\x1b" not in shown
    assert "\x07" not in shown


def test_lines_end_where_their_text_ends(capsys: pytest.CaptureFixture[str]) -> None:
    layout.show(terminal.inspection(seen("plain")))
    lines = capsys.readouterr().out.splitlines()
    assert all(line == line.rstrip() and len(line) <= 100 for line in lines)


@pytest.mark.parametrize(
    ("value", "said"), [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (5 * 2**30, "5.00 GiB")]
)
def test_sizes(value: float, said: str) -> None:
    assert layout.size(value) == said


def test_measured_stands_beside_predicted(capsys: pytest.CaptureFixture[str]) -> None:
    figure = Range(1.0, 2.0, 3.0)
    right = Measured(
        recipe=Recipe(format=Format.LITERT, runtime="litert"),
        prediction=Prediction(
            latency_ms=figure, peak_memory_bytes=figure, size_bytes=figure, energy_mj=figure
        ),
        size_bytes=2048,
        latency_ms=Range(4.0, 5.0, 6.0),
        peak_memory_bytes=None,
        rounds=6,
        target="local",
        device_fingerprint="",
        runtime="litert 2.3.0",
        outcome=Outcome.CHOSEN,
        reason="the best",
        doubts=("busy",),
    )
    wrong = structs.replace(
        right, latency_ms=None, outcome=Outcome.REJECTED, reason=f"off by 3 {NASTY}"
    )
    layout.show(terminal.contest((right, wrong)))
    shown = " ".join(capsys.readouterr().out.split())
    assert "2 (1 to 3) ms 5 (4 to 6) ms 2.0 KiB chosen: the best; busy" in shown
    assert "rejected: off by 3 conv[/x]" in shown
    assert "\x1b" not in shown


@pytest.mark.parametrize(
    ("verdict", "more", "says"),
    [
        ("faster", 0, "new.edgekit is faster: it takes 0.900 of the other's time"),
        ("slower", 0, "new.edgekit is slower"),
        ("same", 0, "there is no difference that matters"),
        ("inconclusive", 12, "about 12 more pairs would decide"),
        ("inconclusive", None, "more than a thousand more pairs would decide"),
    ],
)
def test_a_comparison_says_its_verdict_and_how_sure_it_is(verdict, more, says, capsys):
    row = {"runtime": {"name": "litert", "version": "2.3"}, "latency_ms": {"p50": 1.0}}
    ratio = {"value": 0.9, "low": 0.88, "high": 0.92, "pairs": 16, "more_pairs": more}
    layout.show(
        measurements.compared(
            {
                "target": "local",
                "verdict": verdict,
                "ratio": ratio,
                "rows": [row | {"bundle": "old.edgekit"}, row | {"bundle": "new.edgekit"}],
                "doubts": ["throttled"],
            }
        )
    )
    shown = " ".join(capsys.readouterr().out.split())
    assert says in shown
    assert "(99 %: 0.880 to 0.920, 16 pairs)" in shown
    assert "disturbed: throttled" in shown
