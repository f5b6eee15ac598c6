"""Profiles drafted from what devices say: near the right one, read back, nothing overwritten."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from edgekit import drafting, profiles
from edgekit.devices.survey import CoreCluster, Survey
from edgekit.domain import MIB, DeviceProfile
from edgekit.errors import ProfileError

EVERY = tuple(profiles.find(name) for name in profiles.names())
LINUX = tuple(p for p in EVERY if p.family.value != "apple")


def surveyed(profile: DeviceProfile) -> Survey:
    """What a device of that profile would say; its kernel keeps some memory to itself."""
    return Survey(
        target="ssh://board",
        system=f"Linux 6.1 {profile.cpu.architecture}",
        machine=profile.cpu.architecture,
        os="Debian",
        board='A "board" of\\ the lab\'s',
        clusters=tuple(
            CoreCluster(
                core=c.core, cores=c.cores, max_clock_mhz=c.max_clock_mhz, extensions=c.extensions
            )
            for c in profile.cpu.clusters
        ),
        memory_total_bytes=int(profile.memory.total_mib * MIB * 0.95),
        storage_total_bytes=59 * 1024 * MIB,
        storage_free_bytes=10 * 1024 * MIB,
        accelerators=(),
        sensors=(),
        tools=(),
        pythons=(),
    )


@pytest.mark.parametrize("profile", LINUX, ids=lambda profile: profile.name)
def test_the_nearest_is_one_of_the_same_cores(profile: DeviceProfile) -> None:
    drafted = drafting.draft("mine", surveyed(profile), EVERY)
    base = profiles.find(drafted.base)
    assert [c.core for c in base.cpu.clusters] == [c.core for c in profile.cpu.clusters]
    assert "the same core" in drafted.why


@pytest.mark.parametrize("profile", LINUX, ids=lambda profile: profile.name)
def test_a_draft_reads_back_as_it_is(profile: DeviceProfile, tmp_path: Path) -> None:
    drafted = drafting.draft("mine", surveyed(profile), EVERY)
    drafting.save(drafted, tmp_path / "mine.toml")
    read = profiles.read(tmp_path / "mine.toml")
    assert msgspec.to_builtins(read) == msgspec.to_builtins(drafted.profile)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.toml"]


def test_what_was_measured_is_not_called_an_estimate() -> None:
    pi = profiles.find("raspberry-pi-4")
    found = msgspec.structs.replace(surveyed(pi), memory_total_bytes=8000 * MIB)
    drafted = drafting.draft("mine", found, EVERY)
    assert drafted.base == "raspberry-pi-4"
    assert drafted.profile.memory.total_mib == 8000
    assert drafted.profile.memory.model_budget_mib == 4000
    assert drafted.profile.storage.total_gib == 59
    assert set(drafted.estimates) == {
        "family",
        "cpu.clusters.macs_per_cycle",
        "memory.model_budget_mib",
        "memory.bandwidth_gb_per_s",
        "power",
        "storage.read_mb_per_s",
        "runtimes",
    }


def test_a_clock_and_a_part_that_the_device_does_not_tell() -> None:
    pi = profiles.find("raspberry-pi-4")
    told = surveyed(pi).clusters[0]
    silent = msgspec.structs.replace(told, core=None, max_clock_mhz=None)
    found = msgspec.structs.replace(surveyed(pi), clusters=(silent,), storage_total_bytes=None)
    drafted = drafting.draft("mine", found, [pi])
    (cluster,) = drafted.profile.cpu.clusters
    assert (cluster.core, cluster.max_clock_mhz) == ("like-cortex-a72", 1800)
    assert {"cpu.clusters.max_clock_mhz", "storage.total_gib"} <= set(drafted.estimates)


def test_the_system_is_the_devices_where_it_tells() -> None:
    phone = profiles.find("pixel-8")
    board = drafting.draft("mine", surveyed(phone), [phone])
    assert (board.profile.os, "os" in board.estimates) == ("linux", False)
    assert "Debian" in board.profile.sources["os"]
    silent = msgspec.structs.replace(surveyed(phone), os="")
    drafted = drafting.draft("mine", silent, [phone])
    assert (drafted.profile.os, "os" in drafted.estimates) == ("android", True)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"machine": "armv7l"}, "is armv7l"),
        ({"clusters": ()}, "does not say what it is"),
        ({"memory_total_bytes": None}, "does not say what it is"),
    ],
)
def test_a_device_that_no_profile_describes(change: dict[str, object], says: str) -> None:
    found = msgspec.structs.replace(surveyed(profiles.find("raspberry-pi-4")), **change)
    with pytest.raises(ProfileError, match=says):
        drafting.draft("mine", found, EVERY)


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return tmp_path / "edgekit" / "devices"


def test_nothing_is_overwritten_unless_told(own: Path) -> None:
    assert drafting.destination("mine") == own / "mine.toml"
    own.mkdir(parents=True)
    (own / "mine.toml").touch()
    for taken in ("mine", "raspberry-pi-4"):
        with pytest.raises(ProfileError, match="already"):
            drafting.destination(taken)
        assert drafting.destination(taken, force=True) == own / f"{taken}.toml"


@pytest.mark.parametrize("name", ["", "Mine", "../mine", "a b", "-x", "mine.toml"])
def test_names_that_will_not_do(own: Path, name: str) -> None:
    with pytest.raises(ProfileError, match="no name for a profile"):
        drafting.destination(name)


def test_what_does_not_read_back_is_not_written(own: Path) -> None:
    drafted = drafting.draft("mine", surveyed(profiles.find("raspberry-pi-4")), EVERY)
    bad = msgspec.structs.replace(
        drafted, profile=msgspec.structs.replace(drafted.profile, sources={})
    )
    with pytest.raises(ProfileError, match="has no source"):
        drafting.save(bad, own / "mine.toml")
    assert list(own.iterdir()) == []
