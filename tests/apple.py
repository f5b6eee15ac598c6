"""A Mac with Xcode, and an iPhone attached to it, as far as edgekit can tell."""

from __future__ import annotations

import json
import os
import stat
import sys
from pathlib import Path
from typing import Any

from tests import apple_tools

PHONE: dict[str, Any] = {
    "capabilities": [
        {
            "featureIdentifier": "com.apple.coredevice.feature.launchapplication",
            "name": "Launch Application",
        }
    ],
    "connectionProperties": {
        "pairingState": "paired",
        "transportType": "wired",
        "tunnelState": "connected",
    },
    "deviceProperties": {
        "bootState": "booted",
        "ddiServicesAvailable": True,
        "developerModeStatus": "enabled",
        "name": "A phone's name",
        "osBuildUpdate": "21E236",
        "osVersionNumber": "17.4.1",
    },
    "hardwareProperties": {
        "deviceType": "iPhone",
        "marketingName": "iPhone 15 Pro",
        "platform": "iOS",
        "productType": "iPhone16,1",
        "reality": "physical",
        "udid": "00008130-001C",
    },
    "identifier": "7A2B1F5E-0C5E-5E6C-9A5A-000000000001",
    "visibilityClass": "default",
}
"""As ``devicectl list devices --json-output`` has it (Xcode 15.3, jsonVersion 2), shortened."""

TOOLS = ("xcrun", "sw_vers", "security", "codesign")


class Mac:
    """Xcode's tools in a folder of their own; what they do can be changed.

    Args:
        folder: takes the tools; put it first on the PATH.
        home: the home folder of who measures there.
    """

    def __init__(self, folder: Path, home: Path) -> None:
        self.folder = folder
        folder.mkdir()
        root = Path(apple_tools.__file__).parents[1]
        starter = (
            f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(root)!r})\n"
            "from tests import apple_tools\nsys.exit(apple_tools.main(sys.argv))\n"
        )
        # Xcode brings a Python, and no NumPy.
        python = f'#!/bin/sh\nexec {sys.executable} -S "$@"\n'
        tools = dict.fromkeys(TOOLS, starter) | dict.fromkeys(("python3", "python"), python)
        for name, script in tools.items():
            (folder / name).write_text(script)
            (folder / name).chmod(stat.S_IRWXU)
        profiles = home / "Library" / "MobileDevice" / "Provisioning Profiles"
        profiles.mkdir(parents=True)
        (profiles / "team.mobileprovision").write_bytes(b"signed")
        self.set(devices=[PHONE])

    @property
    def path(self) -> str:
        return f"{self.folder}{os.pathsep}{os.environ['PATH']}"

    def set(self, **state: Any) -> None:
        """Change what the tools do; see ``STATE`` there."""
        kept = self.folder / "state.json"
        before = json.loads(kept.read_text()) if kept.exists() else {}
        kept.write_text(json.dumps(before | state))

    def called(self, *beginning: str) -> list[list[str]]:
        """Every call of a tool that began so, in order."""
        log = self.folder / "calls.jsonl"
        calls = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
        return [call for call in calls if call[: len(beginning)] == list(beginning)]


def phone(**properties: dict[str, Any]) -> dict[str, Any]:
    """An attached iPhone that differs in some of its properties."""
    return {**PHONE, **{name: PHONE[name] | change for name, change in properties.items()}}
