"""The devices' servers and networks, for the faults that take long."""

from __future__ import annotations

from tests.devices.conftest import home, local, proxy, ssh, sshd, target, work

__all__ = ["home", "local", "proxy", "ssh", "sshd", "target", "work"]
