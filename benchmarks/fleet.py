"""Thirty-two devices at once: how much longer than one, and how much memory.

Every device is an sshd of its own behind a link of its own (20 ms each way, as fast as is told):
on one machine that is what makes devices out of processes; what is left over is what edgekit
and 32 servers cost the two cores that they share. Goals: at most 1.5 times the wall time of
one, under 500 MB.

    python benchmarks/fleet.py [--devices 32] [--megabytes 4] [--mb-per-s 0.25]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from _common import ROOT, Goal, finish

sys.path.insert(0, str(ROOT))
from tests.factories import make_bundle
from tests.sshd import Sshd

DELAY_S = 0.02
LONGER = 1.5
MEMORY_BYTES = 500e6
ROUNDS = 3

# Says how long the command took and its peak memory, which no wrapper may take part in.
MEASURED = """
import sys, time
from edgekit.cli import main
started = time.perf_counter()
status = main(sys.argv[1:])
peak = int(next(l for l in open("/proc/self/status") if l.startswith("VmHWM")).split()[1]) * 1024
print(f"\\n{time.perf_counter() - started} {peak}", file=sys.stderr)
sys.exit(status)
"""


def main() -> int:
    """Measure, print, and say by the status whether the goals hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, default=32)
    parser.add_argument("--megabytes", type=float, default=4)
    parser.add_argument("--mb-per-s", type=float, default=0.25)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        home = folder / "home"
        home.mkdir()
        os.environ.pop("SSH_AUTH_SOCK", None)
        os.environ["HOME"] = str(home)
        bundle = make_bundle(folder / "bundle", os.urandom(int(arguments.megabytes * 1e6))).root
        urls = [
            device(stack, folder / f"device-{number}", home, arguments.mb_per_s * 1e6)
            for number in range(arguments.devices)
        ]
        turns = [
            (push(bundle, urls[:1], f"one-{turn}"), push(bundle, urls, f"all-{turn}"))
            for turn in range(ROUNDS)
        ]
    one, all_ = median(one for (one, _), _ in turns), median(every for _, (every, _) in turns)
    peak = max(peak for _, (_, peak) in turns)
    figures = {
        "devices": arguments.devices,
        "megabytes": arguments.megabytes,
        "link_mb_per_s": arguments.mb_per_s,
        "one_s": one,
        "all_s": all_,
        "ratio_per_round": [every / one for (one, _), (every, _) in turns],
        "peak_memory_bytes": peak,
    }
    ratio = median(every / one for (one, _), (every, _) in turns)
    goals = [Goal("time over that of one", ratio, LONGER), Goal("memory", peak, MEMORY_BYTES)]
    return finish("fleet", figures, goals)


def device(stack: ExitStack, folder: Path, home: Path, bytes_per_s: float) -> str:
    """A server behind a link in a process of its own; the URL that leads through it."""
    server = stack.enter_context(Sshd(folder, home))
    link = [sys.executable, "-m", "tests.devices.fault_proxy", str(server.port)]
    proxy = subprocess.Popen(
        [*link, str(DELAY_S), str(bytes_per_s)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    stack.callback(proxy.terminate)
    port = int(proxy.stdout.readline()) if proxy.stdout else 0
    with server.known_hosts.open("a") as file:
        file.write(f"[127.0.0.1]:{port} {server.known_hosts_line().split(maxsplit=1)[1]}")
    return f"ssh://{server.user}@127.0.0.1:{port}{folder}"


def push(bundle: Path, urls: Sequence[str], work: str) -> tuple[float, int]:
    """Seconds and peak memory of one command."""
    targets = [word for url in urls for word in ("--on", f"{url}/{work}")]
    argv = [sys.executable, "-c", MEASURED, "push", str(bundle), *targets, "--json"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode:
        raise SystemExit(f"edgekit push: {done.stdout}\n{done.stderr}")
    rows = json.loads(done.stdout).get("devices", [None])
    if len(rows) != len(urls):
        raise SystemExit(f"{len(rows)} rows for {len(urls)} devices")
    seconds, peak = done.stderr.splitlines()[-1].split()
    return float(seconds), int(peak)


if __name__ == "__main__":
    sys.exit(main())
