"""Candidates measured against each other: who is out, who wins, and what is kept of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

import edgekit as ek
from edgekit import bundle, contest, pipeline, profiles
from edgekit.benchmarking import Settings
from edgekit.contest import ROUNDS, Entrant, Terms, decided, in_rounds, judged
from edgekit.devices.provision import Equipment
from edgekit.domain import (
    BenchmarkResult,
    Candidate,
    DeviceFacts,
    DeviceRuntimeFound,
    Format,
    Goal,
    GoldenResult,
    Outcome,
    Prediction,
    Prefer,
    Price,
    ProcessSamples,
    Range,
    Recipe,
)
from edgekit.errors import DeviceError, DeviceRuntimeMissing, GateError, GoldenMismatch, UsageError
from edgekit.pipeline import Built, Request
from edgekit.planning import Choice
from tests.device_pythons import device_bin
from tests.factories import make_manifest
from tests.paths import CALIBRATION, DATA, DIGITS_MODEL, EVALUATION, RESNET20, needs_assets
from tests.sshd import Sshd, why_not

QUICK = Settings(
    runs=5, seconds=0.01, warmup_runs=1, warmup_seconds=0.0, processes=1, deadline_s=120
)
needs_sshd = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))


# Who wins: pure


def turn(ms: float, *, valid: bool = True, peak: int | None = 10_000_000) -> BenchmarkResult:
    sample = int(ms * 1e6)
    return BenchmarkResult(
        bundle_sha256="",
        artifact_sha256="",
        target="local",
        device=DeviceFacts(
            python="python3",
            python_version="3.12",
            numpy_version="2",
            system="Linux",
            machine="x86_64",
            libc="",
            cpu_model="",
            cores=1,
            memory_total_bytes=None,
        ),
        runtime=DeviceRuntimeFound(name="litert", module="ai_edge_litert", version="2"),
        threads=1,
        golden=GoldenResult(passed=True, max_error=0.0, sample_count=1),
        processes=(
            ProcessSamples(first_load_ns=1, first_inference_ns=1, samples_ns=(sample,) * 5),
        ),
        peak_memory_bytes=peak,
        energy_mj=None,
        pushed_bytes=0,
        environment={},
        valid=valid,
        why_invalid=None if valid else "busy",
    )


def entrant(name: str, *ms: float, size: int = 100, drop: float = 0.0) -> Entrant:
    manifest = make_manifest(b"x" * size)
    manifest = structs.replace(manifest, validation=structs.replace(manifest.validation, drop=drop))
    figure = Range(1, 2, 3)
    candidate = Candidate(
        recipe=Recipe(format=Format.LITERT, runtime=name),
        prediction=Prediction(
            latency_ms=figure, peak_memory_bytes=figure, size_bytes=figure, energy_mj=figure
        ),
        reasons=("",),
    )
    built = Built(path=Path(name), sha256="", manifest=manifest, cached=False, elapsed_s=0)
    return Entrant(candidate=candidate, built=built, turns=tuple(turn(each) for each in ms))


def winner(*entrants: Entrant, prefer: Prefer = Prefer.LATENCY) -> str:
    return decided(list(entrants), Goal(prefer=prefer)).candidate.recipe.runtime


DRIFTING = (1.0, 1.1, 1.2, 1.3, 1.4, 1.5)


def test_who_is_faster_in_every_round_wins_whatever_drifts() -> None:
    slower = [ms * 1.04 for ms in DRIFTING]
    assert winner(entrant("first", *slower), entrant("second", *DRIFTING)) == "second"


def test_when_the_rounds_leave_it_open_the_plans_order_decides() -> None:
    mixed = [*(ms * 1.04 for ms in DRIFTING[:5]), DRIFTING[5] * 0.99]
    assert winner(entrant("first", *mixed), entrant("second", *DRIFTING)) == "first"


def test_a_slower_candidate_never_wins_over_one_it_is_clearly_behind() -> None:
    """The third is level with the second, and both are ahead of the first."""
    level = [ms * (1.01 if i % 2 else 0.99) for i, ms in enumerate(DRIFTING)]
    slow = [ms * 2 for ms in DRIFTING]
    entrants = (entrant("slow", *slow), entrant("level", *level), entrant("fast", *DRIFTING))
    assert winner(*entrants) == "level"


def test_rounds_that_may_not_be_believed_decide_nothing() -> None:
    slow, fast = entrant("first", *(ms * 2 for ms in DRIFTING)), entrant("second", *DRIFTING)
    fast = structs.replace(fast, turns=(*fast.turns[:-1], turn(1.5, valid=False)))
    assert winner(slow, fast) == "first"


def test_size_and_accuracy_go_by_what_was_built() -> None:
    large = entrant("large", *DRIFTING, size=200, drop=0.0)
    small = entrant("small", *(ms * 2 for ms in DRIFTING), size=100, drop=0.1)
    assert winner(large, small, prefer=Prefer.SIZE) == "small"
    assert winner(small, large, prefer=Prefer.ACCURACY) == "large"


@pytest.mark.parametrize(
    ("goal", "why"),
    [
        (Goal(max_latency_ms=0.9), "measured at 1.25 ms, the budget is 0.9"),
        (Goal(max_memory_mb=9), "measured at 10 MB of memory, the budget is 9"),
    ],
)
def test_a_budget_passed_on_the_target_is_final(goal: Goal, why: str) -> None:
    (out,) = judged([entrant("only", *DRIFTING)], goal)
    assert out.refusal == why
    with pytest.raises(GateError, match="within budget on the target"):
        decided([out], goal)
    (kept,) = judged([entrant("only", *DRIFTING)], Goal(max_latency_ms=1.3, max_memory_mb=11))
    assert not kept.refusal


def test_entrants_take_turns_and_a_mismatch_ends_it_for_one() -> None:
    seen: list[str] = []

    def measure(path: Path) -> BenchmarkResult:
        seen.append(path.name)
        if path.name == "wrong":
            raise GoldenMismatch("off by 3")
        return turn(1.0)

    right, wrong = in_rounds([entrant("right"), entrant("wrong")], measure, ROUNDS, lambda *_: None)
    assert seen == ["right", "wrong", *["right"] * (ROUNDS - 1)]
    assert wrong.refusal == "off by 3"
    assert len(right.turns) == ROUNDS


def test_disturbed_rounds_are_made_up_for_but_not_forever() -> None:
    def rounds(disturbed: int) -> int:
        valid = iter([False] * disturbed + [True] * 2 * ROUNDS)
        (one,) = in_rounds(
            [entrant("one")], lambda _: turn(1, valid=next(valid)), ROUNDS, lambda *_: None
        )
        return len(one.turns)

    assert rounds(0) == ROUNDS
    assert rounds(2) == ROUNDS + 2
    assert rounds(ROUNDS - 1) == 2 * ROUNDS - 1
    assert rounds(2 * ROUNDS) == ROUNDS, "it will not be calm"


def test_a_lost_connection_is_no_verdict_on_a_candidate() -> None:
    def measure(_: Path) -> BenchmarkResult:
        raise DeviceError("lost")

    with pytest.raises(DeviceError, match="lost"):
        in_rounds([entrant("one")], measure, ROUNDS, lambda *_: None)


def test_nobody_is_no_contest() -> None:
    with pytest.raises(UsageError, match="0 candidates"):
        Terms(count=0)


# For real


def digits(**choice: object) -> Request:
    return Request(
        model=DIGITS_MODEL,
        profile=profiles.find("generic-x86-64"),
        goal=Goal(max_accuracy_drop=0.01),
        choice=Choice(**choice),
        calibration=CALIBRATION,
        evaluation=EVALUATION,
    )


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def test_the_measured_best_is_bundled_with_predicted_beside_measured(
    tmp_path: Path, cache: Path
) -> None:
    request = digits(formats=(Format.ONNXRUNTIME,))
    terms = Terms(on=f"local:{tmp_path / 'device'}", count=2, rounds=1, turn=QUICK)
    made = contest.build(request, tmp_path / "best.edgekit", terms, cache=cache)
    plan, _ = pipeline.decide(request)
    with bundle.opened(made.path) as opened:
        assert opened.sha256 == made.sha256
        manifest = opened.manifest
    assert manifest.plan == plan, "the whole plan, not what was left of it"
    assert [m.recipe for m in manifest.measured] == [c.recipe for c in plan.candidates[:2]]
    for measured, candidate in zip(manifest.measured, plan.candidates, strict=False):
        assert measured.prediction == candidate.prediction
        assert measured.latency_ms is not None
        assert measured.latency_ms.low <= measured.latency_ms.mid <= measured.latency_ms.high
        assert 1 <= measured.rounds <= 2
        assert measured.runtime.startswith("onnxruntime ")
    (chosen,) = [m for m in manifest.measured if m.outcome is Outcome.CHOSEN]
    assert chosen.recipe == manifest.recipe
    assert len(manifest.attempts) == 2


def test_a_candidate_that_was_repaired_takes_part(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which nodes had to stay in float is found out by building; the plan knows nothing of it."""
    request = digits(formats=(Format.ONNXRUNTIME,), precisions=("int8-static",))
    build = pipeline.build

    def repairing(*given: Any, **named: Any) -> Built:
        built = build(*given, **named)
        recipe = structs.replace(built.manifest.recipe, float_nodes=("a node",))
        priced = structs.replace(
            built.manifest.attempts[-1], price=Price(size_bytes=7, latency_ms=0.25)
        )
        manifest = structs.replace(built.manifest, recipe=recipe, attempts=(priced,))
        return structs.replace(built, manifest=manifest)

    monkeypatch.setattr(pipeline, "build", repairing)
    terms = Terms(on=f"local:{tmp_path / 'device'}", rounds=1, turn=QUICK)
    made = contest.build(request, tmp_path / "best.edgekit", terms, cache=cache)
    (measured,) = made.manifest.measured
    assert measured.recipe.float_nodes == ("a node",)
    (planned,) = made.manifest.plan.candidates
    assert measured.prediction.latency_ms.mid == planned.prediction.latency_ms.mid + 0.25
    assert measured.outcome is Outcome.CHOSEN


def test_fewer_candidates_than_asked_for_will_do(tmp_path: Path, cache: Path) -> None:
    request = digits(formats=(Format.ONNXRUNTIME,), precisions=("float32",))
    terms = Terms(on=f"local:{tmp_path / 'device'}", rounds=1, turn=QUICK)
    made = contest.build(request, tmp_path / "only.edgekit", terms, cache=cache)
    (only,) = made.manifest.measured
    assert only.outcome is Outcome.CHOSEN


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], str]]:
    """Starts a device that has one runtime, by its name; gives its target."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    folder = tmp_path / "sshd"
    folder.mkdir()
    with ExitStack() as running:

        def start(runtime: str) -> str:
            path_env = f"{device_bin(runtime)}:/usr/bin:/bin"
            sshd = running.enter_context(Sshd(folder, home, path_env=path_env))
            sshd.accept()
            return f"{sshd.url}{folder}/work"

        yield start


@needs_sshd
@pytest.mark.xdist_group("main-job")
def test_what_the_device_cannot_run_is_out_with_its_reason(
    board: Callable[[str], str], tmp_path: Path, cache: Path
) -> None:
    request = digits(precisions=("float32",))
    terms = Terms(on=board("onnxruntime"), rounds=1, turn=QUICK)
    made = contest.build(request, tmp_path / "best.edgekit", terms, cache=cache)
    assert made.manifest.recipe.format is Format.ONNXRUNTIME
    out = {m.recipe.format: m for m in made.manifest.measured}[Format.LITERT]
    assert out.outcome is Outcome.REJECTED
    assert "lacks what the bundle needs" in out.reason
    assert (out.latency_ms, out.rounds) == (None, 0)


@needs_sshd
@pytest.mark.xdist_group("main-job")
def test_what_the_device_lacks_is_installed_where_that_is_allowed(
    board: Callable[[str], str], tmp_path: Path, cache: Path
) -> None:
    request = digits(formats=(Format.LITERT,), precisions=("float32",))
    equipment, told = Equipment(provision=True), list[str]()
    terms = Terms(on=board("nothing"), rounds=1, turn=QUICK, equipment=equipment)
    made = contest.build(
        request,
        tmp_path / "best.edgekit",
        terms,
        cache=cache,
        on_stage=lambda stage, what: told.append(f"{stage}: {what.partition('-')[0]}"),
    )
    (measured,) = made.manifest.measured
    assert measured.outcome is Outcome.CHOSEN
    assert any(stage.startswith("provision: installing into") for stage in told)
    assert not [stage for stage in told if stage.startswith(("push", "connect"))]
    shutil.rmtree(tmp_path / "sshd/work/runtimes")
    with pytest.raises(DeviceRuntimeMissing):
        ek.benchmark(made, on=terms.on, settings=QUICK)
    again = ek.benchmark(made, on=terms.on, settings=QUICK, equipment=equipment)
    assert again.golden.passed


@needs_sshd
@pytest.mark.xdist_group("main-job")
def test_nobody_right_leaves_no_bundle(
    board: Callable[[str], str], tmp_path: Path, cache: Path
) -> None:
    request = digits(formats=(Format.LITERT,), precisions=("float32",))
    with pytest.raises(GateError, match="lacks what the bundle needs"):
        contest.build(
            request,
            tmp_path / "best.edgekit",
            Terms(on=board("onnxruntime"), rounds=1, turn=QUICK),
            cache=cache,
        )
    assert not (tmp_path / "best.edgekit").exists()


@needs_sshd
@pytest.mark.xdist_group("main-job")
def test_where_nobody_runs_the_plans_next_few_are_tried(
    board: Callable[[str], str], tmp_path: Path, cache: Path
) -> None:
    request = digits(formats=(Format.LITERT, Format.ONNXRUNTIME))
    first = pipeline.decide(request)[0].candidates[0].recipe.format
    lacking = {Format.LITERT: "onnxruntime", Format.ONNXRUNTIME: "litert"}[first]
    terms = Terms(on=board(lacking), count=1, rounds=1, turn=QUICK)
    made = contest.build(request, tmp_path / "best.edgekit", terms, cache=cache)
    out, chosen = made.manifest.measured
    assert (out.recipe.format, out.outcome) == (first, Outcome.REJECTED)
    assert "lacks what the bundle needs" in out.reason
    assert chosen.recipe.format is not first, "no other one of the format was built"
    assert chosen.recipe == made.manifest.recipe
    assert len(made.manifest.attempts) == 2


@needs_sshd
@needs_assets
@pytest.mark.xdist_group("main-job")
@pytest.mark.parametrize("count", [1, 3])
def test_who_computes_something_else_there_is_out(
    board: Callable[[str], str], tmp_path: Path, cache: Path, count: int
) -> None:
    """Dynamic int8 is right on LiteRT 2.3, and wrong on tflite-runtime 2.14 without an error."""
    request = Request(
        model=RESNET20,
        profile=profiles.find("raspberry-pi-5"),
        goal=Goal(max_accuracy_drop=0.01),
        choice=Choice(formats=(Format.LITERT,), precisions=("int8-dynamic", "float32")),
        evaluation=DATA / "cifar10_nchw.eval.npz",
    )
    terms = Terms(on=board("tflite-runtime"), count=count, rounds=1, turn=QUICK)
    made = contest.build(request, tmp_path / "best.edgekit", terms, cache=cache)
    first, second = made.manifest.measured
    assert first.recipe.precision == "int8-dynamic"
    assert "no figure is reported" in first.reason
    assert (second.outcome, second.recipe) == (Outcome.CHOSEN, made.manifest.recipe)
    assert second.runtime.startswith("tflite-runtime 2.14")
