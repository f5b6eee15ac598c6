"""What every transport does; each has a subclass that names its fixture."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from edgekit.devices.transport import Transport
from edgekit.errors import ConnectionFailed, DeviceError, InputError, UsageError

NASTY = [
    "a b",
    "it's",
    'say "so"',
    "new\nline",
    "-rf",
    "$HOME `id` $(id)",
    "*?[a]",
    "back\\slash",
    "~",
    "ünïcode",
    "",
]


class TransportContract:
    """Subclasses give a ``device``: a transport whose workdir is a folder under ``tmp_path``."""

    @pytest.fixture
    def work(self, device: Transport) -> Path:
        device.mkdir(device.workdir)
        return Path(device.workdir)

    def test_run_gives_status_and_both_outputs(self, device: Transport) -> None:
        done = device.run(["sh", "-c", "echo out; echo err >&2; exit 3"])
        assert (done.exit_status, done.signal, done.ok) == (3, None, False)
        assert (done.stdout, done.stderr) == (b"out\n", b"err\n")

    def test_run_feeds_its_input_and_closes_it(self, device: Transport) -> None:
        data = os.urandom(3_000_000)
        assert device.run(["cat"], stdin=data).stdout == data

    def test_run_survives_a_command_that_ignores_its_input(self, device: Transport) -> None:
        assert device.run(["true"], stdin=b"x" * 3_000_000).ok

    def test_run_keeps_the_end_of_too_much_output(self, device: Transport) -> None:
        script = "import sys; sys.stdout.write('x' * 12_000_000 + 'end'); sys.stderr.write('e' * 9)"
        done = device.run(["python3", "-c", script])
        assert len(done.stdout) == 4 * 1024 * 1024
        assert done.stdout.endswith(b"xend")
        assert done.stderr == b"e" * 9

    @pytest.mark.parametrize(("number", "name"), [(11, "SIGSEGV"), (6, "SIGABRT"), (9, "SIGKILL")])
    def test_a_signal_is_told_by_its_name(self, device: Transport, number: int, name: str) -> None:
        done = device.run(["sh", "-c", f"kill -{number} $$"])
        assert (done.exit_status, done.signal) == (None, name)

    def test_a_status_above_128_is_a_status(self, device: Transport) -> None:
        done = device.run(["sh", "-c", "exit 139"])
        assert (done.exit_status, done.signal) == (139, None)

    def test_a_missing_program_is_status_127(self, device: Transport) -> None:
        assert device.run(["edgekit-no-such-program"]).exit_status == 127

    def test_arguments_arrive_as_they_are(self, device: Transport) -> None:
        done = device.run(["printf", "%s\\0", *NASTY])
        assert done.stdout.decode().split("\0")[:-1] == NASTY

    def test_what_no_system_can_run_is_refused(self, device: Transport) -> None:
        with pytest.raises(UsageError):
            device.run([])
        with pytest.raises(UsageError):
            device.run(["echo", "a\0b"])

    def test_a_command_past_its_deadline_is_given_up(self, device: Transport) -> None:
        started = time.monotonic()
        with pytest.raises(ConnectionFailed, match=r"'sleep' on .* 0\.5 s"):
            device.run(["sleep", "30"], timeout_s=0.5)
        assert time.monotonic() - started < 5
        assert device.run(["true"]).ok

    def test_lines_come_as_they_are_written(self, device: Transport) -> None:
        script = "echo first; read answer; echo never"
        with device.stream(["sh", "-c", script], timeout_s=20) as stream:
            assert next(iter(stream.lines())) == "first"

    def test_lines_end_with_the_command(self, device: Transport) -> None:
        script = "printf 'a\\n\\nb\\nc'; echo warn >&2; exit 5"
        with device.stream(["sh", "-c", script], timeout_s=20) as stream:
            assert list(stream.lines()) == ["a", "", "b", "c"]
            done = stream.completed()
        assert (done.exit_status, done.stdout, done.stderr) == (5, b"", b"warn\n")

    def test_leaving_a_stream_ends_a_command_that_reads(self, device: Transport) -> None:
        with device.stream(["sh", "-c", "echo $$; exec cat"], timeout_s=20) as stream:
            pid = int(next(iter(stream.lines())))
            assert runs(pid)
        deadline = time.monotonic() + 5
        while runs(pid) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not runs(pid)

    def test_a_beat_comes_until_the_stream_is_left(self, device: Transport) -> None:
        with device.stream(["sh", "-c", "read a; read b; echo twice; sleep 20"], timeout_s=20) as s:
            s.beat()
            assert next(iter(s.lines())) == "twice"

    def test_a_beat_that_nobody_reads_harms_nothing(self, device: Transport) -> None:
        script = "exec <&-; sleep 2.5; echo done"
        with device.stream(["sh", "-c", script], timeout_s=20) as stream:
            stream.beat()
            assert list(stream.lines()) == ["done"]
            assert stream.completed().ok

    def test_a_stream_past_its_deadline_is_given_up(self, device: Transport) -> None:
        with device.stream(["sh", "-c", "echo up; sleep 30"], timeout_s=1) as stream:
            lines = stream.lines()
            assert next(lines) == "up"
            with pytest.raises(ConnectionFailed, match="did not end within 1 s"):
                next(lines)

    @pytest.mark.parametrize("size", [0, 1, 31_999, 32_000, 32_001, 5_000_000])
    def test_put_and_get(self, device: Transport, work: Path, tmp_path: Path, size: int) -> None:
        source, back = tmp_path / "source", tmp_path / "back"
        source.write_bytes(os.urandom(size))
        sent: list[int] = []
        device.put(source, f"{work}/file", progress=sent.append)
        device.get(f"{work}/file", back)
        assert back.read_bytes() == source.read_bytes()
        assert sum(sent) == size

    def test_put_continues_at_an_offset(
        self, device: Transport, work: Path, tmp_path: Path
    ) -> None:
        source = tmp_path / "source"
        source.write_bytes(os.urandom(200_000))
        (work / "file").write_bytes(source.read_bytes()[:100_000] + b"stale" * 100_000)
        sent: list[int] = []
        device.put(source, f"{work}/file", offset=100_000, progress=sent.append)
        assert (work / "file").read_bytes() == source.read_bytes()
        assert sum(sent) == 100_000

    def test_put_replaces_what_was_longer(
        self, device: Transport, work: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "source").write_bytes(b"short")
        (work / "file").write_bytes(b"much longer")
        device.put(tmp_path / "source", f"{work}/file")
        assert (work / "file").read_bytes() == b"short"

    def test_put_beyond_the_end_fails(self, device: Transport, work: Path, tmp_path: Path) -> None:
        (tmp_path / "source").write_bytes(b"0123456789")
        (work / "file").write_bytes(b"01")
        with pytest.raises(DeviceError, match="it is 2 bytes"):
            device.put(tmp_path / "source", f"{work}/file", offset=5)

    def test_put_tells_the_host_from_the_device(
        self, device: Transport, work: Path, tmp_path: Path
    ) -> None:
        with pytest.raises(InputError, match="cannot read"):
            device.put(tmp_path / "missing", f"{work}/file")
        (tmp_path / "source").write_bytes(b"x")
        with pytest.raises(DeviceError, match="cannot write"):
            device.put(tmp_path / "source", f"{work}/no/such/folder")

    def test_get_of_nothing_fails(self, device: Transport, work: Path, tmp_path: Path) -> None:
        with pytest.raises(DeviceError, match="cannot fetch"):
            device.get(f"{work}/missing", tmp_path / "back")

    def test_stat_does_not_follow_links(self, device: Transport, work: Path) -> None:
        (work / "file").write_bytes(b"12345")
        (work / "link").symlink_to(work / "file")
        found, link = device.stat(f"{work}/file"), device.stat(f"{work}/link")
        assert found is not None
        assert (found.size_bytes, found.is_dir, found.is_link) == (5, False, False)
        assert abs(found.modified_s - time.time()) < 60
        assert link is not None
        assert link.is_link
        assert not link.is_dir
        assert device.stat(f"{work}/missing") is None
        assert device.stat(f"{work}/file/below") is None

    def test_listdir(self, device: Transport, work: Path) -> None:
        for name in (*NASTY[:-1], "b", "a"):
            (work / name).touch()
        assert device.listdir(str(work)) == tuple(sorted((*NASTY[:-1], "b", "a")))
        assert device.listdir(f"{work}/missing") == ()

    def test_mkdir_makes_what_is_missing(self, device: Transport, work: Path) -> None:
        device.mkdir(f"{work}/a/b/c", mode=0o700)
        device.mkdir(f"{work}/a/b/c", mode=0o700)
        assert (work / "a/b/c").stat().st_mode & 0o777 == 0o700
        assert (work / "a/b").stat().st_mode & 0o777 == 0o755

    def test_mkdir_over_a_file_fails(self, device: Transport, work: Path) -> None:
        (work / "file").touch()
        with pytest.raises(DeviceError, match="cannot make the folder"):
            device.mkdir(f"{work}/file")

    def test_rename_replaces_a_file_but_no_full_folder(self, device: Transport, work: Path) -> None:
        (work / "old").write_text("old")
        (work / "new").write_text("new")
        device.rename(f"{work}/old", f"{work}/new")
        assert (work / "new").read_text() == "old"
        for name in ("from", "to"):
            (work / name).mkdir()
            (work / name / "file").touch()
        with pytest.raises(DeviceError, match="cannot rename"):
            device.rename(f"{work}/from", f"{work}/to")
        with pytest.raises(DeviceError, match="cannot rename"):
            device.rename(f"{work}/missing", f"{work}/elsewhere")

    def test_remove_takes_everything_but_follows_nothing(
        self, device: Transport, work: Path
    ) -> None:
        (work / "kept").mkdir()
        (work / "kept/file").touch()
        (work / "tree/-x/it's").mkdir(parents=True)
        (work / "tree/-x/it's/file").touch()
        (work / "tree/link").symlink_to(work / "kept")
        (work / "tree/-x").chmod(0o555)
        device.remove(f"{work}/tree")
        device.remove(f"{work}/tree")
        (work / "link").symlink_to(work / "kept")
        device.remove(f"{work}/link")
        assert [p.name for p in work.iterdir()] == ["kept"]
        assert (work / "kept/file").exists()

    def test_sync(self, device: Transport, work: Path) -> None:
        device.sync(str(work))

    def test_free_bytes(self, device: Transport, work: Path) -> None:
        free, expected = device.free_bytes(str(work)), os.statvfs(work)
        assert free is not None
        assert abs(free - expected.f_bavail * expected.f_frsize) < 1 << 30
        assert device.free_bytes(f"{work}/missing") is None


def runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
