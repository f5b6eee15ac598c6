"""Pushing: over both transports, through cuts, races and damage."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from edgekit import bundle as bundles
from edgekit import devices
from edgekit.bundle import Bundle
from edgekit.devices.push import MARGIN_BYTES, push
from edgekit.devices.transport import Completed, Transport
from edgekit.domain import Deployment
from edgekit.errors import ConnectionFailed, DeviceError, EdgekitError
from tests.factories import ARTIFACT, make_bundle
from tests.sshd import Sshd

ODD = "extra/it's a file"


@pytest.fixture(params=["local", "ssh"])
def device(request: pytest.FixtureRequest) -> Transport:
    transport: Transport = request.getfixturevalue(request.param)
    return transport


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return make_bundle(tmp_path / "bundle", os.urandom(3_000_000), {ODD: b"odd", "empty": b""})


def total(bundle: Bundle) -> int:
    return sum((bundle.root / name).stat().st_size for name in bundle.files)


def home(device: Transport, bundle: Bundle) -> Path:
    return Path(device.workdir) / "bundles" / bundle.sha256


def stagings(device: Transport) -> list[Path]:
    return sorted((Path(device.workdir) / "staging").iterdir())


def is_complete(path: Path) -> bool:
    """The invariant after every fault: whole, or not there."""
    if not path.exists():
        return False
    with bundles.opened(path):
        return True


class Cut:
    """A transport that loses its connection, once, where it is told to."""

    def __init__(self, device: Transport, *, after_bytes: int = 1 << 60, before: str = "") -> None:
        self._device = device
        self._left = after_bytes
        self._before = before

    def __getattr__(self, name: str) -> Any:
        if name == self._before:
            raise ConnectionFailed("cut")
        return getattr(self._device, name)

    def put(self, source: Path, path: str, *, offset: int = 0, progress: Any = None) -> None:
        def counting(sent: int) -> None:
            progress(sent)
            self._left -= sent
            if self._left <= 0:
                raise ConnectionFailed("cut")

        self._device.put(source, path, offset=offset, progress=counting)


def test_a_fresh_push(device: Transport, bundle: Bundle) -> None:
    sent: list[int] = []
    deployment = push(device, bundle, sent.append)
    path = home(device, bundle)
    assert is_complete(path)
    assert deployment.path == str(path)
    assert deployment.bundle_sha256 == bundle.sha256
    assert deployment.target == str(device.target)
    assert (deployment.pushed_bytes, deployment.skipped_bytes) == (total(bundle), 0)
    assert sum(sent) == total(bundle)
    modes = {p.stat().st_mode & 0o777 for p in path.rglob("*") if p.is_file()}
    assert modes == {0o444}
    folders = [path, *(p for p in path.rglob("*") if p.is_dir())]
    assert {p.stat().st_mode & 0o777 for p in folders} == {0o555}
    assert stagings(device) == []
    assert (Path(device.workdir) / "staging").stat().st_mode & 0o777 == 0o700


def test_pushing_again_moves_nothing(device: Transport, bundle: Bundle) -> None:
    push(device, bundle)
    before = home(device, bundle).stat().st_ino
    again = push(device, bundle)
    assert (again.pushed_bytes, again.skipped_bytes) == (0, total(bundle))
    assert home(device, bundle).stat().st_ino == before


@pytest.mark.parametrize("after", [1, 1_000_000, 2_999_999, 3_000_300])
def test_a_cut_push_is_resumed(device: Transport, bundle: Bundle, after: int) -> None:
    with pytest.raises(ConnectionFailed):
        push(Cut(device, after_bytes=after), bundle)
    assert not home(device, bundle).exists()
    [left] = stagings(device)
    assert left.stat().st_mode & 0o777 == 0o700
    held = sum(p.stat().st_size for p in left.rglob("*") if p.is_file())
    deployment = push(device, bundle)
    assert is_complete(home(device, bundle))
    assert deployment.pushed_bytes == total(bundle) - held
    assert stagings(device) == []


@pytest.mark.parametrize("before", ["mkdir", "run", "sync", "rename", "free_bytes", "listdir"])
def test_a_cut_at_any_step_leaves_all_or_nothing(
    device: Transport, bundle: Bundle, before: str
) -> None:
    with pytest.raises(ConnectionFailed):
        push(Cut(device, before=before), bundle)
    path = home(device, bundle)
    assert not path.exists() or is_complete(path)
    push(device, bundle)
    assert is_complete(path)
    assert stagings(device) == []


def test_a_real_cut_of_the_connection_is_resumed(
    sshd: Sshd, tmp_path: Path, bundle: Bundle
) -> None:
    sshd.accept()
    target = devices.parse(f"{sshd.url}{tmp_path / 'work'}")

    def kill_server_sessions(sent: int) -> None:
        if sum(seen) < 2_000_000 <= sum(seen) + sent:
            for pid in sshd.sessions():
                os.kill(pid, 9)
        seen.append(sent)

    seen: list[int] = []
    with pytest.raises(ConnectionFailed), devices.connect(target) as device:
        push(device, bundle, kill_server_sessions)
    assert not (tmp_path / "work/bundles" / bundle.sha256).exists()
    with devices.connect(target) as device:
        deployment = push(device, bundle)
        assert is_complete(home(device, bundle))
    assert 0 < deployment.skipped_bytes < total(bundle)


def test_a_resumed_file_that_is_damaged_is_sent_again(device: Transport, bundle: Bundle) -> None:
    with pytest.raises(ConnectionFailed):
        push(Cut(device, before="rename"), bundle)
    [left] = stagings(device)
    flip(left / ARTIFACT)
    (left / ODD).chmod(0o644)
    (left / ODD).write_bytes(b"much longer than it was")
    deployment = push(device, bundle)
    assert is_complete(home(device, bundle))
    assert deployment.pushed_bytes == 3_000_000 + len(b"odd")


def test_what_is_damaged_on_the_device_is_pushed_anew(device: Transport, bundle: Bundle) -> None:
    path = home(device, bundle)
    push(device, bundle)
    flip(path / ARTIFACT)
    assert push(device, bundle).pushed_bytes == total(bundle)
    assert is_complete(path)
    path.chmod(0o755)
    (path / "empty").unlink()
    assert push(device, bundle).pushed_bytes == total(bundle)
    assert is_complete(path)
    assert stagings(device) == []


def test_a_source_that_is_not_what_it_was_never_becomes_visible(
    device: Transport, bundle: Bundle
) -> None:
    flip(bundle.root / ARTIFACT)
    with pytest.raises(DeviceError, match=rf"{ARTIFACT} arrived damaged, twice"):
        push(device, bundle)
    assert not home(device, bundle).exists()


def test_two_pushes_at_once(sshd: Sshd, tmp_path: Path) -> None:
    sshd.accept()
    bundle = make_bundle(tmp_path / "bundle", os.urandom(20_000_000))
    target = devices.parse(f"{sshd.url}{tmp_path / 'work'}")
    outcomes: list[Deployment | Exception] = []

    def work(delay_s: float) -> None:
        time.sleep(delay_s)
        try:
            with devices.connect(target) as device:
                outcomes.append(push(device, bundle))
        except EdgekitError as error:
            outcomes.append(error)

    threads = [threading.Thread(target=work, args=(0.1 * i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [type(outcome) for outcome in outcomes] == [Deployment] * 3, outcomes
    assert is_complete(tmp_path / "work/bundles" / bundle.sha256)
    assert list((tmp_path / "work/staging").iterdir()) == []


class Robbed:
    """A transport whose staging folder another push takes over at every put."""

    def __init__(self, device: Transport, thief: Any) -> None:
        self._device, self._thief = device, thief

    def __getattr__(self, name: str) -> Any:
        return getattr(self._device, name)

    def put(self, *args: Any, **kwargs: Any) -> None:
        self._thief()
        self._device.put(*args, **kwargs)


def test_who_is_robbed_of_the_staging_finds_the_bundle_there(
    local: Transport, bundle: Bundle
) -> None:
    deployment = push(Robbed(local, lambda: push(local, bundle)), bundle)
    assert deployment.pushed_bytes == 0
    assert is_complete(home(local, bundle))
    assert stagings(local) == []


def test_who_is_robbed_does_not_rob_back(local: Transport, bundle: Bundle) -> None:
    theirs = Path(local.workdir) / "staging" / f"{bundle.sha256[:16]}-theirs"

    def steal() -> None:
        if not theirs.exists():
            stagings(local)[0].rename(theirs)

    assert push(Robbed(local, steal), bundle).pushed_bytes == total(bundle)
    assert is_complete(home(local, bundle))
    assert stagings(local) == [theirs]


def test_who_is_robbed_for_ever_gives_up(local: Transport, bundle: Bundle) -> None:
    def steal() -> None:
        for staging in stagings(local):
            staging.rename(Path(local.workdir) / f"stolen-{staging.name}")

    with pytest.raises(DeviceError, match="kept interfering"):
        push(Robbed(local, steal), bundle)
    assert not home(local, bundle).exists()


class Late:
    """A transport to a device where the bundle appears just before ours is renamed."""

    def __init__(self, device: Transport, bundle: Bundle) -> None:
        self._device, self._bundle = device, bundle

    def __getattr__(self, name: str) -> Any:
        return getattr(self._device, name)

    def rename(self, old: str, new: str) -> None:
        if "/bundles/" in new and not Path(new).exists():
            subprocess.run(["cp", "-r", self._bundle.root, new], check=True)
        self._device.rename(old, new)


def test_the_loser_of_a_race_succeeds(device: Transport, bundle: Bundle) -> None:
    push(Late(device, bundle), bundle)
    assert is_complete(home(device, bundle))
    assert stagings(device) == []


@pytest.mark.parametrize("name", ["bundles", "staging"])
def test_folders_that_are_links_are_refused(
    device: Transport, bundle: Bundle, tmp_path: Path, name: str
) -> None:
    (tmp_path / "elsewhere").mkdir()
    device.mkdir(device.workdir)
    (Path(device.workdir) / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DeviceError, match="is a link"):
        push(device, bundle)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_staging_folder_that_is_a_link_is_not_taken_over(
    device: Transport, bundle: Bundle, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    device.mkdir(f"{device.workdir}/staging")
    link = Path(device.workdir) / "staging" / f"{bundle.sha256[:16]}-0"
    link.symlink_to(tmp_path / "elsewhere")
    push(device, bundle)
    assert is_complete(home(device, bundle))
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_old_stagings_are_swept(device: Transport, bundle: Bundle) -> None:
    root = Path(device.workdir) / "staging"
    for name, age_s in [("old-1", 25 * 3600), ("young-1", 23 * 3600)]:
        (root / name / "sub").mkdir(parents=True)
        (root / name / "sub" / "file").touch()
        (root / name / "sub").chmod(0o555)
        os.utime(root / name, (time.time() - age_s,) * 2)
    push(device, bundle)
    assert [p.name for p in stagings(device)] == ["young-1"]


class Without:
    """A transport to a device that lacks some programs, and says it has little space."""

    def __init__(self, device: Transport, path: str, free: int | None = None) -> None:
        self._device, self._path, self._free = device, path, free

    def __getattr__(self, name: str) -> Any:
        return getattr(self._device, name)

    def run(self, argv: Sequence[str], **kwargs: Any) -> Completed:
        return self._device.run(["env", f"PATH={self._path}", *argv], **kwargs)

    def free_bytes(self, path: str) -> int | None:
        return self._free


@pytest.mark.parametrize("tools", [["sha256sum"], ["shasum", "perl"], ["python3"], []])
def test_any_way_to_compute_a_sha256_will_do(
    local: Transport, bundle: Bundle, tmp_path: Path, tools: list[str]
) -> None:
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    for tool in ("sh", "chmod", "date", "env", "sync", *tools):
        found = str(Path(sys.executable).resolve()) if tool == "python3" else shutil.which(tool)
        if found is None:
            pytest.skip(f"needs {tool}")
        (bin_folder / tool).symlink_to(found)
    device = Without(local, str(bin_folder))
    if tools:
        push(device, bundle)
        assert push(device, bundle).pushed_bytes == 0
    else:
        with pytest.raises(DeviceError, match="no way to compute a sha256") as caught:
            push(device, bundle)
        assert "sha256sum" in caught.value.hint


def test_too_little_space_is_told_before_anything_is_sent(local: Transport, bundle: Bundle) -> None:
    free = total(bundle) + MARGIN_BYTES - 1
    with pytest.raises(DeviceError, match=rf"{free + 1} bytes are needed, {free} are free"):
        push(Without(local, os.environ["PATH"], free), bundle)
    assert stagings(local) == []


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    mount = tmp_path / "work"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(mount)]
    mounted = os.geteuid() == 0 and subprocess.run(command, check=False).returncode == 0
    if not mounted:
        pytest.skip("needs root, to mount a tmpfs")
    yield mount
    subprocess.run(["umount", "-l", str(mount)], check=True)


def test_a_full_disk(tiny_disk: Path, device: Transport, bundle: Bundle) -> None:
    with pytest.raises(DeviceError, match="not enough space"):
        push(device, bundle)
    assert stagings(device) == []


def test_a_disk_that_fills_up_in_the_middle(
    tiny_disk: Path, device: Transport, bundle: Bundle
) -> None:
    class Optimistic(Cut):
        def free_bytes(self, path: str) -> int | None:
            first, self.asked = not hasattr(self, "asked"), True
            return None if first else self._device.free_bytes(path)

    with pytest.raises(DeviceError, match="not enough space"):
        push(Optimistic(device), bundle)
    assert not home(device, bundle).exists()


def flip(path: Path) -> None:
    """Change one byte, whatever the permissions."""
    path.chmod(0o644)
    with path.open("r+b") as file:
        byte = file.read(1)
        file.seek(0)
        file.write(bytes([byte[0] ^ 1]))
