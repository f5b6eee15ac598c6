"""A repository with a project that is built, and a clone of it as a runner has one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

import edgekit as ek
from tests import projects
from tests.ci import runner

RED = "[[budgets]]\nmax_size_mb = 0.01\n"


def git(folder: Path, *words: str) -> None:
    author = ("-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "commit.gpgsign=false")
    env = {"PATH": os.environ["PATH"], "HOME": str(folder), "GIT_CONFIG_NOSYSTEM": "1"}
    subprocess.run(["git", *author, *words], cwd=folder, env=env, check=True, capture_output=True)


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project after ``edgekit build``; its user is of the group ``ci``."""
    folder = tmp_path_factory.mktemp("ci") / "project"
    made = ek.build_project(ek.load_project(projects.make(folder, "digits")))
    assert not made.failures
    shutil.rmtree(folder / "build")
    return folder


@pytest.fixture
def origin(built: Path, tmp_path: Path) -> Path:
    """The repository: the project is in the folder ``app`` of its main branch."""
    folder = tmp_path / "origin"
    shutil.copytree(built, folder / "app")
    git(folder, "init", "-q", "-b", "main")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "models")
    return folder


@pytest.fixture
def checkout(origin: Path, tmp_path: Path) -> Path:
    """What a runner clones."""
    git(tmp_path, "clone", "-q", "--depth=1", origin.as_uri(), "checkout")
    return tmp_path / "checkout"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return runner.tools(tmp_path / "bin")


def commit(folder: Path) -> None:
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "change")


def smaller_before(folder: Path, share: float) -> None:
    """Have the lock say that the model was smaller: what is checked out then is larger."""
    lock = folder / "edgekit.lock"
    told = json.loads(lock.read_text())
    for bundle in told["bundles"].values():
        bundle["size_bytes"] = int(bundle["size_bytes"] * share)
    lock.write_text(json.dumps(told))
