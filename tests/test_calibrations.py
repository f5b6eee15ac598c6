"""A calibration is kept, found again, and not used where it says nothing."""

import pytest
from msgspec import structs

from edgekit import calibrations
from edgekit.domain import CALIBRATION_VERSION, DeviceFacts, DeviceRuntimeFound
from edgekit.errors import InputError
from edgekit.planning import rates

FOUND = structs.replace(rates._reference()[0], device="raspberry-pi-5")


@pytest.fixture(autouse=True)
def _own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def facts(**changed):
    runtimes = tuple(
        DeviceRuntimeFound(name=name, module=r.module, version=r.version)
        for name, r in FOUND.runtimes.items()
    )
    known = {
        "python": "/usr/bin/python3",
        "python_version": "3.12",
        "numpy_version": "2",
        "system": "Linux",
        "machine": "x86_64",
        "libc": "glibc",
        "cpu_model": "this one",
        "cores": 2,
        "memory_total_bytes": 1,
        "runtimes": runtimes,
        "fingerprint": FOUND.fingerprint,
    }
    return (DeviceFacts(**{**known, **changed}),)


def test_without_one_the_profile_serves_and_says_how_to_get_one():
    basis = calibrations.basis("raspberry-pi-5")
    assert basis.calibration is None
    assert "edgekit devices calibrate raspberry-pi-5" in basis.said


def test_it_is_kept_and_named():
    path = calibrations.save(FOUND)
    assert path.name == "raspberry-pi-5.calibration.json"
    basis = calibrations.basis("raspberry-pi-5")
    assert basis.calibration == FOUND
    assert basis.said.startswith(f"calibrated on {FOUND.made} with ai_edge_litert")
    assert list(path.parent.iterdir()) == [path], "nothing is left beside it"


def test_the_very_machine_with_the_same_runtimes_may_use_it():
    calibrations.save(FOUND)
    assert calibrations.basis("raspberry-pi-5", facts()).calibration == FOUND


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"fingerprint": "another"}, "another machine"),
        ({"runtimes": ()}, "is not there any more"),
    ],
)
def test_a_stale_one_is_said_not_used(changed, why):
    calibrations.save(FOUND)
    basis = calibrations.basis("raspberry-pi-5", facts(**changed))
    assert basis.calibration is None
    assert why in basis.said


def test_one_of_another_version_is_not_used():
    calibrations.save(structs.replace(FOUND, version=CALIBRATION_VERSION + 1))
    basis = calibrations.basis("raspberry-pi-5")
    assert basis.calibration is None
    assert "another version" in basis.said


def test_one_that_was_renamed_is_not_used():
    path = calibrations.save(FOUND)
    path.rename(calibrations.path_of("raspberry-pi-4"))
    assert "it is of raspberry-pi-5" in calibrations.basis("raspberry-pi-4").said


def test_a_damaged_one_is_said():
    calibrations.save(FOUND).write_text("{")
    basis = calibrations.basis("raspberry-pi-5")
    assert basis.calibration is None
    assert "cannot be used" in basis.said


def test_one_that_cannot_be_written_says_why(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "file"))
    with pytest.raises(InputError, match="cannot write"):
        calibrations.save(FOUND)
