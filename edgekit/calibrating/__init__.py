"""Measuring small networks on a device, so that planning knows what is fast there."""

from edgekit.calibrating.session import Settings, calibrate

__all__ = ["Settings", "calibrate"]
