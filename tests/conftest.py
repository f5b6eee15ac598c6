"""What all tests share: tools are installed once, wherever a test's HOME points."""

from __future__ import annotations

import os

from edgekit.toolchain import environments

os.environ.setdefault("EDGEKIT_TOOLCHAIN", str(environments.home()))
