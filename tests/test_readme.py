"""The README tells the truth: its commands parse, its list of commands is the real one."""

from __future__ import annotations

import re
import shlex

import pytest

from edgekit import profiles
from edgekit.cli.arguments import parser
from tests.paths import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^\$ (edgekit (?:.*\\\n)*.*)$", README, re.MULTILINE)


def test_there_are_commands() -> None:
    assert len(COMMANDS) >= 3


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_one(command: str) -> None:
    words = shlex.split(command.replace("\\\n", " "))
    parser().parse_args(words[1:])


def test_the_list_of_commands_is_what_help_says() -> None:
    shown = parser().format_help()
    listed = shown[shown.index("  COMMAND") : shown.index("options:")].strip("\n")
    assert listed.rstrip() in README


def test_the_number_of_devices_is_right() -> None:
    (told,) = re.findall(r"lists the (\d+) that are known", README)
    assert (
        int(told) == len(list((ROOT / "device_profiles").glob("*.toml"))) <= len(profiles.names())
    )


def test_the_two_commands_come_first() -> None:
    first = README[README.index("```") :]
    assert first.startswith("```\nmake demo")
    assert "\nmake test" in first[: first.index("```", 3)]
