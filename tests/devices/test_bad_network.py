"""Pushing, running and fetching over a network that cuts, damages, stalls and crawls."""

from __future__ import annotations

import os
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from edgekit import bundle as bundles
from edgekit import devices, field
from edgekit.bundle import Bundle
from edgekit.devices.push import push
from edgekit.devices.ssh import WINDOW_BYTES
from edgekit.domain import Target
from edgekit.errors import ConnectionFailed, ConnectionLost
from tests.devices.fault_proxy import FaultProxy, Link, Way
from tests.factories import make_bundle

NOTICED_S = 5.0
"""Within so long a dead peer is noticed; the tests allow for a busy machine beyond it."""

SLACK_S = 5.0
_PACKET_BYTES = 40_000
_ARTIFACT_BYTES = 5_000_000


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return make_bundle(tmp_path / "bundle", os.urandom(_ARTIFACT_BYTES))


def total(bundle: Bundle) -> int:
    return sum((bundle.root / name).stat().st_size for name in bundle.files)


def pushed(target: Target, bundle: Bundle) -> int:
    """Push over a connection of its own; the bytes of files that it sent."""
    with devices.connect(target) as device:
        return push(device, bundle).pushed_bytes


def is_whole(work: Path, bundle: Bundle) -> bool:
    """Whether it is there; it is never there in part."""
    home = work / "bundles" / bundle.sha256
    if not home.exists():
        return False
    with bundles.opened(home):
        return True


def cut_and_resume(
    proxy: FaultProxy, target: Target, bundle: Bundle, work: Path, link: Link
) -> int:
    """Push over a link that breaks, then again over a good one; the bytes that went up."""
    before = proxy.passed[0]
    proxy.next(link)
    with pytest.raises(ConnectionFailed) as caught:
        pushed(target, bundle)
    assert "127.0.0.1" in caught.value.message
    is_whole(work, bundle)
    pushed(target, bundle)
    assert is_whole(work, bundle)
    assert not any((work / "staging").iterdir())
    return proxy.passed[0] - before


@pytest.mark.parametrize("part", [0.0, 0.01, 0.5, 0.9])
def test_a_cut_push_sends_no_more_than_a_chunk_again(
    proxy: FaultProxy, target: Target, bundle: Bundle, work: Path, part: float
) -> None:
    up = cut_and_resume(
        proxy, target, bundle, work, Link(up=Way(cut_at=int(part * _ARTIFACT_BYTES) + 1))
    )
    assert up <= total(bundle) + WINDOW_BYTES + 4 * _PACKET_BYTES


@pytest.mark.parametrize("at", [1, 1000, 4000, 7000])
def test_a_cut_on_the_way_back_loses_nothing(
    proxy: FaultProxy, target: Target, bundle: Bundle, work: Path, at: int
) -> None:
    cut_and_resume(proxy, target, bundle, work, Link(down=Way(cut_at=at)))


@pytest.mark.parametrize(
    "link",
    [
        *(Link(up=Way(flip_at=at)) for at in (10, 700, 3_000, 2_500_000)),
        *(Link(down=Way(flip_at=at)) for at in (10, 1_200, 1_800, 3_000, 6_000)),
    ],
    ids=lambda link: f"up-{link.up.flip_at}" if link.up.flip_at else f"down-{link.down.flip_at}",
)
def test_a_flipped_bit_is_an_error_and_never_another_file(
    proxy: FaultProxy, target: Target, bundle: Bundle, work: Path, link: Link
) -> None:
    proxy.next(link)
    with pytest.raises(ConnectionFailed), devices.connect(target, timeout_s=3) as device:
        push(device, bundle)
    is_whole(work, bundle)
    pushed(target, bundle)
    assert is_whole(work, bundle)


def noticed_s(work: object) -> float:
    """How long it takes ``work`` to find out that the other side has gone."""
    started = time.monotonic()
    with pytest.raises(ConnectionLost, match="did not answer"):
        work()  # type: ignore[operator]
    return time.monotonic() - started


def test_a_stalled_peer_is_noticed_in_push_run_and_pull(
    proxy: FaultProxy, target: Target, tmp_path: Path, work: Path
) -> None:
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(400_000_000)
    work.mkdir()
    with (
        devices.connect(target) as one,
        devices.connect(target) as two,
        devices.connect(target) as three,
        ThreadPoolExecutor(3) as pool,
    ):
        waiting = [
            pool.submit(noticed_s, lambda: one.put(large, f"{work}/pushed")),
            pool.submit(noticed_s, lambda: two.run(["sleep", "60"], timeout_s=60)),
            pool.submit(noticed_s, lambda: three.get(str(large), tmp_path / "pulled")),
        ]
        time.sleep(0.3)
        assert not any(one.done() for one in waiting)
        proxy.freeze()
        for one_of_them in waiting:
            assert one_of_them.result() < NOTICED_S + SLACK_S


def test_a_healthy_slow_peer_is_not_taken_for_dead(
    proxy: FaultProxy, target: Target, tmp_path: Path, work: Path
) -> None:
    """1 Mbit/s, so that what is under way alone takes longer than the dead are waited for."""
    source = tmp_path / "source"
    source.write_bytes(os.urandom(700_000))
    work.mkdir()
    proxy.link = Link.both(delay_s=0.15, bytes_per_s=125_000)
    with devices.connect(target) as device:
        device.put(source, f"{work}/file")
    assert (work / "file").read_bytes() == source.read_bytes()


def test_a_lost_connection_is_opened_again_and_the_push_goes_on(
    proxy: FaultProxy, target: Target, bundle: Bundle, work: Path
) -> None:
    told: list[str] = []
    proxy.next(Link(up=Way(cut_at=3_000_000)), Link(down=Way(cut_at=500)))
    deployment = field.push(
        bundle.root, str(target), on_stage=lambda stage, detail: told.append(f"{stage}: {detail}")
    )
    assert is_whole(work, bundle)
    assert proxy.connections == 3
    assert total(bundle) <= deployment.pushed_bytes <= total(bundle) + WINDOW_BYTES
    again = [line for line in told if "trying again" in line]
    assert [line.rpartition(" in ")[2] for line in again] == ["1 s", "2 s"]


def test_a_device_never_reached_is_not_waited_for(home: Path, bundle: Bundle) -> None:
    told: list[str] = []
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        target = f"ssh://pi@127.0.0.1:{unheard.getsockname()[1]}"
        with pytest.raises(ConnectionFailed, match="refused"):
            field.push(bundle.root, target, on_stage=lambda stage, _: told.append(stage))
    assert told == ["connect"]


def test_who_gives_up_says_why(proxy: FaultProxy, target: Target, bundle: Bundle) -> None:
    proxy.next(Link(up=Way(cut_at=3_000_000)), *[Link(down=Way(cut_at=500))] * 3)
    with pytest.raises(ConnectionFailed, match="did not speak SSH"):
        field.push(bundle.root, str(target), retries=1)
    assert proxy.connections == 2
