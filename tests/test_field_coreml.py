"""Core ML bundles measured on a Mac, and on an iPhone attached to one; Xcode is a stand-in."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from edgekit import bundle as bundles
from edgekit import comparison, field, pipeline, profiles
from edgekit.benchmarking import Settings, as_json, load, save
from edgekit.domain import BenchmarkResult, Format, Goal, Interface, Picture, Placement
from edgekit.errors import (
    DeviceError,
    DeviceRuntimeMissing,
    EdgekitError,
    GoldenMismatch,
    RunnerFailed,
    UsageError,
)
from edgekit.planning import Choice
from edgekit.report import measurements
from tests import models
from tests.apple import Mac
from tests.sshd import Sshd, why_not

pytest.importorskip("coremltools")
pytestmark = pytest.mark.xdist_group("coreml-bundle")

QUICK: dict[str, Any] = {
    "runs": 20,
    "seconds": 0.0,
    "warmup_runs": 1,
    "warmup_seconds": 0.0,
    "processes": 1,
}
PHONE = "A phone's name"
PLACED = Placement(
    compute_units="all", operations={"cpu": 1, "gpu": 0, "neural_engine": 7, "unknown": 0}
)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small classifier of pictures, bundled for an iPhone."""
    folder = tmp_path_factory.mktemp("coreml")
    model = folder / "net.onnx"
    models.save(models.conv_net(), model)
    request = pipeline.Request(
        model=model,
        profile=profiles.find("iphone-15-pro"),
        goal=Goal(),
        interface=Interface(
            pictures={"x": Picture(colours="bgr", scale=(1 / 64,), bias=(-1.0, -2.0, -3.0))},
            labels=("a", "b", "c", "d", "e"),
        ),
        choice=Choice(calibration=False, formats=(Format.COREML,), precisions=("float16",)),
    )
    return pipeline.build(request, folder / "net.edgekit").path


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    return home


@pytest.fixture
def mac(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Mac:
    """This machine, with Xcode."""
    mac = Mac(tmp_path / "xcode", home)
    monkeypatch.setenv("PATH", mac.path)
    return mac


@pytest.fixture
def remote(tmp_path: Path, home: Path) -> Iterator[tuple[Mac, str]]:
    """Another machine with Xcode, behind a real SSH server."""
    if reason := why_not():
        pytest.skip(reason)
    folder = tmp_path / "sshd"
    mac = Mac(tmp_path / "xcode", folder / "home")
    with Sshd(folder, home, path_env=mac.path) as server:
        server.accept()
        yield mac, f"{server.url}{tmp_path / 'there'}"


def measured(bundle: Path, on: str, **settings: Any) -> BenchmarkResult:
    return field.measure(bundle, on, Settings(**QUICK | settings))


def refused(bundle: Path, tmp_path: Path, **settings: Any) -> EdgekitError:
    with pytest.raises(EdgekitError) as caught:
        measured(bundle, f"local:{tmp_path / 'work'}", **settings)
    return caught.value


def test_a_comparison_is_of_visits(bundle: Path, tmp_path: Path) -> None:
    """They cannot take turns within one: it takes as many pairs as a test of ranks does."""
    with pytest.raises(UsageError) as caught:
        comparison.compare(bundle, bundle, f"local:{tmp_path}", pace=comparison.Pace(pairs=7))
    assert caught.value.hint == "give 8 or more"


class TestOnTheMac:
    def test_the_whole_way_over_ssh(
        self, remote: tuple[Mac, str], bundle: Path, tmp_path: Path
    ) -> None:
        mac, on = remote
        stages: list[tuple[str, str]] = []
        settings = Settings(**QUICK | {"processes": 2})
        result = field.measure(
            bundle, on, settings, on_stage=lambda name, what: stages.append((name, what))
        )
        with bundles.opened(bundle) as opened:
            artifact = opened.manifest.artifact
        assert result.artifact_sha256 == artifact.sha256
        assert result.runtime.name == "coreml"
        assert result.golden.passed
        assert result.golden.sample_count > 1
        assert result.golden.max_error < 1e-2
        assert [len(process.samples_ns) for process in result.processes] == [20, 20]
        assert result.peak_memory_bytes == 12_345_678
        assert result.device.numpy_version is None
        with bundles.opened(bundle) as opened:
            units = opened.manifest.delegate
        assert result.placement == msgspec.structs.replace(PLACED, compute_units=units or "cpuOnly")
        assert ("benchmark", "compiling the model") in stages
        save(result, tmp_path / "result.json")
        assert load(tmp_path / "result.json") == result
        build, where = mac.called("xcrun", "swift", "build")
        assert build[3:6] == ["--configuration", "release", "--package-path"]
        assert build[7] == "--scratch-path"
        assert where == [*build, "--show-bin-path"]
        ((*_, package, destination),) = mac.called("xcrun", "coremlcompiler", "compile")
        assert package.endswith("/model.mlpackage")
        assert not Path(destination).exists()

    def test_what_is_asked_for_and_built_once(self, mac: Mac, bundle: Path, tmp_path: Path) -> None:
        on = f"local:{tmp_path / 'work'}"
        first = measured(bundle, on, cpu_only=True)
        mac.set(old=True, thermal_state=2)
        second = measured(bundle, on, compute_units="cpuAndGPU")
        assert first.placement == msgspec.structs.replace(PLACED, compute_units="cpuOnly")
        assert second.placement == Placement(compute_units="cpuAndGPU", operations=None)
        assert "does not tell which operation runs where" in terminal_text(second)
        assert "the firmware reports" not in (first.why_invalid or "")
        assert second.why_invalid == "throttled: the firmware reports 0x8 (the soft limit of heat)"
        assert len(mac.called("xcrun", "swift", "build")) == 2  # the build, and where it went
        assert list((tmp_path / "work" / "staging").iterdir()) == []  # nothing is left behind


class TestOnTheIphone:
    def test_the_whole_way_over_ssh(self, remote: tuple[Mac, str], bundle: Path) -> None:
        mac, on = remote
        result = measured(bundle, on, attached="any")
        assert (result.device.system, result.device.cpu_model) == ("iOS 17.4.1", "iPhone16,1")
        assert result.device.cores == 6
        assert result.golden.passed
        assert "operations: 1 on cpu, 7 on neural engine" in terminal_text(result)
        identifier = "7A2B1F5E-0C5E-5E6C-9A5A-000000000001"
        (install,) = mac.called("xcrun", "devicectl", "device", "install", "app")
        assert install[5:7] == ["--device", identifier]
        assert install[7].endswith("/EdgekitCoreML.app")
        (copy,) = mac.called("xcrun", "devicectl", "device", "copy", "to")
        assert copy[5:11] == [
            *("--device", identifier, "--domain-type", "appDataContainer"),
            *("--domain-identifier", "dev.edgekit.runner"),
        ]
        assert copy[-2:] == ["--destination", "Documents/edgekit"]
        launched = mac.called("xcrun", "devicectl", "device", "process", "launch")
        assert [json.loads(call[-1])["part"] for call in launched] == [
            *("device", "golden", "measure", "memory", "placement")
        ]
        assert launched[0][5:10] == [
            *("--device", identifier, "--console", "--terminate-existing", "dev.edgekit.runner")
        ]
        (build, _) = mac.called("xcrun", "swift", "build")
        assert build[5:7] == ["--triple", "arm64-apple-ios16.0"]
        assert build[8].endswith("iPhoneOS.sdk")
        (compile_,) = mac.called("xcrun", "coremlcompiler", "compile")
        assert compile_[-4:] == ["--platform", "ios", "--deployment-target", "17.4.1"]
        rights = json.loads((mac.folder / "rights.json").read_text())
        assert rights == {
            "application-identifier": "AB12CD34EF.dev.edgekit.runner",
            "com.apple.developer.team-identifier": "AB12CD34EF",
            "get-task-allow": True,
        }

    def test_no_phone(self, mac: Mac, bundle: Path, tmp_path: Path) -> None:
        mac.set(devices=[])
        error = refused(bundle, tmp_path, attached="any")
        assert isinstance(error, DeviceError)
        assert "no iPhone is attached to this Mac" in error.message

    def test_a_locked_phone(self, mac: Mac, bundle: Path, tmp_path: Path) -> None:
        launch = "xcrun devicectl device process launch"
        said = (
            "ERROR: The application failed to launch. (com.apple.dt.CoreDeviceError error 10002.)\n"
            "    The request was denied by service delegate (SBMainWorkspace) for reason: Locked "
            '("Unable to launch dev.edgekit.runner because the device was not, or could not be, '
            'unlocked").'
        )
        mac.set(fails={launch: [1, said]})
        error = refused(bundle, tmp_path, attached=PHONE)
        assert isinstance(error, DeviceError)
        assert "the iPhone is locked" in error.message
        assert "unlock it" in error.hint

    def test_a_keychain_that_is_locked(self, mac: Mac, bundle: Path, tmp_path: Path) -> None:
        mac.set(fails={"codesign": [1, "EdgekitCoreML.app: errSecInternalComponent"]})
        error = refused(bundle, tmp_path, attached=PHONE)
        assert "keychain" in error.message
        assert "security unlock-keychain" in error.hint

    def test_a_model_that_changed_on_the_way(self, mac: Mac, bundle: Path, tmp_path: Path) -> None:
        mac.set(tamper=True)
        error = refused(bundle, tmp_path, attached=PHONE)
        assert "expected sha256" in error.message

    def test_a_crash_there(self, mac: Mac, bundle: Path, tmp_path: Path) -> None:
        mac.set(crash="measure")
        error = refused(bundle, tmp_path, attached=PHONE)
        assert isinstance(error, RunnerFailed)
        assert "loading the model" in error.message
        assert "signal 11" in error.hint


class TestFailures:
    def test_a_mac_without_xcode_is_named_before_anything_is_sent(
        self, mac: Mac, bundle: Path, tmp_path: Path
    ) -> None:
        missing = 'xcrun: error: unable to find utility "coremlcompiler", not a developer tool'
        mac.set(fails={"xcrun --find": [72, missing]})
        error = refused(bundle, tmp_path)
        assert isinstance(error, DeviceRuntimeMissing)
        assert "a Mac with Xcode" in error.message
        assert "install Xcode" in error.hint
        assert not (tmp_path / "work" / "bundles").exists()

    def test_a_mac_that_is_too_old(self, mac: Mac, bundle: Path, tmp_path: Path) -> None:
        mac.set(version="13.6")  # it came beside iOS 16; the bundle is for iOS 17
        error = refused(bundle, tmp_path)
        assert isinstance(error, DeviceRuntimeMissing)
        assert "macOS >=14" in error.message
        assert "coreml 13.6" in error.message

    def test_a_licence_that_was_not_agreed_to(self, mac: Mac, bundle: Path, tmp_path: Path) -> None:
        said = "You have not agreed to the Xcode license agreements."
        mac.set(fails={"xcrun swift": [69, said]})
        error = refused(bundle, tmp_path)
        assert isinstance(error, DeviceRuntimeMissing)
        assert "xcodebuild -license accept" in error.hint

    def test_a_build_that_fails(self, mac: Mac, bundle: Path, tmp_path: Path) -> None:
        mac.set(fails={"xcrun swift build": [1, "Parts.swift:7:1: error: cannot find 'x'"]})
        error = refused(bundle, tmp_path)
        assert "building the runner failed" in error.message
        assert "cannot find 'x'" in error.message
        assert not (tmp_path / "work" / "runners").exists()

    def test_a_model_that_does_not_compile(self, mac: Mac, bundle: Path, tmp_path: Path) -> None:
        said = "coremlc: error: compiler error: Encountered an error while compiling a neural net"
        mac.set(fails={"xcrun coremlcompiler compile": [1, said]})
        error = refused(bundle, tmp_path)
        assert isinstance(error, RunnerFailed)
        assert "compiling the model failed" in error.message
        assert "compiler error" in error.message

    def test_other_outputs_give_no_figures(self, mac: Mac, bundle: Path, tmp_path: Path) -> None:
        mac.set(skew=1.5)
        error = refused(bundle, tmp_path)
        assert isinstance(error, GoldenMismatch)

    def test_options_of_core_ml_for_another_format(self, tmp_path: Path) -> None:
        from tests.benchmarking.deployed import deploy

        made = deploy(tmp_path).bundle.root
        error = refused(made, tmp_path, attached="any")
        assert isinstance(error, UsageError)
        assert "--attached is for Core ML" in error.message

    def test_compute_units_that_are_none(self) -> None:
        with pytest.raises(UsageError, match="'gpu', expected one of: cpuOnly"):
            Settings(compute_units="gpu")


def terminal_text(result: BenchmarkResult) -> str:
    from rich.console import Console

    console = Console(width=200)
    with console.capture() as captured:
        console.print(measurements.measured(as_json(result)))
    return captured.get()


def test_the_bundle_holds_what_measures_it(bundle: Path) -> None:
    with bundles.opened(bundle) as opened:
        assert opened.manifest.runtimes == {"coreml": ">=17.0"}
        assert {"edgekit_runner.py", "ios/edgekit_coreml.py", "ios/Package.swift"} <= set(
            opened.files
        )
        golden = np.load(opened.root / opened.manifest.golden.inputs[0])
    assert (golden.dtype, golden.shape[1:]) == (np.uint8, (8, 8, 3))
