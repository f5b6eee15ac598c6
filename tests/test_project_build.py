"""A project is built as far as it has changed, the same everywhere, and its lock says of what."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgekit import lock, pipeline, project_build
from edgekit.errors import LockError, ModelError, ProjectError, ToolError
from edgekit.project import Pair, load_project
from edgekit.project_build import State, build_project
from tests import killing, projects
from tests.paths import CALIBRATION

THREE_FORMATS = """
calibration = "calibration.npz"
[targets.litert]
device = "raspberry-pi-5"
formats = ["litert"]
[targets.ort]
device = "pixel-8"
formats = ["onnxruntime"]
[targets.coreml]
device = "iphone-15-pro"
"""


def states(made: project_build.ProjectBuilt) -> dict[str, State]:
    return {outcome.pair.name: outcome.state for outcome in made.outcomes}


def build(path: Path, **how: object) -> project_build.ProjectBuilt:
    return build_project(load_project(path), **{"jobs": 1, "cache": path.parent / "cache", **how})


def change_a_sample(path: Path) -> None:
    """One pixel of one sample."""
    x = np.load(path)["x"].copy()
    x[0].flat[0] += 1
    np.savez(path, x=x)


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example in every format, built."""
    pytest.importorskip("coremltools")
    path = projects.make(tmp_path_factory.mktemp("three"), "digits", rest=THREE_FORMATS)
    assert build(path).exit_code == 0
    return path


@pytest.mark.xdist_group("project-build")
class TestThreeFormats:
    def test_two_clean_folders_give_equal_bytes(self, three: Path, tmp_path: Path) -> None:
        """With the same lock, nothing of the first one's cache, and in other processes."""
        again = projects.make(tmp_path / "again", "digits", rest=THREE_FORMATS)
        assert set(states(build(again, jobs=3)).values()) == {State.BUILT}
        for name in ("digits-litert", "digits-ort", "digits-coreml"):
            bundle = Path("build") / f"{name}.edgekit"
            assert (three.parent / bundle).read_bytes() == (again.parent / bundle).read_bytes()
        assert lock.path_of(load_project(three)).read_bytes() == (
            lock.path_of(load_project(again)).read_bytes()
        )

    def test_nothing_has_changed(self, three: Path) -> None:
        before = {p: p.stat().st_mtime_ns for p in three.parent.glob("*.lock")}
        assert set(states(build(three)).values()) == {State.UNCHANGED}
        assert set(states(build(three, locked=True)).values()) == {State.UNCHANGED}
        assert {p: p.stat().st_mtime_ns for p in three.parent.glob("*.lock")} == before

    def test_the_lock_names_no_place_and_no_time(self, three: Path) -> None:
        text = lock.path_of(load_project(three)).read_text()
        assert str(three.parent) not in text
        found = lock.read(lock.path_of(load_project(three)))
        assert found is not None
        assert list(found.bundles) == sorted(found.bundles)
        assert found.bundles["digits-litert"].operators["CONV_2D"] == 2
        assert found.bundles["digits-litert"].value >= 0.98

    def test_a_changed_sample_is_refused_by_name(self, three: Path, tmp_path: Path) -> None:
        folder = Path(shutil.copytree(three.parent, tmp_path / "copy"))
        change_a_sample(folder / "calibration.npz")
        before = (folder / "edgekit.lock").read_bytes()
        with pytest.raises(LockError) as caught:
            build(folder / "edgekit.toml", locked=True)
        assert caught.value.message == "models.digits.calibration: calibration.npz changed"
        assert (folder / "edgekit.lock").read_bytes() == before
        with pytest.raises(LockError, match=r"calibration\.npz changed"):
            project_build.rebuild(load_project(folder / "edgekit.toml"))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models for one target, built."""
    path = projects.make(tmp_path_factory.mktemp("two"), "first", "second")
    assert build(path).exit_code == 0
    return path


@pytest.fixture
def two(built: Path, tmp_path: Path) -> Path:
    """A copy of one's own."""
    return Path(shutil.copytree(built.parent, tmp_path / "two")) / "edgekit.toml"


def locked(path: Path) -> lock.Lock:
    found = lock.read(path.with_name(lock.FILE))
    assert found is not None
    return found


def bundle_of(path: Path, name: str) -> Path:
    return path.parent / "build" / f"{name}-here.edgekit"


def widen(path: Path) -> None:
    """Other weights in the model: another model."""
    model = onnx.load(path)
    weights = next(t for t in model.graph.initializer if len(t.dims) > 1)
    array = onnx.numpy_helper.to_array(weights) * np.float32(1.001)
    weights.CopyFrom(onnx.numpy_helper.from_array(array, weights.name))
    onnx.save(model, path)


@pytest.mark.xdist_group("project-build")
class TestTwoModels:
    def test_only_what_was_touched_is_built(self, two: Path) -> None:
        untouched = bundle_of(two, "second").stat()
        widen(two.parent / "first.onnx")
        assert states(build(two)) == {"first-here": State.BUILT, "second-here": State.UNCHANGED}
        assert bundle_of(two, "second").stat().st_mtime_ns == untouched.st_mtime_ns

    def test_a_bundle_that_is_gone_or_damaged_comes_from_the_cache(self, two: Path) -> None:
        whole = bundle_of(two, "first").read_bytes()
        bundle_of(two, "first").unlink()
        bundle_of(two, "second").write_bytes(b"damaged")
        assert set(states(build(two, locked=True)).values()) == {State.CACHED}
        assert bundle_of(two, "first").read_bytes() == whole

    def test_the_others_are_built_when_one_fails(self, two: Path) -> None:
        (two.parent / "first.onnx").write_bytes(b"this is no model")
        widen(two.parent / "second.onnx")
        made = build(two)
        assert states(made) == {"first-here": State.FAILED, "second-here": State.BUILT}
        assert made.exit_code == 2
        assert list(locked(two).bundles) == ["second-here"]

    def test_the_worst_failure_counts(self, two: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (two.parent / "first.onnx").unlink()
        widen(two.parent / "second.onnx")
        real = pipeline.build

        def build_one(request: pipeline.Request, *args: object, **how: object) -> object:
            if request.model.stem == "second":
                raise ToolError("a tool failed")
            return real(request, *args, **how)

        monkeypatch.setattr(pipeline, "build", build_one)
        made = build(two)
        assert made.exit_code == 4
        assert len(made.failures) == 2
        assert locked(two).bundles == {}

    def test_side_by_side_each_says_what_it_does_and_one_may_fail(self, two: Path) -> None:
        (two.parent / "first.onnx").write_bytes(b"this is no model")
        widen(two.parent / "second.onnx")
        told: list[tuple[str, str]] = []
        details: dict[str, str] = {}

        def tell(name: str, stage: str, detail: str) -> None:
            told.append((name, stage))
            details[stage] = detail

        made = build(two, jobs=2, on_row=tell)
        assert states(made) == {"first-here": State.FAILED, "second-here": State.BUILT}
        assert made.exit_code == 2
        (failure,) = made.failures
        assert isinstance(failure.error, ModelError)
        assert list(locked(two).bundles) == ["second-here"]
        assert ("first for here", "failed") in told
        assert told[-1][1] in ("failed", "built")
        assert details["bundle"] == details["built"] == str(bundle_of(two, "second"))
        assert [stage for name, stage in told if name == "second for here"][:2] == [
            "source",
            "inspect",
        ]

    def test_the_models_begin_in_turn(self, two: Path) -> None:
        """Those that end soon are enough to see it."""
        for name in ("first", "second"):
            (two.parent / f"{name}.onnx").write_bytes(b"this is no model")
        two.write_text(two.read_text() + projects.ONE_TARGET.replace("here", "there"))
        told: list[str] = []
        build(two, on_row=lambda name, *_: told.append(name))
        assert list(dict.fromkeys(told)) == [
            "first for here",
            "second for here",
            "first for there",
            "second for there",
        ]

    def test_what_was_interrupted_goes_on(self, two: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("first", "second"):
            widen(two.parent / f"{name}.onnx")
        real = pipeline.build

        def interrupted(request: pipeline.Request, *args: object, **how: object) -> object:
            if request.model.stem == "second":
                raise KeyboardInterrupt
            return real(request, *args, **how)

        monkeypatch.setattr(pipeline, "build", interrupted)
        with pytest.raises(KeyboardInterrupt):
            build(two)
        assert not [p for p in (two.parent / "build").iterdir() if p.name.startswith(".")]
        monkeypatch.undo()
        assert states(build(two)) == {"first-here": State.UNCHANGED, "second-here": State.BUILT}

    def test_another_bundle_than_the_locks_is_not_put_in_place(self, two: Path) -> None:
        """As on a machine that computes something else."""
        text = two.with_name("edgekit.lock").read_text()
        row = locked(two).bundles["first-here"]
        two.with_name("edgekit.lock").write_text(text.replace(row.bundle, "0" * 64))
        bundle_of(two, "first").unlink()
        (failure,) = build(two, locked=True).failures
        assert isinstance(failure.error, LockError)
        assert "bundle: changed" in failure.error.message
        assert not bundle_of(two, "first").exists()

    def test_rebuilding_compares_every_byte(self, two: Path) -> None:
        text = two.read_text().replace(projects.MODEL.format(name="second"), "")
        two.write_text(text)
        build(two)
        project = load_project(two)
        assert project_build.rebuild(project) == {Pair("first", "here"): ()}
        path = two.with_name("edgekit.lock")
        path.write_text(path.read_text().replace(locked(two).bundles["first-here"].file, "0" * 64))
        found = project_build.rebuild(project)
        assert found == {Pair("first", "here"): ("bundles.first-here.file: changed",)}

    def test_every_kind_of_change_has_its_name(self, two: Path) -> None:
        text = two.read_text() + '[[budgets]]\nmodel = "first"\nmax_size_mb = 3\n'
        text = text.replace('precisions = ["float32"]', 'precisions = ["float32", "float16"]')
        two.write_text(text.replace('"second.onnx"', '"renamed.onnx"') + "\n[regressions]\n")
        shutil.copyfile(two.parent / "second.onnx", two.parent / "renamed.onnx")
        (two.parent / "first.onnx").unlink()
        with pytest.raises(LockError) as caught:
            build(two, locked=True)
        assert caught.value.message.splitlines() == [
            "budgets.first-here: max_size_mb = 3.0, the lock has nothing",
            "models.first.source: first.onnx is missing",
            "models.second.source: renamed.onnx, the lock has second.onnx",
            "targets.here.precisions: ['float32', 'float16'], the lock has ['float32']",
        ]

    def test_another_tool_is_named(self, two: Path) -> None:
        path = two.with_name("edgekit.lock")
        path.write_text(path.read_text().replace('"onnx": "', '"onnx": "0.'))
        with pytest.raises(LockError, match=r"^tools.onnx: (.*), the lock has 0.\1\n"):
            build(two, locked=True)

    def test_without_a_lock_nothing_is_locked(self, two: Path) -> None:
        two.with_name("edgekit.lock").unlink()
        with pytest.raises(LockError, match=r"there is no edgekit\.lock"):
            build(two, locked=True)

    @pytest.mark.parametrize("text", ["no JSON", "[]", '{"version": 1}', '{"version": 99}'])
    def test_what_is_no_lock(self, two: Path, text: str) -> None:
        two.with_name("edgekit.lock").write_text(text)
        with pytest.raises(ProjectError, match=r"edgekit\.lock"):
            build(two)
        assert two.with_name("edgekit.lock").read_text() == text

    def test_the_plan_aims_for_budgets(self, two: Path) -> None:
        """Of float32 and float16 the smaller one fits."""
        free = two.read_text().replace('["float32"]', '["float32", "float16"]')
        size = locked(two).bundles["first-here"].size_bytes
        two.write_text(f"{free}\n[[budgets]]\nmax_size_mb = {size * 0.7e-6}\n")
        made = build(two)
        assert made.exit_code == 0
        assert {o.locked.recipe.precision for o in made.outcomes if o.locked} == {"float16"}

    def test_budgets_that_nothing_meets_are_missed_not_fatal(self, two: Path) -> None:
        two.write_text(two.read_text() + "\n[[budgets]]\nmax_size_mb = 0.001\n")
        made = build(two)
        assert made.exit_code == 0
        assert all(o.missed.startswith("no recipe meets the goal") for o in made.outcomes)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.xdist_group("project-build")
def test_builds_that_are_killed_leave_nothing_that_harms(built: Path, tmp_path: Path) -> None:
    """As ``tests/lab/test_killed_builds.py``, two of its twenty."""
    killing.check(tmp_path, built.parent, times=2, seed=2)


def test_a_lock_is_not_written_through_what_is_in_its_way(built: Path, tmp_path: Path) -> None:
    (tmp_path / "edgekit.lock").mkdir()
    (tmp_path / "edgekit.lock" / "file").touch()
    with pytest.raises(ProjectError, match="cannot"):
        lock.write(tmp_path / "edgekit.lock", locked(built))
    assert [path.name for path in tmp_path.iterdir()] == ["edgekit.lock"]


def test_the_calibration_is_that_of_the_example() -> None:
    """Else nothing above was changed."""
    assert np.load(CALIBRATION)["x"].size
