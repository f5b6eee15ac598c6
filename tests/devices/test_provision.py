"""A runtime onto devices that have none: a real server, and a Python with nothing in it."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from edgekit import devices, field, resources
from edgekit.devices import wheels
from edgekit.devices.probe import choose, probe
from edgekit.devices.provision import Equipment, provision
from edgekit.devices.transport import Transport
from edgekit.domain import DeviceFacts
from edgekit.errors import ConnectionFailed, DeviceError, DeviceRuntimeMissing
from tests.device_pythons import device_bin
from tests.devices.fault_proxy import FaultProxy, Link, Way
from tests.factories import make_bundle
from tests.sshd import Sshd, why_not

TFLITE = {"tflite_runtime": ">=2.14,<2.15"}

METADATA = "Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
WHEEL = "Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: {tag}\n"

PI = DeviceFacts(
    python="/usr/bin/python3",
    python_version="3.11.2",
    numpy_version=None,
    system="Linux",
    machine="aarch64",
    libc="glibc 2.36",
    cpu_model="Cortex-A76",
    cores=4,
    memory_total_bytes=4 << 30,
    abi="cpython-311-aarch64-linux-gnu",
)


@pytest.fixture
def bare(tmp_path: Path, home: Path) -> Iterator[Sshd]:
    if reason := why_not():
        pytest.skip(reason)
    with Sshd(tmp_path / "sshd", home, path_env=f"{device_bin('nothing')}:/bin") as server:
        server.accept()
        yield server


@pytest.fixture
def device(bare: Sshd, tmp_path: Path) -> Iterator[Transport]:
    with devices.connect(devices.parse(f"{bare.url}{tmp_path / 'work'}")) as transport:
        yield transport


Wheels = Callable[..., Path]


@pytest.fixture
def made(tmp_path: Path) -> Wheels:
    """Wheels of no great use: a module each, tagged as asked."""
    folder = tmp_path / "made"
    folder.mkdir()

    def make(name: str, version: str, tag: str, files: dict[str, bytes] | None = None) -> Path:
        info = f"{name}-{version}.dist-info"
        content = {
            f"{name}/__init__.py": b"",
            f"{info}/METADATA": METADATA.format(name=name, version=version).encode(),
            f"{info}/WHEEL": WHEEL.format(tag=tag).encode(),
            **(files or {}),
        }
        record = "".join(f"{path},,\n" for path in (*content, f"{info}/RECORD"))
        content[f"{info}/RECORD"] = record.encode()
        with zipfile.ZipFile(folder / f"{name}-{version}-{tag}.whl", "w") as wheel:
            for path, data in content.items():
                wheel.writestr(path, data)
        return folder

    return make


def small(made: Wheels, tag: str = "py3-none-any", **files: bytes) -> Path:
    """A stand-in for the runtime and its NumPy, for what real ones take too long for."""
    made("numpy", "1.26.4", "py3-none-any")
    files = {"interpreter.py": b"", **files}
    return made(
        "tflite_runtime", "2.14.0", tag, {f"tflite_runtime/{n}": d for n, d in files.items()}
    )


def installing(
    archive: Path, home: Path, module: str = "runtime", timeout_s: float = 60
) -> subprocess.CompletedProcess[bytes]:
    """The installer at work in a working folder of this machine."""
    staging = home.parents[1] / "staging" / "runtime-1"
    command = [sys.executable, resources.installer(), archive, staging, home, module]
    return subprocess.run(command, capture_output=True, timeout=timeout_s, check=False)


def test_a_bare_device_gets_the_runtime_and_keeps_it(device: Transport, tmp_path: Path) -> None:
    facts = probe(device)
    assert all(not fact.runtimes and not fact.numpy_version for fact in facts)
    there = provision(device, facts, TFLITE)
    assert there.numpy_version is not None
    assert there.numpy_version.startswith("1.")
    assert [runtime.version for runtime in there.runtimes] == ["2.14.0"]
    found, runtime = choose(probe(device), TFLITE)
    assert (found.python, runtime.module) == (there.python, "tflite_runtime")
    work = tmp_path / "work"
    assert [path.name.rpartition("-")[0] for path in (work / "runtimes").iterdir()] == [
        "tflite-runtime-2.14.0-cp311"
    ]
    assert not list((work / "staging").iterdir())
    assert not list((work / "wheels").iterdir())
    script = "import tflite_runtime.interpreter as i; print(i.Interpreter.__name__)"
    assert device.run([there.python, "-c", script], timeout_s=60).stdout == b"Interpreter\n"


def test_the_version_that_was_validated_is_preferred(tmp_path: Path, made: Wheels) -> None:
    small(made)
    folder = made("tflite_runtime", "2.14.1", "py3-none-any")
    for preferred, expected in [("2.14.0", "2.14.0"), ("2.13.0", "2.14.1"), ("2.14.9", "2.14.1")]:
        work = tmp_path / preferred
        work.mkdir()
        packed = wheels.pack(
            PI, TFLITE, work, preferred={"tflite-runtime": preferred}, wheels=folder
        )
        assert packed.version == expected


def test_the_same_wheels_are_the_same_archive(tmp_path: Path, made: Wheels) -> None:
    folder = small(made)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    first, second = (
        wheels.pack(PI, TFLITE, tmp_path / name, wheels=folder).sha256 for name in ("a", "b")
    )
    assert first == second


def test_a_wheel_for_another_processor_is_refused_unsent(device: Transport, made: Wheels) -> None:
    facts = [msgspec.structs.replace(probe(device)[0], abi=PI.abi, libc=PI.libc)]
    folder = small(made, "cp311-cp311-manylinux_2_34_x86_64")
    with pytest.raises(DeviceRuntimeMissing, match=r"no wheels for Python 3\.11.*aarch64"):
        provision(device, facts, TFLITE, source=folder)
    assert device.stat(device.workdir) is None


def test_a_library_for_another_processor_is_found_in_a_wheel_that_lies(
    tmp_path: Path, made: Wheels
) -> None:
    x86 = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x03\x00\x3e\x00" + bytes(40)
    folder = small(made, **{"kernels.so": x86})
    with pytest.raises(DeviceRuntimeMissing, match=r"kernels\.so is for x86_64"):
        wheels.pack(PI, TFLITE, tmp_path, wheels=folder)


@pytest.mark.parametrize(
    ("abi", "libc", "system", "says"),
    [
        ("cpython-311-arm-linux-gnueabihf", "glibc 2.36", "Linux", "64-bit CPython"),
        ("cpython-313t-aarch64-linux-gnu", "glibc 2.36", "Linux", "64-bit CPython"),
        ("pypy310-pp73-aarch64-linux-gnu", "glibc 2.36", "Linux", "64-bit CPython"),
        ("", "", "Linux", "of an unknown ABI"),
        ("cpython-311-darwin", "", "Darwin", "64-bit CPython"),
        ("cpython-311-aarch64-linux-gnu", "glibc 2.12", "Linux", "glibc 2.17 or newer"),
        ("cpython-311-aarch64-linux-gnu", "", "Linux", "glibc 2.17 or newer"),
    ],
)
def test_devices_that_no_wheel_is_made_for(
    tmp_path: Path, abi: str, libc: str, system: str, says: str
) -> None:
    facts = msgspec.structs.replace(PI, abi=abi, libc=libc, system=system)
    with pytest.raises(DeviceRuntimeMissing) as caught:
        wheels.pack(facts, TFLITE, tmp_path)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("libc", "abi", "fits"),
    [
        ("glibc 2.27", PI.abi, "aarch64-manylinux_2_17"),
        ("glibc 2.31", PI.abi, "aarch64-manylinux_2_31"),
        ("glibc 2.41", PI.abi, "aarch64-manylinux_2_40"),
        ("musl", "cpython-312-x86_64-linux-musl", "x86_64-unknown-linux-musl"),
    ],
)
def test_what_wheels_have_to_be_made_for(libc: str, abi: str, fits: str) -> None:
    assert wheels._platform(msgspec.structs.replace(PI, libc=libc, abi=abi)) == fits


def test_a_runtime_that_edgekit_cannot_install(tmp_path: Path) -> None:
    with pytest.raises(DeviceRuntimeMissing, match=r"cannot install.*tensorflow"):
        wheels.pack(PI, {"tensorflow": ">=2.20"}, tmp_path)


def test_the_next_interpreter_and_the_next_runtime_are_tried(
    device: Transport, made: Wheels
) -> None:
    facts = probe(device)[0]
    old = msgspec.structs.replace(facts, abi="", python="/usr/bin/old")
    runtimes = {"ai_edge_litert": ">=2.0", **TFLITE}
    there = provision(device, [old, facts], runtimes, source=small(made))
    assert [runtime.module for runtime in there.runtimes] == ["tflite_runtime"]


def test_a_push_brings_the_runtime_when_asked_to(bare: Sshd, made: Wheels, tmp_path: Path) -> None:
    made("numpy", "2.1.0", "py3-none-any")
    folder = made("onnxruntime", "1.20.0", "py3-none-any")
    bundle = make_bundle(tmp_path / "bundle")
    on = f"{bare.url}{tmp_path / 'work'}"
    field.push(bundle, on)
    assert not (tmp_path / "work/runtimes").exists()
    equipment = Equipment(provision=True, wheels=folder)
    for _ in range(2):
        field.push(bundle, on, equipment=equipment)
        (there,) = (tmp_path / "work/runtimes").iterdir()
        assert there.name.startswith("onnxruntime-1.20.0-cp311-")


def test_a_bundle_that_nothing_runs(bare: Sshd, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    nothing = msgspec.structs.replace(bundle.manifest, runtimes={})
    bundle = msgspec.structs.replace(bundle, manifest=nothing)
    with pytest.raises(DeviceRuntimeMissing, match="no runtime that the runner drives"):
        field.push(bundle, bare.url, equipment=Equipment(provision=True))


def test_no_python_there(device: Transport) -> None:
    with pytest.raises(DeviceRuntimeMissing, match="no Python") as caught:
        provision(device, [], TFLITE)
    assert "3.8" in caught.value.hint


def test_what_does_not_load_there_is_not_installed(device: Transport, made: Wheels) -> None:
    folder = small(made, **{"interpreter.py": b"raise ImportError('libgomp.so.1 is missing')"})
    with pytest.raises(DeviceError, match=r"cannot be installed: .*libgomp\.so\.1 is missing"):
        provision(device, probe(device), TFLITE, source=folder)
    for folder_name in ("runtimes", "staging", "wheels"):
        assert device.listdir(f"{device.workdir}/{folder_name}") == ()


def test_a_device_that_is_full(
    device: Transport, made: Wheels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(device), "free_bytes", lambda *_: 1000)
    with pytest.raises(DeviceError, match="not enough space"):
        provision(device, probe(device), TFLITE, source=small(made))
    assert device.listdir(f"{device.workdir}/wheels") == ()


def test_a_broken_environment_of_the_same_name_is_made_anew(
    device: Transport, made: Wheels, tmp_path: Path
) -> None:
    folder = small(made)
    there = provision(device, probe(device), TFLITE, source=folder)
    packages = Path(there.python).parents[1] / "lib/python3.11/site-packages"
    shutil.rmtree(packages / "tflite_runtime")
    with pytest.raises(DeviceRuntimeMissing):
        choose(probe(device), TFLITE)
    again = provision(device, probe(device), TFLITE, source=folder)
    assert again.python == there.python
    assert choose(probe(device), TFLITE)


def test_an_environment_that_lost_its_metadata_is_made_anew(
    device: Transport, made: Wheels
) -> None:
    """It can be imported, but nobody can tell its version."""
    folder = small(made)
    there = provision(device, probe(device), TFLITE, source=folder)
    packages = Path(there.python).parents[1] / "lib/python3.11/site-packages"
    shutil.rmtree(packages / "tflite_runtime-2.14.0.dist-info")
    assert provision(device, probe(device), TFLITE, source=folder).runtimes


def test_who_comes_second_leaves_what_the_first_uses(
    device: Transport, made: Wheels, tmp_path: Path
) -> None:
    facts, folder = probe(device), small(made)
    first = provision(device, facts, TFLITE, source=folder)
    home = Path(first.python).parents[1]
    before = home.stat().st_ino
    assert provision(device, facts, TFLITE, source=folder).python == first.python
    assert home.stat().st_ino == before
    assert not device.listdir(f"{device.workdir}/wheels")
    # The first may remove what it sent just before the second opens it.
    done = installing(tmp_path / "archive.zip", home, "tflite_runtime.interpreter")
    assert (done.returncode, done.stderr) == (0, b"")
    assert home.stat().st_ino == before


@pytest.mark.parametrize("holder", ["an installation", "a benchmark"])
def test_an_installation_waits(tmp_path: Path, device_lock: Path, holder: str) -> None:
    archive, home = tmp_path / "archive.zip", tmp_path / "runtimes" / "one"
    home.parent.mkdir()
    (tmp_path / "staging").mkdir()
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("numpy/__init__.py", "")
        packed.writestr("runtime.py", "")
    device_lock.touch()
    lock = device_lock if holder == "a benchmark" else tmp_path / "runtimes.lock"
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(subprocess.TimeoutExpired):
            installing(archive, home, timeout_s=1)
        assert not any((tmp_path / "staging").iterdir())
    assert installing(archive, home).returncode == 0
    assert (home / "bin/python3").exists()


def test_a_line_that_breaks_costs_no_more_than_a_retry(
    bare: Sshd, made: Wheels, tmp_path: Path
) -> None:
    folder = small(made, weights=b"".join(bytes([i * i % 251]) for i in range(300_000)))
    with FaultProxy(bare.port) as proxy:
        name = bare.known_hosts_line().split(maxsplit=1)[1]
        bare.known_hosts.write_text(f"[127.0.0.1]:{proxy.port} {name}")
        target = devices.parse(f"ssh://{bare.user}@127.0.0.1:{proxy.port}{tmp_path / 'work'}")
        with devices.connect(target) as device:
            facts = probe(device)
        proxy.next(Link(down=Way(cut_at=6_000)))
        with pytest.raises(ConnectionFailed), devices.connect(target) as device:
            provision(device, facts, TFLITE, source=folder)
        with devices.connect(target) as device:
            assert provision(device, facts, TFLITE, source=folder).runtimes
