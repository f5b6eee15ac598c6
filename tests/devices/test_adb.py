"""What an adb server may answer, and that there is none; the lab has a real one with a device."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from threading import Thread

import pytest

from edgekit import devices
from edgekit.errors import ConnectionFailed, ConnectionLost

Serving = Callable[[list[bytes]], None]


@pytest.fixture
def serving(monkeypatch: pytest.MonkeyPatch) -> Iterator[Serving]:
    """A server that says these things, each to a connection of its own, and hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(listener.getsockname()[1]))

        def serve(answers: list[bytes]) -> None:
            def work() -> None:
                for answer in answers:
                    client, _ = listener.accept()
                    with client:
                        client.recv(4096)
                        client.sendall(answer)

            Thread(target=work, daemon=True).start()

        yield serve


def connect(serial: str = "R58M") -> None:
    with devices.connect(devices.parse(f"adb://{serial}"), timeout_s=1) as transport:
        transport.run(["true"])


def failing(why: str) -> bytes:
    return f"FAIL{len(why):04x}{why}".encode()


def text(said: str) -> bytes:
    return f"OKAY{len(said):04x}{said}".encode()


@pytest.mark.parametrize(
    ("why", "hint"),
    [
        ("device unauthorized.\nThis adb server's $ADB_VENDOR_KEYS is not set", "on its screen"),
        ("device offline", "plug it in again"),
        ("device 'R58M' not found", "adb devices"),
        ("more than one device/emulator", ""),
        ("\x1b[31mred", ""),
    ],
)
def test_what_the_server_says_is_told_with_what_to_do(
    serving: Serving, why: str, hint: str
) -> None:
    serving([failing(why)])
    with pytest.raises(ConnectionFailed, match="adb says") as caught:
        connect()
    assert hint in caught.value.hint
    assert caught.value.message.isprintable()


@pytest.mark.parametrize(
    "answer", [b"", b"OK", b"HTTP/1.1 400 Bad\r\n", b"OKAYzzzz", b"FAIL", b"FAILffffshort"]
)
def test_nonsense_is_a_typed_error(serving: Serving, answer: bytes) -> None:
    serving([answer])
    with pytest.raises(ConnectionFailed, match="adb"):
        connect()


def test_a_server_that_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(listener.getsockname()[1]))
        started = time.monotonic()
        with pytest.raises(ConnectionLost, match="no answer in time"):
            connect()
        assert time.monotonic() - started < 10


def test_an_android_before_7(serving: Serving) -> None:
    serving([text("cmd,stat_v2")])
    with pytest.raises(ConnectionFailed, match="does not tell how a command ended"):
        connect()


def test_a_device_that_goes_while_a_command_runs(serving: Serving) -> None:
    serving([text("cmd,shell_v2"), b"OKAYOKAY\x01\x05\x00\x00\x00hello"])
    with pytest.raises(ConnectionLost, match="connection was lost"):
        connect()


def test_a_packet_that_is_too_large_is_no_packet(serving: Serving) -> None:
    serving([text("shell_v2"), b"OKAYOKAY\x01\xff\xff\xff\xff"])
    with pytest.raises(ConnectionLost, match="connection was lost"):
        connect()


def test_no_server_and_no_adb(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(port))
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ConnectionFailed, match="no adb on this machine") as caught:
        connect()
    assert "platform-tools" in caught.value.hint
