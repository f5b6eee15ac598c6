"""The main job on real models, over a real SSH server, on Pythons as devices have them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edgekit import bundle, field, pipeline, profiles, store
from edgekit.benchmarking import Settings, as_json
from edgekit.domain import Format, Goal
from edgekit.errors import DeviceRuntimeMissing, GoldenMismatch, HostKeyError
from edgekit.pipeline import Built, Request
from edgekit.planning import Choice
from tests.device_pythons import device_bin
from tests.paths import CALIBRATION, DATA, DIGITS_MODEL, EVALUATION, MNIST, PERSON, RESNET20
from tests.paths import needs_assets as assets
from tests.sshd import Sshd, why_not

QUICK = Settings(runs=20, seconds=0.05, warmup_runs=2, warmup_seconds=0.02, processes=2)
KIB = 1024

pytestmark = pytest.mark.xdist_group("main-job")
needs_sshd = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def built(request: Request, folder: Path, cache: Path) -> Built:
    return pipeline.build(request, folder / "model.edgekit", cache=cache)


def resnet20(device: str) -> Request:
    return Request(
        model=RESNET20,
        profile=profiles.find(device),
        goal=Goal(max_accuracy_drop=0.01),
        calibration=DATA / "cifar10_nchw.calib.npz",
        evaluation=DATA / "cifar10_nchw.eval.npz",
    )


def digits(**choice: object) -> Request:
    return Request(
        model=DIGITS_MODEL,
        profile=profiles.find("raspberry-pi-5"),
        goal=Goal(max_accuracy_drop=0.01),
        choice=Choice(**choice),
        calibration=CALIBRATION,
        evaluation=EVALUATION,
    )


@assets
@pytest.mark.parametrize(
    ("device", "format_", "delegate"),
    [
        ("raspberry-pi-5", Format.LITERT, None),
        ("pixel-8", Format.LITERT, None),
        ("jetson-orin-nano", Format.ONNXRUNTIME, "TensorrtExecutionProvider"),
    ],
)
def test_resnet20_is_int8_small_and_right(
    device: str, format_: Format, delegate: str | None, tmp_path: Path, cache: Path
) -> None:
    manifest = built(resnet20(device), tmp_path, cache).manifest
    assert manifest.artifact.format is format_
    assert manifest.delegate == delegate
    assert manifest.recipe.precision == "int8-static", manifest.attempts
    assert manifest.artifact.size_bytes <= 340 * KIB
    assert manifest.validation.value >= 0.918
    assert manifest.validation.baseline == pytest.approx(0.928)
    assert manifest.validation.sample_count == 500


@assets
def test_resnet20_becomes_a_package_for_the_neural_engine(tmp_path: Path, cache: Path) -> None:
    manifest = built(resnet20("iphone-15-pro"), tmp_path, cache).manifest
    assert manifest.artifact.format is Format.COREML
    assert manifest.delegate == "cpuAndNeuralEngine"
    assert manifest.recipe.precision == "int8-static", manifest.attempts
    assert manifest.validation.value >= 0.918
    assert manifest.validation.sample_count == 500


def test_a_package_is_bundled_whole_and_says_that_it_cannot_be_measured(
    tmp_path: Path, cache: Path
) -> None:
    """A folder is the artifact: all of its files are listed, and the bundle is reproducible."""
    request = msgspec.structs.replace(digits(), profile=profiles.find("iphone-15-pro"))
    made = pipeline.build(request, tmp_path / "first.edgekit", cache=cache)
    again = pipeline.build(request, tmp_path / "second.edgekit", cache=tmp_path / "other")
    assert made.path.read_bytes() == again.path.read_bytes()
    with bundle.opened(made.path) as opened:
        artifact = opened.manifest.artifact
        assert set(artifact.files) <= set(opened.files)
        assert len(artifact.parts) == 3
        assert all((opened.artifact / part).is_file() for part in artifact.parts)
    assert made.manifest.validation.value >= 0.98
    with pytest.raises(DeviceRuntimeMissing, match="a Mac with Xcode"):
        field.measure(made.path, "local", QUICK)


def prepared(name: str, change: Callable[[np.ndarray], np.ndarray], folder: Path) -> Path:
    """Data of the assets, brought into the order or scale that the model takes."""
    with np.load(DATA / f"{name}.npz") as archive:
        arrays = dict(archive)
    arrays["x"] = np.ascontiguousarray(change(arrays["x"]))
    np.savez(folder / f"{name}.npz", **arrays)
    return folder / f"{name}.npz"


MODELS = {
    "vww_96_float": (PERSON, "person", lambda x: x.transpose(0, 3, 1, 2), 0.862),
    "opt-mnist": (MNIST, "mnist", lambda x: x * 255, 0.984),
}


@assets
@pytest.mark.parametrize("format_", [Format.LITERT, Format.ONNXRUNTIME])
@pytest.mark.parametrize("name", MODELS)
def test_real_models_pass_through_both_formats(
    name: str, format_: Format, tmp_path: Path, cache: Path
) -> None:
    model, data, change, baseline = MODELS[name]
    request = Request(
        model=model,
        profile=profiles.find("raspberry-pi-5"),
        goal=Goal(max_accuracy_drop=0.01),
        choice=Choice(formats=(format_,)),
        calibration=prepared(f"{data}.calib", change, tmp_path),
        evaluation=prepared(f"{data}.eval", change, tmp_path),
    )
    manifest = built(request, tmp_path, cache).manifest
    assert manifest.artifact.format is format_
    assert manifest.validation.baseline == pytest.approx(baseline)
    assert manifest.validation.value >= baseline - 0.01
    assert manifest.recipe.precision == "int8-static"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path / "client"))
    return tmp_path / "client"


@pytest.fixture
def device(home: Path, tmp_path: Path) -> Iterator[Callable[[str], Sshd]]:
    """Start a device whose own Python is the named one."""
    running: list[Sshd] = []

    def start(name: str) -> Sshd:
        path_env = f"{device_bin(name)}:/usr/bin:/bin"
        folder = tmp_path / f"device-{len(running)}"
        folder.mkdir()
        sshd = Sshd(folder, home, path_env=path_env)
        running.append(sshd.__enter__())
        return sshd

    yield start
    for sshd in running:
        sshd.__exit__(None, None, None)


def on(sshd: Sshd) -> str:
    """The device, with a working folder of its own."""
    return f"{sshd.url}{sshd.folder}/work"


@needs_sshd
@pytest.mark.parametrize(
    ("python", "format_"),
    [
        ("litert", Format.LITERT),
        ("tflite-runtime", Format.LITERT),
        ("onnxruntime", Format.ONNXRUNTIME),
    ],
)
def test_bench_over_ssh(
    python: str,
    format_: Format,
    device: Callable[[str], Sshd],
    tmp_path: Path,
    cache: Path,
) -> None:
    made = built(digits(formats=(format_,)), tmp_path, cache)
    sshd = device(python)
    sshd.accept()
    document = as_json(field.measure(made.path, on(sshd), QUICK))
    assert document["golden"]["passed"] is True
    assert document["golden"]["sample_count"] == 8
    assert document["runtime"]["name"] == python
    assert document["latency_ms"]["n"] >= 40
    assert document["pushed_bytes"] > made.manifest.artifact.size_bytes
    assert document["bundle_sha256"] == made.sha256
    again = field.measure(made.path, on(sshd), QUICK)
    assert again.pushed_bytes == 0
    assert again.device.fingerprint == document["device"]["fingerprint"]


@needs_sshd
@assets
def test_wrong_on_the_devices_runtime_is_caught_and_gives_no_number(
    device: Callable[[str], Sshd], tmp_path: Path, cache: Path
) -> None:
    """Dynamic int8 of ai-edge-quantizer 0.10 scores 0.93 on LiteRT 2.3, 0.08 on 2.14."""
    request = msgspec.structs.replace(
        resnet20("raspberry-pi-5"), choice=Choice(precisions=("int8-dynamic",))
    )
    made = built(request, tmp_path, cache)
    assert made.manifest.validation.value >= 0.918
    right, wrong = device("litert"), device("tflite-runtime")
    for sshd in (right, wrong):
        sshd.accept()
    assert field.measure(made.path, on(right), QUICK).golden.passed
    with pytest.raises(GoldenMismatch, match="no figure is reported") as caught:
        field.measure(made.path, on(wrong), QUICK)
    assert f"build --measure --on {on(wrong)}" in caught.value.hint


def test_the_next_candidate_of_the_plan_is_named(tmp_path: Path, cache: Path) -> None:
    manifest = built(digits(formats=(Format.LITERT,)), tmp_path, cache).manifest
    labels = list(dict.fromkeys(c.recipe.label for c in manifest.plan.candidates))
    tried = {attempt.recipe.label for attempt in manifest.attempts}
    following = next(label for label in labels if label not in tried)
    assert f"next candidate is {following}; " in field._instead(manifest, "local")
    only = msgspec.structs.replace(manifest.plan, candidates=manifest.plan.candidates[:1])
    alone = field._instead(msgspec.structs.replace(manifest, plan=only), "local")
    assert alone.startswith("`edgekit build --measure --on local`")


@needs_sshd
def test_a_device_without_the_runtime_is_told_before_anything_is_sent(
    device: Callable[[str], Sshd], tmp_path: Path, cache: Path
) -> None:
    made = built(digits(), tmp_path, cache)
    sshd = device("bare")
    sshd.accept()
    with pytest.raises(DeviceRuntimeMissing, match="no runtime") as caught:
        field.measure(made.path, on(sshd), QUICK)
    assert "ai-edge-litert" in caught.value.message
    assert "pip install" in caught.value.hint
    assert not (sshd.folder / "work" / "bundles").exists()


@needs_sshd
def test_an_unknown_host_key_sends_nothing(
    device: Callable[[str], Sshd], tmp_path: Path, cache: Path
) -> None:
    made = built(digits(), tmp_path, cache)
    sshd = device("bare")
    with pytest.raises(HostKeyError, match="SHA256:"):
        field.push(made.path, on(sshd))
    assert not (sshd.folder / "work").exists()


def test_a_bundle_can_be_a_folder(tmp_path: Path, cache: Path) -> None:
    made = pipeline.build(digits(), tmp_path / "folder", cache=cache)
    with bundle.opened(tmp_path / "folder") as opened:
        assert opened.sha256 == made.sha256


def test_the_second_build_is_the_first_ones_bytes(tmp_path: Path, cache: Path) -> None:
    first = pipeline.build(digits(), tmp_path / "first.edgekit", cache=cache)
    second = pipeline.build(digits(), tmp_path / "second.edgekit", cache=cache)
    assert second.cached
    assert first.path.read_bytes() == second.path.read_bytes()


def test_a_failed_build_leaves_nothing(tmp_path: Path) -> None:
    root = tmp_path / "cache"
    request = msgspec.structs.replace(
        digits(precisions=("int8-static",)), metric="tests.bad:metric"
    )
    with pytest.raises(Exception, match="metric"):
        pipeline.build(request, tmp_path / "out.edgekit", cache=root)
    assert not (tmp_path / "out.edgekit").exists()
    assert not store.find(root, "bundles") or not list((root / "bundles").iterdir())
