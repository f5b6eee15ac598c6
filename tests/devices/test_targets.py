"""The names of targets, good and bad."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit import devices
from edgekit.domain import Target
from edgekit.errors import UsageError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("local", Target(transport="local")),
        ("local:/opt/edge kit", Target(transport="local", workdir="/opt/edge kit")),
        ("ssh://pi", Target(transport="ssh", host="pi")),
        ("ssh://pi@raspberry", Target(transport="ssh", host="raspberry", user="pi")),
        ("ssh://raspberry:2222", Target(transport="ssh", host="raspberry", port=2222)),
        (
            "ssh://a.b@h-1.example:1/var/my work",
            Target(transport="ssh", host="h-1.example", port=1, user="a.b", workdir="/var/my work"),
        ),
        ("ssh://h/~/edge", Target(transport="ssh", host="h", workdir="/~/edge")),
        ("openssh://board/w", Target(transport="openssh", host="board", workdir="/w")),
        ("adb://", Target(transport="adb")),
        ("adb://R58M1234ABC", Target(transport="adb", host="R58M1234ABC")),
        (
            "adb://192.168.1.7:5555/data/local/tmp/my work",
            Target(transport="adb", host="192.168.1.7:5555", workdir="/data/local/tmp/my work"),
        ),
        ("ssh://[::1]", Target(transport="ssh", host="::1")),
        (
            "ssh://pi@[fe80::1%eth0]:22/w",
            Target(transport="ssh", host="fe80::1%eth0", port=22, user="pi", workdir="/w"),
        ),
    ],
)
def test_a_name_is_read_and_written_back(text: str, expected: Target) -> None:
    assert devices.parse(text) == expected
    assert str(devices.parse(text)) == text


def test_a_trailing_slash_says_nothing() -> None:
    assert devices.parse("ssh://h/") == devices.parse("ssh://h")
    assert devices.parse("ssh://h/w/") == devices.parse("ssh://h/w")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "not a target"),
        ("raspberry", "not a target"),
        ("http://h", "not a target"),
        ("SSH://h", "not a target"),
        ("local:", "absolute folder"),
        ("local:relative", "absolute folder"),
        ("ssh://", "expected a host"),
        ("ssh:///w", "expected a host"),
        ("ssh://@h", "expected a user"),
        ("ssh://-oProxyCommand=x", "expected a host"),
        ("ssh://pi@-h", "expected a host"),
        ("ssh://-l@h", "expected a user"),
        ("ssh://a b", "expected a host"),
        ("ssh://h:", "expected a port"),
        ("ssh://h:0", "expected a port"),
        ("ssh://h:65536", "expected a port"),
        ("ssh://h:22x", "expected a port"),
        ("ssh://h:²", "expected a port"),
        ("ssh://::1", "not a target"),
        ("ssh://[::1", "not a target"),
        ("ssh://[]", "IPv6"),
        ("ssh://[1.2.3.4]", "IPv6"),
        ("ssh://[::1]x", "not a target"),
        ("ssh://h/~root/x", "/~/folder"),
        ("ssh://h\nx", "control character"),
        ("ssh://h/\x1b[2J", "control character"),
        ("ssh://h/a\0b", "control character"),
        ("local:/a\rb", "control character"),
        ("adb://-s", "not a target"),
        ("adb://a b", "not a target"),
        ("adb:", "not a target"),
    ],
)
def test_what_is_no_target_is_refused(text: str, named: str) -> None:
    with pytest.raises(UsageError, match=named) as caught:
        devices.parse(text)
    assert "ssh://pi@raspberrypi" in caught.value.hint
    assert caught.value.message.isprintable()


@pytest.mark.parametrize("text", ["ssh://pi:s3cret@h", "ssh://pi:s3@cret@h", "ssh://pi:s3cret@h:x"])
def test_a_password_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        devices.parse(text)
    assert "s3" not in str(caught.value)


@given(st.text(max_size=40).map(lambda rest: "ssh://" + rest))
def test_anything_is_read_or_refused(text: str) -> None:
    try:
        target = devices.parse(text)
    except UsageError:
        return
    assert not target.host.startswith("-")
    assert devices.parse(str(target)) == target


def test_an_unknown_transport_is_named() -> None:
    with (
        pytest.raises(UsageError, match=r"'serial'.*local, ssh"),
        devices.connect(Target(transport="serial")),
    ):
        pass


def test_paramiko_is_not_imported_for_nothing() -> None:
    script = (
        "import sys, edgekit.devices as d, edgekit.devices.push, edgekit.devices.probe\n"
        "with d.connect(d.parse('local')): pass\n"
        "sys.exit('paramiko' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
