"""A runner as far as a shell sees it: the steps of an action or a job, and the variables set."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from msgspec import Struct

from tests.paths import ROOT

_EXPRESSION = re.compile(r"\$\{\{\s*(.+?)\s*\}\}")


class Ran(Struct, frozen=True):
    """What a job left behind."""

    code: int
    said: str
    files: dict[str, str]


def tools(folder: Path) -> Path:
    """A folder for the PATH in which ``edgekit`` is the one of this repository."""
    folder.mkdir(exist_ok=True)
    program = folder / "edgekit"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m edgekit "$@"\n')
    program.chmod(0o755)
    return folder


def _shell(script: str, folder: Path, env: dict[str, str]) -> tuple[int, str]:
    """As both runners start it: it ends at the first command that fails."""
    base = {name: os.environ[name] for name in ("PATH", "HOME")}
    base["PYTHONPATH"] = str(ROOT)
    argv = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script]
    done = subprocess.run(
        argv,
        cwd=folder,
        env=base | env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stdout


class GitHub:
    """GitHub's runner over a checkout.

    Args:
        scratch: for what the runner keeps beside the checkout.
        path: put before the PATH.
    """

    def __init__(self, scratch: Path, path: Path) -> None:
        self._scratch, self._path = scratch, path
        scratch.mkdir()

    def run(self, checkout: Path, base: str = "", **inputs: str) -> Ran:
        """Every step of the action, until one fails; a pull request where there is a base."""
        action = yaml.safe_load((ROOT / "action.yml").read_text())
        context = {"github.base_ref": base}
        given = {name: _filled(d["default"], context) for name, d in action["inputs"].items()}
        assert inputs.keys() <= given.keys()
        context |= {f"inputs.{name}": value for name, value in (given | inputs).items()}
        summary, output = self._scratch / "summary.md", self._scratch / "output"
        files = {"GITHUB_STEP_SUMMARY": str(summary), "GITHUB_OUTPUT": str(output)}
        env = {
            **files,
            "PATH": f"{self._path}:{os.environ['PATH']}",
            "RUNNER_TEMP": str(self._scratch),
            "GITHUB_WORKSPACE": str(checkout),
            "GITHUB_ACTION_PATH": str(ROOT),
            "GITHUB_BASE_REF": base,
            "CI": "true",
        }
        code, said = 0, ""
        for path in (summary, output):
            path.write_text("")
        for step in action["runs"]["steps"]:
            if "if" in step and not _holds(step["if"], context):
                continue
            assert step["shell"] == "bash"
            own = {name: _filled(text, context) for name, text in step["env"].items()}
            code, more = _shell(_filled(step["run"], context), checkout, env | own)
            said += more
            if code:
                break
        left = {"summary": summary.read_text(), "output": output.read_text()}
        return Ran(code, said, left)


def _filled(text: str, context: dict[str, str]) -> str:
    return _EXPRESSION.sub(lambda found: context[found[1]], str(text))


def _holds(condition: str, context: dict[str, str]) -> bool:
    name, other = condition.split(" != ")
    return context[name] != other.strip("'")


def gitlab(checkout: Path, path: Path, target: str = "") -> Ran:
    """The job of the example, over a checkout; a merge request where there is a target."""
    pipeline = yaml.safe_load((ROOT / "examples" / "ci" / "gitlab-ci.yml").read_text())
    job: dict[str, Any] = pipeline["edgekit-check"]
    # edgekit is there; installing it is pip's business.
    script = "\n".join(job["script"])
    env = {
        **{name: str(value) for name, value in job["variables"].items()},
        "PATH": f"{path}:{os.environ['PATH']}",
        "CI_PROJECT_DIR": str(checkout),
        **({"CI_MERGE_REQUEST_TARGET_BRANCH_NAME": target} if target else {}),
    }
    code, said = _shell(script, checkout, env)
    kept = [*job["artifacts"]["paths"], job["artifacts"]["reports"]["junit"]]
    assert job["artifacts"]["when"] == "always"
    return Ran(code, said, {name: (checkout / name).read_text() for name in kept})
