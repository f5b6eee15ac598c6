"""What the Core ML runner decides by what Xcode's tools say; benches are in test_field_coreml."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from edgekit import resources
from edgekit.domain import Format
from edgekit.formats.coreml_package import digest
from tests.apple import PHONE, phone


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """The runner, from files as they lie in a bundle."""
    folder = tmp_path_factory.mktemp("bundle")
    for name, path in resources.runner_files(Format.COREML).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(path.read_bytes())
    path = folder / resources.RUNNERS[Format.COREML]
    spec = importlib.util.spec_from_file_location("edgekit_coreml", path)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    sys.modules.pop("edgekit_runner", None)
    return made


@pytest.mark.parametrize("wanted", ["any", "A phone's name", "00008130-001C", PHONE["identifier"]])
def test_a_phone_goes_by_its_names(runner: ModuleType, wanted: str) -> None:
    away = phone(connectionProperties={"tunnelState": "unavailable"})
    watch = phone(hardwareProperties={"deviceType": "appleWatch"})
    assert runner.chosen([away, watch, PHONE], wanted) is PHONE


@pytest.mark.parametrize(
    ("wanted", "devices", "said"),
    [
        ("any", [], "no iPhone is attached to this Mac"),
        ("any", [phone(connectionProperties={"tunnelState": "unavailable"})], "no iPhone is"),
        ("any", [phone(hardwareProperties={"deviceType": "appleWatch"})], "no iPhone is"),
        ("Another", [phone()], "no iPhone 'Another' is attached"),
        ("any", [phone(), phone()], "several iPhones are attached"),
        ("any", [phone(connectionProperties={"pairingState": "unpaired"})], "not trust this Mac"),
        ("any", [phone(deviceProperties={"developerModeStatus": "disabled"})], "Developer Mode"),
    ],
)
def test_a_phone_that_cannot_be_used(
    runner: ModuleType, wanted: str, devices: list[Any], said: str
) -> None:
    with pytest.raises(runner.Failure, match=said):
        runner.chosen(devices, wanted)


@pytest.mark.parametrize(
    ("change", "fit"),
    [
        ({}, True),
        ({"ProvisionedDevices": ["another"]}, False),
        ({"ExpirationDate": datetime(2020, 1, 1)}, False),
        ({"Entitlements": {"get-task-allow": False, "application-identifier": "T.*"}}, False),
        # It would replace one of the user's own applications on the iPhone.
        ({"Entitlements": {"get-task-allow": True, "application-identifier": "T.a.Shop"}}, False),
        (
            {"Entitlements": {
                "get-task-allow": True, "application-identifier": "T.dev.edgekit.runner"
            }},
            True,
        ),
    ],
)  # fmt: skip
def test_which_provisioning_profile_will_do(
    runner: ModuleType, change: dict[str, Any], fit: bool
) -> None:
    profile = {
        "ProvisionedDevices": ["udid"],
        "ExpirationDate": datetime.now(UTC).replace(tzinfo=None) + timedelta(days=1),
        "Entitlements": {"get-task-allow": True, "application-identifier": "T.*"},
    }
    assert runner.is_fit(profile | change, "udid") is fit


def test_a_folders_digest_is_the_packages(runner: ModuleType, tmp_path: Path) -> None:
    for name, content in {"b/a.bin": b"1", "b.bin": b"22", "a": b""}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    assert runner.digest(tmp_path) == digest(tmp_path)


def test_a_package_that_changed_is_not_measured(runner: ModuleType, tmp_path: Path) -> None:
    part = tmp_path / "m.mlpackage" / "Data" / "weights.bin"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"weights")
    manifest = {
        "artifact": {"path": "m.mlpackage", "parts": ["Data/weights.bin"], "extra_files": []},
        "golden": {"inputs": [], "outputs": []},
        "digests": {"m.mlpackage/Data/weights.bin": hashlib.sha256(b"weights").hexdigest()},
    }
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    runner.runner.check_what_counts(tmp_path)
    part.write_bytes(b"Weights")
    with pytest.raises(runner.Failure, match=r"weights\.bin is not what was bundled"):
        runner.runner.check_what_counts(tmp_path)


@pytest.mark.parametrize("said", ["xcrun: error: invalid active developer path (/Library", "odd"])
def test_what_tools_say_is_explained(runner: ModuleType, said: str) -> None:
    if said == "odd":
        runner.check_trouble(said)
        return
    with pytest.raises(runner.Failure) as caught:
        runner.check_trouble(said)
    assert caught.value.event["kind"] == "runtime-missing"
    assert "xcode-select" in caught.value.event["hint"]
