"""What all tests share: tools are installed once, wherever a test's HOME points."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgekit.toolchain import environments, process
from edgekit.toolchain.environments import TENSORFLOW

os.environ.setdefault("EDGEKIT_TOOLCHAIN", str(environments.home()))
# The tests start hundreds of processes: each would compile edgekit anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


@pytest.fixture(scope="session", autouse=True)
def device_lock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """This machine, as a device, is measured on by one test at a time of each pytest process."""
    with pytest.MonkeyPatch.context() as patch:
        path = tmp_path_factory.mktemp("device") / "lock"
        patch.setenv("EDGEKIT_DEVICE_LOCK", str(path))
        yield path


@pytest.fixture(scope="session")
def tensorflow_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small models of TensorFlow's kinds; whoever uses them is of the group ``tensorflow``."""
    folder = tmp_path_factory.mktemp("tensorflow")
    script = Path(__file__).with_name("tensorflow_models.py")
    argv = [str(environments.install(TENSORFLOW)), "-P", str(script), str(folder)]
    process.run([*argv, str(folder / "canary")], what=script.name, env=TENSORFLOW.environment)
    # Written while they were made; whatever runs them again writes it again.
    (folder / "canary").unlink(missing_ok=True)
    return folder
