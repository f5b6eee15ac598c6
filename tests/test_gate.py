"""The gate: what got worse turns it red in one line, what was only repeated never does."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from msgspec import structs

from edgekit import benchmarking, gate, lock
from edgekit.domain import (
    BenchmarkResult,
    DeviceFacts,
    DeviceRuntimeFound,
    Format,
    GoldenResult,
    ProcessSamples,
    Recipe,
)
from edgekit.errors import InputError, ProjectError
from edgekit.gate import Check, Finding, Verdict
from edgekit.lock import Lock, Locked
from edgekit.project import Pair, Project, load_project
from edgekit.report import check_formats
from edgekit.report import project as told
from tests import projects

PAIR = Pair("digits", "here")
ROW = Locked(
    recipe=Recipe(format=Format.ONNXRUNTIME, runtime="onnxruntime"),
    bundle="b" * 64,
    file="f" * 64,
    artifact="a" * 64,
    size_bytes=1_000_000,
    metric="top1",
    value=0.95,
    baseline=0.95,
    sample_count=500,
    operators={"Conv": 2, "Relu": 2},
)
NEW = structs.replace(ROW, bundle="c" * 64, artifact="d" * 64)
"""Another bundle with the same figures."""

DEVICE = DeviceFacts(
    python="python3",
    python_version="3.12",
    numpy_version="2",
    system="Linux",
    machine="x86_64",
    libc="",
    cpu_model="a test's",
    cores=4,
    memory_total_bytes=None,
    fingerprint="one",
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    projects.make(tmp_path, "digits")
    return tmp_path


def project(folder: Path, rest: str = "") -> Project:
    path = folder / "edgekit.toml"
    path.write_text(path.read_text() + rest)
    return load_project(path)


def locked(found: Project, row: Locked, path: Path | None = None) -> Path:
    """A lock of the project as it is, with that one bundle."""
    path = path or lock.path_of(found)
    made = Lock(version=lock.VERSION, inputs=lock.inputs(found), bundles={PAIR.name: row})
    lock.write(path, made)
    return path


def result(row: Locked, milliseconds: float, seed: int = 0, **changes: object) -> BenchmarkResult:
    """A measurement as they are: processes differ by 2 %, runs by 5 %."""
    random = np.random.default_rng(seed)
    centres = milliseconds * 1e6 * np.exp(random.normal(0, 0.02, 5))
    samples = [centre * np.exp(random.normal(0, 0.05, 30)) for centre in centres]
    made = BenchmarkResult(
        bundle_sha256=row.bundle,
        artifact_sha256=row.artifact,
        target="local",
        device=DEVICE,
        runtime=DeviceRuntimeFound(name="onnxruntime", module="onnxruntime", version="1.20"),
        threads=1,
        golden=GoldenResult(passed=True, max_error=0.0, sample_count=8),
        processes=tuple(
            ProcessSamples(
                first_load_ns=1, first_inference_ns=1, samples_ns=tuple(map(int, process))
            )
            for process in samples
        ),
        peak_memory_bytes=50_000_000,
        energy_mj=None,
        pushed_bytes=0,
        environment={},
        valid=True,
        why_invalid=None,
    )
    return structs.replace(made, **changes)


def saved(folder: Path, *results: BenchmarkResult, name: str = "results") -> Path:
    (folder / name).mkdir(exist_ok=True)
    for number, one in enumerate(results):
        benchmarking.save(one, folder / name / f"{number}.json")
    return folder / name


def red(found: Check) -> str:
    """The one line that says why it is red."""
    assert not found.passed
    (line,) = [line for line in told.lines(found) if line.startswith("FAILED: ")]
    return line.removeprefix("FAILED: ")


def budgets(text: str) -> str:
    return f"\n[[budgets]]\n{text}\n"


class TestBudgets:
    @pytest.mark.parametrize(
        ("budget", "verdict"),
        [
            ("max_size_mb = 1.0", Verdict.OK),
            ("max_size_mb = 0.999", Verdict.FAILED),
            ("accuracy = 0.95", Verdict.OK),
            ("accuracy = 0.951", Verdict.FAILED),
            ("max_latency_ms = 5", Verdict.OK),
            ("max_latency_ms = 1.9", Verdict.FAILED),
            ("max_latency_ms = 2.0", Verdict.INCONCLUSIVE),
            ("max_memory_mb = 50", Verdict.OK),
            ("max_memory_mb = 49", Verdict.FAILED),
            ("max_energy_mj = 1", Verdict.INCONCLUSIVE),
        ],
    )
    def test_a_budget(self, folder: Path, budget: str, verdict: Verdict) -> None:
        found = project(folder, budgets(budget))
        locked(found, ROW)
        saved(folder, result(ROW, 2.0))
        (finding,) = gate.check(found).findings
        assert finding.verdict is verdict, finding

    def test_ten_percent_larger(self, folder: Path) -> None:
        found = project(folder, budgets("max_size_mb = 1.0"))
        locked(found, structs.replace(ROW, size_bytes=1_100_000))
        line = red(gate.check(found))
        assert line == "digits for here: size 1.1 MB, 10.0% over the budget of 1 MB"

    def test_two_points_less(self, folder: Path) -> None:
        found = project(folder, budgets("accuracy = 0.95"))
        locked(found, structs.replace(ROW, value=0.93))
        assert red(gate.check(found)) == (
            "digits for here: top1 0.93, 0.02 worse than the budget of 0.95"
        )

    def test_an_error_metric_is_better_lower(self, folder: Path) -> None:
        found = project(folder, budgets("accuracy = 0.1"))
        locked(found, structs.replace(ROW, metric="mae", value=0.09))
        assert gate.check(found).passed
        locked(found, structs.replace(ROW, metric="mae", value=0.11))
        assert "mae 0.11, 0.01 worse" in red(gate.check(found))

    def test_without_a_measurement_it_is_open(self, folder: Path) -> None:
        found = project(folder, budgets("max_latency_ms = 5"))
        locked(found, ROW)
        saved(folder, result(NEW, 9.0), result(ROW, 9.0, valid=False, why_invalid="throttled"))
        (finding,) = gate.check(found).findings
        assert finding.verdict is Verdict.INCONCLUSIVE
        assert "was not measured: throttled; the budget is 5 ms" in finding.said
        assert not gate.check(found, strict=True).passed


class TestBaseline:
    def against(
        self,
        folder: Path,
        now: Locked,
        *,
        took: float | None = None,
        was: float = 2.0,
        seed: int = 0,
    ) -> Check:
        found = project(folder)
        locked(found, now)
        base = locked(found, ROW, folder / "main.lock")
        results = []
        if took is not None:
            results = [result(ROW, was, seed), result(now, took, seed + 1000)]
        return gate.check(found, baseline=base, results=[saved(folder, *results)])

    def test_ten_percent_larger(self, folder: Path) -> None:
        larger = structs.replace(NEW, size_bytes=1_100_000)
        assert red(self.against(folder, larger)) == (
            "digits for here: size 1.1 MB, +10.0% against the baseline's 1 MB (5% more is allowed)"
        )

    def test_two_points_less(self, folder: Path) -> None:
        assert red(self.against(folder, structs.replace(NEW, value=0.93))) == (
            "digits for here: top1 0.93, -0.02 against the baseline's 0.95 (0.01 worse is allowed)"
        )

    def test_slower_by_a_quarter(self, folder: Path) -> None:
        line = red(self.against(folder, NEW, took=2.5))
        assert line.startswith("digits for here: latency 2.")
        assert "against the baseline's" in line
        assert "(5% more is allowed)" in line

    def test_faster_and_smaller_is_fine(self, folder: Path) -> None:
        better = structs.replace(NEW, size_bytes=900_000, value=0.96)
        found = self.against(folder, better, took=1.0)
        assert found.passed
        assert {finding.verdict for finding in found.findings} == {Verdict.OK}

    @pytest.mark.parametrize("seed", range(20))
    def test_a_repetition_never_turns_it_red(self, folder: Path, seed: int) -> None:
        """The same figures of another bundle; the session itself drifted by 2 %."""
        found = self.against(folder, NEW, took=2.04, seed=seed)
        assert found.passed, told.lines(found)
        assert any(finding.what == "latency" for finding in found.findings)

    def test_the_same_bytes_are_never_slower(self, folder: Path) -> None:
        """It is the device that changed."""
        found = self.against(folder, structs.replace(ROW, bundle=NEW.bundle), took=3.0)
        (latency,) = [finding for finding in found.findings if finding.what == "latency"]
        assert latency.verdict is Verdict.INCONCLUSIVE
        assert "it is the device that changed" in latency.said
        assert found.passed

    def test_another_device_says_nothing(self, folder: Path) -> None:
        found = project(folder)
        locked(found, NEW)
        base = locked(found, ROW, folder / "main.lock")
        other = structs.replace(DEVICE, fingerprint="another", cpu_model="another's")
        here = saved(folder, result(NEW, 9.0))
        there = saved(folder, result(ROW, 2.0, device=other), name="before")
        checked = gate.check(found, baseline=base, results=[here], baseline_results=[there])
        (latency,) = [finding for finding in checked.findings if finding.what == "latency"]
        assert latency.verdict is Verdict.INCONCLUSIVE
        assert "that was on another's" in latency.said

    def test_few_processes_say_nothing(self, folder: Path) -> None:
        found = project(folder)
        locked(found, NEW)
        base = locked(found, ROW, folder / "main.lock")
        few = [
            structs.replace(made, processes=made.processes[:4])
            for made in (result(ROW, 2.0), result(NEW, 9.0))
        ]
        checked = gate.check(found, baseline=base, results=[saved(folder, *few)])
        (latency,) = [finding for finding in checked.findings if finding.what == "latency"]
        assert latency.verdict is Verdict.INCONCLUSIVE
        assert "too few processes" in latency.said

    def test_other_samples_cannot_be_compared(self, folder: Path) -> None:
        found = self.against(folder, structs.replace(NEW, sample_count=10, value=0.1))
        assert found.passed
        assert "cannot be compared" in told.lines(found)[0]

    def test_what_changed_is_in_the_table(self, folder: Path) -> None:
        changed = structs.replace(
            NEW, size_bytes=1_020_000, value=0.96, operators={"Conv": 3, "Gelu": 1}
        )
        (row,) = self.against(folder, changed, took=2.0).rows
        cells = dict(zip(told.COLUMNS, told.cells(row), strict=True))
        assert cells["size"] == "1.02 MB (+2.0%)"
        assert cells["metric"] == "top1 0.96 (+0.01)"
        assert cells["operators"] == "4 (+1 Conv, +1 Gelu, -2 Relu)"
        assert cells["latency"].count(" to ") == 2

    def test_a_bundle_that_is_new_has_nothing_to_be_compared_with(self, folder: Path) -> None:
        found = project(folder)
        locked(found, NEW)
        base = lock.path_of(found).with_name("main.lock")
        empty = Lock(version=lock.VERSION, inputs=lock.inputs(found), bundles={})
        lock.write(base, empty)
        assert gate.check(found, baseline=base).findings == ()


class TestTheLock:
    def test_it_is_out_of_date(self, folder: Path) -> None:
        found = project(folder)
        locked(found, ROW)
        (folder / "evaluation.npz").write_bytes(b"other")
        assert red(gate.check(found)) == (
            "digits for here: the lock is out of date: "
            "models.digits.evaluation: evaluation.npz changed"
        )

    def test_it_lacks_a_bundle(self, folder: Path) -> None:
        found = project(folder)
        made = Lock(version=lock.VERSION, inputs=lock.inputs(found), bundles={})
        lock.write(lock.path_of(found), made)
        assert "it was not built" in red(gate.check(found))

    def test_there_is_none(self, folder: Path) -> None:
        with pytest.raises(ProjectError, match="no such lock"):
            gate.check(project(folder))

    def test_results_that_are_none(self, folder: Path) -> None:
        found = project(folder)
        locked(found, ROW)
        with pytest.raises(InputError, match="no such results"):
            gate.check(found, results=[folder / "absent"])
        (folder / "odd.json").write_text("{}")
        with pytest.raises(InputError, match="not the result of a benchmark"):
            gate.check(found, results=[folder / "odd.json"])


NASTY = 'a, b: 50 % of <"one">\r\n::error::two\x1b| *three* `four`'


def nasty() -> Check:
    verdicts = (Verdict.FAILED, Verdict.INCONCLUSIVE, Verdict.OK)
    findings = tuple(
        Finding(pair=PAIR, what="size", against="budget", verdict=verdict, said=NASTY)
        for verdict in verdicts
    )
    return Check(rows=(), findings=findings)


class TestFormats:
    def test_junit_is_xml(self) -> None:
        top = ElementTree.fromstring(check_formats.junit(nasty(), Path("edgekit.toml")))
        (suite,) = top
        counts = {"tests": "3", "failures": "1", "skipped": "1"}
        assert counts.items() <= top.attrib.items()
        assert [[child.tag for child in case] for case in suite] == [["failure"], ["skipped"], []]
        said = suite[0][0].attrib["message"]
        assert said == NASTY.replace("\x1b", "?")

    def test_strict_fails_what_is_open(self) -> None:
        strict = structs.replace(nasty(), strict=True)
        top = ElementTree.fromstring(check_formats.junit(strict, Path("edgekit.toml")))
        assert (top.attrib["failures"], top.attrib["skipped"]) == ("2", "0")
        assert check_formats.github(strict, Path("edgekit.toml")).count("::error ") == 2

    def test_an_annotation_is_one_line(self) -> None:
        """https://docs.github.com/actions/reference/workflows-and-actions/workflow-commands."""
        error, warning, summary = check_formats.github(nasty(), Path("a,b:c.toml")).splitlines()
        assert error.startswith("::error file=a%2Cb%3Ac.toml,title=edgekit%3A size of digits for ")
        assert "::a, b: 50 %25 of" in error
        assert "%0D%0A::error::two" in error
        assert warning.startswith("::warning ")
        assert summary == "1 of 3 checks failed, 1 inconclusive"

    def test_markdown_shows_text_as_it_is(self) -> None:
        text = check_formats.markdown(nasty(), Path("edgekit.toml"))
        assert text.startswith("### edgekit.toml: failed\n")
        assert r"50 % of \<" in text
        assert r"\| \*three\* \`four\`" in text
        assert len([line for line in text.splitlines() if line.startswith("- ")]) == 3
