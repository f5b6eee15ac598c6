"""Two artifacts in turn: the real runner here, and devices that say what they like."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from edgekit.benchmarking import Contestant, Duel, Settings, duel
from edgekit.comparison import of_duel
from edgekit.devices.transport import Completed, Transport
from edgekit.errors import (
    DeviceError,
    DeviceRuntimeMissing,
    EdgekitError,
    GoldenMismatch,
    RunnerFailed,
)
from tests.benchmarking.deployed import RUNTIME, Deployed, deploy
from tests.benchmarking.test_drive import (
    DONE,
    ENVIRONMENT,
    MEMORY,
    Scripted,
    golden,
    line,
    local,
    process,
)

__all__ = ["local"]

QUICK = Settings(
    runs=20, seconds=0.05, warmup_runs=1, warmup_seconds=0, processes=2, memory=False, energy=False
)


def fought(transport: Transport | Scripted, *both: Deployed, settings: Settings = QUICK) -> Duel:
    first, second = (Contestant(one.bundle, one.deployment, one.facts, RUNTIME) for one in both)
    return duel(transport, (first, second), settings)  # type: ignore[arg-type]


@pytest.fixture
def tiny(tmp_path: Path) -> Deployed:
    return deploy(tmp_path / "tiny")


class TestHere:
    """The runner itself, on this machine."""

    def test_each_has_its_own_figures(self, local: Transport, tiny: Deployed) -> None:
        other = deploy_other(tiny)
        found = fought(local, tiny, other)
        assert found.first.bundle_sha256 == tiny.bundle.sha256
        assert found.second.threads == 1
        for result in (found.first, found.second):
            assert result.golden.passed
            assert result.target == "local"
            assert result.environment["clock"]
            assert [len(one.samples_ns) >= 20 for one in result.processes] == [True, True]
        assert [len(turns) for turns in found.pairs_ns] == [4, 4]
        for number, turns in enumerate(found.pairs_ns):
            for result, medians in zip(
                (found.first, found.second), zip(*turns, strict=True), strict=True
            ):
                samples = result.processes[number].samples_ns
                assert min(samples) <= min(medians) <= max(medians) <= max(samples)

    def test_whose_outputs_differ_is_named(
        self, local: Transport, tiny: Deployed, tmp_path: Path
    ) -> None:
        with pytest.raises(GoldenMismatch, match=r"^local.*, B: output 'y' is off by 0\.5"):
            fought(local, tiny, deploy(tmp_path / "wrong", golden_error=0.5))


def deploy_other(one: Deployed) -> Deployed:
    """The same, on a device that has one core for it."""
    facts = msgspec.structs.replace(one.facts, cores=1)
    return Deployed(one.bundle, one.deployment, facts)


def turn(of: int) -> str:
    return line("turn", of=of)


def measured(of: int, windows: tuple[int, ...] = (900, 1000, 1100, 1000)) -> tuple[str, str]:
    samples = (1000,) * 20
    fields = {"first_load_ns": 9, "first_inference_ns": 9, "samples_ns": samples}
    return turn(of), line("process", **fields, windows_ns=windows)


COMPARED = (turn(0), golden(), turn(1), golden())
PAIR = (*measured(0), *measured(1))
GOOD = (*COMPARED, *PAIR, *PAIR, ENVIRONMENT, DONE)


class TestWhatADeviceMaySay:
    """Only the whole and right sequence becomes a result."""

    def test_the_right_sequence(self, tiny: Deployed) -> None:
        found = fought(Scripted(GOOD), tiny, tiny)
        assert found.pairs_ns == (((900, 900), (1000, 1000), (1100, 1100), (1000, 1000)),) * 2
        assert found.second.samples_ns == (1000,) * 40

    @pytest.mark.parametrize("missing", [1, 2, 3, 5, 6, 7, 11, 12, 13])
    def test_nothing_may_be_missing(self, tiny: Deployed, missing: int) -> None:
        with pytest.raises(RunnerFailed):
            fought(Scripted([*GOOD[:missing], *GOOD[missing + 1 :]]), tiny, tiny)

    @pytest.mark.parametrize(
        "second",
        [
            (900,),
            (),
            (900, 1000, 1100, 0),
            (900, 1000, 1100, 10**30),
        ],
    )
    def test_turns_without_sense_are_refused(self, tiny: Deployed, second: tuple[int, ...]) -> None:
        said = (*COMPARED, *PAIR, *measured(0), *measured(1, second), ENVIRONMENT, DONE)
        with pytest.raises(RunnerFailed):
            fought(Scripted(said), tiny, tiny)

    @pytest.mark.parametrize("odd", [process(), line("turn", of=2), line("swept"), MEMORY, DONE])
    def test_an_odd_line_is_refused(self, tiny: Deployed, odd: str) -> None:
        with pytest.raises(RunnerFailed):
            fought(Scripted((odd, *GOOD)), tiny, tiny)

    def test_a_turn_is_nothing_where_one_is_measured(self, tiny: Deployed) -> None:
        from tests.benchmarking import test_drive

        with pytest.raises(RunnerFailed, match="makes no sense"):
            test_drive.measured(Scripted((golden(), turn(0), *test_drive.GOOD[1:])), tiny)

    @pytest.mark.parametrize(
        ("said", "kind", "about"),
        [
            ((), "busy", "local"),
            ((turn(0),), "runtime-missing", "local, A"),
            ((*COMPARED, turn(1)), "crashed", "local, B"),
        ],
    )
    def test_who_failed_is_named(
        self, tiny: Deployed, said: tuple[str, ...], kind: str, about: str
    ) -> None:
        kinds: dict[str, type[EdgekitError]] = {
            "busy": DeviceError,
            "runtime-missing": DeviceRuntimeMissing,
            "crashed": RunnerFailed,
        }
        error = line("error", kind=kind, message="it fell over", hint="")
        with pytest.raises(kinds[kind]) as caught:
            fought(Scripted((*said, error)), tiny, tiny)
        assert caught.value.message == f"{about}: it fell over"

    def test_an_end_without_a_word_is_named(self, tiny: Deployed) -> None:
        with pytest.raises(RunnerFailed, match="SIGKILL"):
            fought(Scripted(GOOD[:5], Completed(exit_status=None, signal="SIGKILL")), tiny, tiny)


def test_a_disturbed_device_is_a_doubt_but_no_pair_is_lost(tiny: Deployed) -> None:
    busy = line("environment", before={}, after={}, background_cores=2.0)
    settings = msgspec.structs.replace(QUICK, processes=5)
    said = (*COMPARED, *PAIR * 5, busy, DONE)
    found = of_duel(fought(Scripted(said), tiny, tiny, settings=settings))
    assert found.ratio.pairs == 5
    assert found.ratio.value == pytest.approx(1)
    assert found.doubts == (found.first[0].why_invalid,)
    assert "busy" in found.doubts[0]
