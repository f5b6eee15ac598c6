"""Probing: what answers, what does not, and which interpreter is chosen."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import msgspec
import pytest

from edgekit import devices, resources
from edgekit.devices.local import LocalTransport
from edgekit.devices.probe import choose, probe
from edgekit.devices.transport import Transport
from edgekit.domain import DeviceFacts, DeviceRuntimeFound
from edgekit.errors import BundleError, DeviceRuntimeMissing, RunnerFailed
from tests.sshd import Sshd, why_not

PYTHON = Path(sys.executable)


@pytest.fixture
def bin_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The whole PATH of the local device, which knows of no interpreter beside it."""
    monkeypatch.setattr(LocalTransport, "pythons", ())
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def script(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def fake(path: Path, facts: bytes | dict[str, object], status: int = 0) -> None:
    """An interpreter that says ``facts`` for whatever the runner asks."""
    said = facts if isinstance(facts, bytes) else json.dumps(facts).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_name("said").write_bytes(said)
    script(
        path,
        f'#!/bin/sh\n[ "$1" = -c ] && {{ echo \'["{path}", "x"]\'; exit; }}\n'
        f'read line; while IFS= read -r l || [ -n "$l" ]; do printf \'%s\\n\' "$l"; done'
        f" < {path.with_name('said')}\nexit {status}\n",
    )


FACTS: dict[str, object] = {
    "event": "facts",
    "python": "/usr/bin/python3",
    "python_version": "3.11.2",
    "numpy_version": "1.26.4",
    "system": "Linux",
    "machine": "aarch64",
    "libc": "glibc 2.36",
    "cpu_model": "Cortex-A76",
    "cores": 4,
    "memory_total_bytes": 4 << 30,
    "runtimes": [{"name": "tflite-runtime", "module": "tflite_runtime", "version": "2.14.0"}],
    "from_the_future": 1,
}


def test_the_real_runner_tells_the_facts(local: Transport) -> None:
    if not resources.runner().is_file():
        pytest.skip("the runner is not there")
    found = probe(local, python=str(PYTHON))
    assert found[0].python_version == ".".join(map(str, sys.version_info[:3]))
    assert found[0].numpy_version
    assert found[0].cores > 0
    assert "onnxruntime" in {runtime.module for runtime in found[0].runtimes}
    assert len(found[0].fingerprint) == 64


def test_a_device_over_ssh(tmp_path: Path, home: Path) -> None:
    if reason := why_not():
        pytest.skip(reason)
    path_env = f"{PYTHON.parent}:/usr/bin:/bin"
    with Sshd(tmp_path / "sshd", home, path_env=path_env) as server:
        server.accept()
        script(server.device_home / ".bashrc", "echo welcome; echo 'to the board' >&2\n")
        target = devices.parse(f"{server.url}{tmp_path / 'work'}")
        with devices.connect(target) as transport:
            [first, *_] = probe(transport)
    assert Path(first.python).parent == PYTHON.parent


def test_each_interpreter_is_asked_once_and_in_order(local: Transport, bin_folder: Path) -> None:
    runtime = Path(local.workdir) / "runtimes" / "litert-2.1" / "bin" / "python3"
    fake(runtime, {**FACTS, "python": "provisioned"})
    fake(bin_folder / "python3", {**FACTS, "python": "on the path"})
    (bin_folder / "python").symlink_to(bin_folder / "python3")
    given = bin_folder / "given" / "python3"
    fake(given, {**FACTS, "python": "given"})
    (Path(local.workdir) / "runtimes" / "broken").mkdir()
    found = [fact.python for fact in probe(local, python=str(given))]
    assert found == ["given", "provisioned", "on the path"]


def test_an_environment_is_not_the_interpreter_it_links_to(
    local: Transport, bin_folder: Path, tmp_path: Path
) -> None:
    base = Path(sys.executable).resolve()
    environment = tmp_path / "environment"
    (environment / "bin").mkdir(parents=True)
    (environment / "bin" / "python3").symlink_to(base)
    (environment / "pyvenv.cfg").write_text(f"home = {base.parent}\n")
    (bin_folder / "python3").symlink_to(base)
    (bin_folder / "python").symlink_to("python3")
    assert len(probe(local, python=str(environment / "bin" / "python3"))) == 2


def test_a_device_without_python(local: Transport, bin_folder: Path) -> None:
    assert probe(local) == ()
    with pytest.raises(DeviceRuntimeMissing, match="has no Python"):
        choose((), {"onnxruntime": ">=1.17"})


def test_this_machine_offers_edgekits_own_interpreter(local: Transport) -> None:
    assert probe(local)[0].python == sys.executable


def test_a_named_interpreter_must_be_one(local: Transport) -> None:
    with pytest.raises(RunnerFailed, match="/no/such/python is not a Python"):
        probe(local, python="/no/such/python")


@pytest.mark.parametrize(
    ("said", "status", "named"),
    [
        (b"", 0, "make no sense"),
        (b"\xff\xfe\x00", 0, "make no sense"),
        (b"[1, 2]", 0, "make no sense"),
        (b'{"event": "facts"}', 0, "make no sense"),
        (b'{"event": "sample"}', 0, "something else"),
        (b"[" * 100_000, 0, "make no sense"),
        (json.dumps({**FACTS, "cores": "many"}).encode(), 0, "make no sense"),
        (json.dumps(FACTS).encode(), 3, "ended with status 3"),
    ],
)
def test_nonsense_is_a_typed_error(
    local: Transport, bin_folder: Path, said: bytes, status: int, named: str
) -> None:
    fake(bin_folder / "python3", said, status)
    with pytest.raises(RunnerFailed, match=named):
        probe(local)


def test_what_a_device_says_is_disarmed(local: Transport, bin_folder: Path) -> None:
    model = "\x1b[31mevil\x1b]0;title\x07\x1b[0m\r\n" + "x" * 1_000_000
    fake(bin_folder / "python3", b"noise\n" + json.dumps({**FACTS, "cpu_model": model}).encode())
    [facts] = probe(local)
    assert facts.cpu_model.isprintable()
    assert len(facts.cpu_model) <= 4000


def device_facts(python: str, numpy: str | None = "2.1.0", **runtimes: str) -> DeviceFacts:
    found = tuple(
        DeviceRuntimeFound(name=module, module=module, version=version)
        for module, version in runtimes.items()
    )
    base = msgspec.convert(FACTS, DeviceFacts)
    return msgspec.structs.replace(base, python=python, numpy_version=numpy, runtimes=found)


def litert(versions: str) -> dict[str, str]:
    return {"ai_edge_litert": versions, "tflite_runtime": versions}


def test_the_first_interpreter_that_will_do_is_chosen() -> None:
    facts = (
        device_facts("/no-numpy", None, ai_edge_litert="2.3.0"),
        device_facts("/too-old", tflite_runtime="2.0.0"),
        device_facts("/both", tflite_runtime="2.14.0", ai_edge_litert="2.1.0rc1"),
        device_facts("/later", ai_edge_litert="2.3.0"),
    )
    chosen, runtime = choose(facts, litert(">=2.1.0a1,<3"))
    assert (chosen.python, runtime.module, runtime.version) == (
        "/both",
        "ai_edge_litert",
        "2.1.0rc1",
    )


def test_what_there_is_and_what_is_needed_are_said() -> None:
    facts = (
        device_facts("/usr/bin/python3", None, tflite_runtime="2.14.0"),
        device_facts("/opt/python", ai_edge_litert="1.0", onnxruntime="not a version"),
    )
    with pytest.raises(DeviceRuntimeMissing) as caught:
        choose(facts, litert(">=2.1,<3"))
    for said in (
        "/usr/bin/python3 (3.11.2): no NumPy, tflite_runtime 2.14.0",
        "/opt/python (3.11.2): NumPy 2.1.0, ai_edge_litert 1.0, onnxruntime not a version",
        "ai-edge-litert >=2.1,<3 or tflite-runtime >=2.1,<3",
    ):
        assert said in caught.value.message
    assert "/usr/bin/python3 -m pip install numpy 'ai-edge-litert>=2.1,<3'" in caught.value.hint


def test_a_specifier_that_is_none_is_the_bundles_fault() -> None:
    with pytest.raises(BundleError, match="'newest'"):
        choose((), litert("newest"))
