"""Fleets: strict files, choices by name, and work on many of which some fail."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from edgekit import fleet
from edgekit.errors import DeviceError, InputError, UsageError
from edgekit.fleet import Member

FLEET = """
[devices.kitchen]
target = "ssh://pi@kitchen"
tags = ["pi5"]

[devices.hall]
target = "ssh://pi@hall:2222/~/work"
tags = ["pi4"]

[devices.here]
target = "local"

[groups]
upstairs = ["hall", "here"]
"""


@pytest.fixture
def members(tmp_path: Path) -> tuple[Member, ...]:
    path = tmp_path / "fleet.toml"
    path.write_text(FLEET)
    return fleet.read(path)


def test_a_file(members: tuple[Member, ...]) -> None:
    assert [(m.name, m.target, m.groups) for m in members] == [
        ("kitchen", "ssh://pi@kitchen", ("pi5",)),
        ("hall", "ssh://pi@hall:2222/~/work", ("pi4", "upstairs")),
        ("here", "local", ("upstairs",)),
    ]


@pytest.mark.parametrize(
    ("only", "names"),
    [
        ([], ["kitchen", "hall", "here"]),
        (["here"], ["here"]),
        (["upstairs"], ["hall", "here"]),
        (["pi5", "hall"], ["kitchen", "hall"]),
    ],
)
def test_a_choice(members: tuple[Member, ...], only: list[str], names: list[str]) -> None:
    assert [member.name for member in fleet.chosen(members, only)] == names


def test_a_name_that_is_nobodys(members: tuple[Member, ...]) -> None:
    with pytest.raises(UsageError, match="named 'cellar'") as caught:
        fleet.chosen(members, ["kitchen", "cellar"])
    assert "upstairs" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("devices = 1", "is no fleet"),
        ("[devices.a]\n", "missing required field `target`"),
        ('[devices.a]\ntarget = "local"\nhost = "x"\n', "unknown field `host`"),
        ('[devices.a]\ntarget = "local"\n[groups]\nall = ["b"]\n', "names 'b'"),
        ('[devices.a]\ntarget = "ftp://x"\n', "is not a target"),
        ("[devices.a", "is no fleet"),
        ("\x00", "is no fleet"),
    ],
)
def test_what_is_no_fleet(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "fleet.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=said):
        fleet.read(path)


def test_a_fleet_that_is_not_there_or_is_empty(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read"):
        fleet.read(tmp_path / "fleet.toml")
    (tmp_path / "fleet.toml").write_text("[devices]\n")
    with pytest.raises(UsageError, match="no devices"):
        fleet.chosen(fleet.read(tmp_path / "fleet.toml"), [])


def test_a_target_that_is_given_twice() -> None:
    assert [m.name for m in fleet.of_targets(["local", "local:/a"])] == ["local", "local:/a"]
    with pytest.raises(UsageError, match="twice"):
        fleet.of_targets(["local", "local:/a", "local"])


def test_rows_are_in_order_and_a_failure_is_one_rows_own() -> None:
    members = [Member(str(number), "local") for number in range(20)]
    faults = {"3": DeviceError("away"), "7": OSError(28, "No space left"), "9": ValueError("odd")}
    told: list[str] = []

    def work(member: Member) -> int:
        if member.name in faults:
            raise faults[member.name]
        return int(member.name)

    rows = fleet.each(members, work, 4, lambda row: told.append(row.member.name))
    assert [row.member for row in rows] == members
    assert sorted(told, key=int) == [member.name for member in members]
    kinds = {row.member.name: row.error.kind for row in rows if row.error}
    assert kinds == {"3": "device", "7": "system", "9": "unexpected"}
    assert {row.exit_code for row in rows} == {0, 2, 3, 4}
    assert [row.result for row in rows if not row.error] == [
        number for number in range(20) if str(number) not in faults
    ]


def test_no_more_at_once_than_is_allowed() -> None:
    lock = threading.Lock()
    busy, most = 0, 0
    two = threading.Barrier(2)

    def work(member: Member) -> None:
        nonlocal busy, most
        with lock:
            busy += 1
            most = max(most, busy)
        two.wait(20)
        with lock:
            busy -= 1

    fleet.each([Member(str(number), "local") for number in range(8)], work, 2)
    assert most == 2
    with pytest.raises(UsageError, match="at-once"):
        fleet.each([Member("a", "local")], work, 0)


@pytest.mark.parametrize(
    "targets",
    [
        ["local", "local:/tmp/w"],
        ["ssh://pi@a", "openssh://pi@a", "ssh://root@a:22/~/w"],
        ["adb://8A1X", "adb://8A1X/data/local/tmp/w"],
    ],
)
def test_in_turns_one_machine_does_one_thing_at_a_time(targets: list[str]) -> None:
    busy: set[str] = set()

    def work(member: Member) -> None:
        busy.add(member.name)
        time.sleep(0.05)
        assert busy == {member.name}
        busy.remove(member.name)

    members = fleet.of_targets(targets)
    rows = fleet.each(members, fleet.in_turns(members, work))
    assert not [row.error for row in rows if row.error]


def test_in_turns_others_work_side_by_side() -> None:
    everyone = threading.Barrier(4)
    members = fleet.of_targets(["local", "ssh://pi@a", "ssh://pi@a:2222", "ssh://pi@b"])
    rows = fleet.each(members, fleet.in_turns(members, lambda _: everyone.wait(20)))
    assert not [row.error for row in rows if row.error]
