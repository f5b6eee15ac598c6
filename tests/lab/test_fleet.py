"""Thirty-two devices at once, three of which cannot be had."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.devices.test_bad_network import is_whole
from tests.factories import make_bundle
from tests.lab.faults.mounts import tmpfs
from tests.sshd import Sshd, make_key

pytestmark = pytest.mark.lab

COUNT = 32
MEMORY_BYTES = 500_000_000


def test_twenty_nine_results_and_three_errors(tmp_path: Path, home: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle", os.urandom(2_000_000))
    with ExitStack() as stack:
        servers = [
            stack.enter_context(Sshd(tmp_path / f"sshd-{number}", home)) for number in range(COUNT)
        ]
        dead, impostor, full = servers[5], servers[11], servers[17]
        make_key(tmp_path / "other")
        kind, blob = (tmp_path / "other.pub").read_text().split()[:2]
        for server in servers:
            if server is not impostor:
                server.accept()
        with impostor.known_hosts.open("a") as file:
            file.write(f"[127.0.0.1]:{impostor.port} {kind} {blob}\n")
        dead.stop()
        stack.enter_context(tmpfs(full.folder / "work", "size=1m"))
        entries = (
            f'[devices.d{number}]\ntarget = "{server.url}{server.folder}/work"\n'
            for number, server in enumerate(servers)
        )
        (tmp_path / "fleet.toml").write_text("".join(entries))
        argv = [sys.executable, "-m", "edgekit", "push", bundle.root, "--json"]
        done = subprocess.run(
            [*argv, "--fleet", tmp_path / "fleet.toml"], capture_output=True, check=False
        )
        assert done.returncode == 3, done.stderr
        rows = json.loads(done.stdout)["devices"]
        failed = {row["name"]: row["error"] for row in rows if "error" in row}
        assert {name: error["kind"] for name, error in failed.items()} == {
            "d5": "connection",
            "d11": "host-key",
            "d17": "device",
        }
        assert "refused" in failed["d5"]["message"]
        assert "has changed" in failed["d11"]["message"]
        assert "not enough space" in failed["d17"]["message"]
        assert all(error["hint"] for error in failed.values())
        well = [s for s in servers if s not in (dead, impostor, full)]
        assert len(rows) - len(failed) == len(well) == 29
        assert all(is_whole(server.folder / "work", bundle) for server in well)
    # In KiB: the largest of all that this process has waited for.
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 < MEMORY_BYTES
