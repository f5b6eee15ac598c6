"""One command on many devices: a row for each, and the worst of them is the exit code."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgekit import benchmarking, field
from edgekit.bundle import Bundle
from edgekit.cli import arguments, commands, fleets
from edgekit.fleet import Member, Row
from tests.benchmarking.deployed import deploy
from tests.cli.conftest import Edgekit
from tests.devices.conftest import home, sshd
from tests.sshd import Sshd, make_key

__all__ = ["home", "sshd"]

QUICK = ("--runs", 5, "--seconds", 0.05, "--processes", 1)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return deploy(tmp_path / "made").bundle.root


@pytest.fixture
def fleet(tmp_path: Path, sshd: Sshd) -> Iterator[Path]:
    """A device over SSH, this machine, one that is dead, and one with another key."""
    sshd.accept()
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        dead = unheard.getsockname()[1]
    with Sshd(tmp_path / "impostor", sshd.home) as impostor:
        make_key(tmp_path / "other")
        kind, blob = (tmp_path / "other.pub").read_text().split()[:2]
        with sshd.known_hosts.open("a") as file:
            file.write(f"[127.0.0.1]:{impostor.port} {kind} {blob}\n")
        targets = {
            "board": f"{sshd.url}{tmp_path}/board",
            "here": f"local:{tmp_path}/here",
            "dead": f"ssh://pi@127.0.0.1:{dead}",
            "impostor": impostor.url,
        }
        entries = (f'[devices.{name}]\ntarget = "{one}"\n' for name, one in targets.items())
        path = tmp_path / "fleet.toml"
        path.write_text("".join(entries) + '[groups]\nwell = ["board", "here"]\n')
        yield path


def test_push_to_all(edgekit: Edgekit, bundle: Path, fleet: Path) -> None:
    ran = edgekit("push", bundle, "--fleet", fleet, "--json")
    assert ran.code == ran.json["exit_code"] == 3
    rows = {row["name"]: row for row in ran.json["devices"]}
    assert list(rows) == ["board", "here", "dead", "impostor"]
    assert rows["board"]["pushed_bytes"] == rows["here"]["pushed_bytes"] > 0
    assert [row["exit_code"] for row in rows.values()] == [0, 0, 3, 3]
    assert rows["dead"]["error"]["kind"] == "connection"
    assert rows["impostor"]["error"]["kind"] == "host-key"
    assert "board: push: " in ran.stderr
    shown = edgekit("push", bundle, "--fleet", fleet)
    assert shown.code == 3
    assert "has changed" in shown.stdout
    assert "hint: " in shown.stdout
    again = edgekit("push", bundle, "--fleet", fleet, "--only", "well", "--json")
    assert again.code == 0
    assert [row["pushed_bytes"] for row in again.json["devices"]] == [0, 0]


def test_bench_on_two(edgekit: Edgekit, bundle: Path, tmp_path: Path) -> None:
    targets = [f"local:{tmp_path}/{name}" for name in ("one", "two")]
    words = ("bench", bundle, "--on", targets[0], "--on", targets[1], *QUICK)
    ran = edgekit(*words, "-o", tmp_path / "results", "--json")
    assert ran.code == 0, ran.stderr
    for row, target in zip(ran.json["devices"], targets, strict=True):
        assert row["target"] == target
        assert row["golden"]["passed"]
        assert row["latency_ms"]["n"] >= 5
    assert len(list((tmp_path / "results").glob("*.json"))) == 2
    assert "ms" in edgekit(*words).stdout


def test_bench_on_one_under_two_names(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    busy: set[str] = set()

    def measure(_: Bundle, target: str, **__: object) -> None:
        busy.add(target)
        time.sleep(0.05)
        assert busy == {target}
        busy.remove(target)

    monkeypatch.setattr(field, "measure", measure)
    monkeypatch.setattr(benchmarking, "as_json", lambda _: {})
    words = ["bench", str(bundle), "--on", "ssh://a", "--on", "openssh://pi@a:22/~/other"]
    document, _ = commands.bench(arguments.parse(words))
    assert document["exit_code"] == 0, document


def test_a_result_that_cannot_be_told_is_its_own_devices_error() -> None:
    rows = [
        Row(member=Member(name, "local"), elapsed_s=1.0, result=result)
        for name, result in [("well", 2), ("rogue", 0)]
    ]
    told = fleets.told(rows, lambda result: {"share": 1 / result})
    document, _ = fleets.output(told, lambda _: "")
    well, rogue = document["devices"]
    assert (well["share"], well["exit_code"]) == (0.5, 0)
    assert (rogue["name"], rogue["error"]["kind"]) == ("rogue", "unexpected")
    assert document["exit_code"] == rogue["exit_code"] > 0


def test_where_is_said_once(edgekit: Edgekit, bundle: Path, tmp_path: Path) -> None:
    fleet = tmp_path / "fleet.toml"
    fleet.write_text('[devices.here]\ntarget = "local"\n')
    both = edgekit("push", bundle, "--fleet", fleet, "--on", "local", "--json")
    assert (both.code, both.error["kind"]) == (2, "usage")
    neither = edgekit("push", bundle, "--only", "here", "--json")
    assert (neither.code, neither.error["kind"]) == (2, "usage")
