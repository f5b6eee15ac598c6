"""Pinned tool environments: a tool whose pins no user's environment survives gets its own.

An environment is a folder named after the tool, its version and a digest of its pins.
It counts as installed when its marker is there, which is written last.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from pathlib import Path

from msgspec import Struct
from platformdirs import user_data_path

from edgekit.errors import ToolError, ToolMissing, UsageError
from edgekit.toolchain import isolation, process
from edgekit.toolchain.isolation import Interpreter
from edgekit.toolchain.process import Limits

_MARKER = "edgekit-complete"
_REASON_CHARACTERS = 300
_ENVIRONMENT = {
    # A fixed hash seed: a converter that iterates over a set still gives the same bytes.
    "PYTHONHASHSEED": "0",
    "PYTHONNOUSERSITE": "1",
    "PYTHONPATH": "",
    # Its bytecode is kept, whatever the caller keeps: a tool is started for every model.
    "PYTHONDONTWRITEBYTECODE": "",
}
_INSTALL_LIMITS = Limits(seconds=1200)


class Installer(Enum):
    """What builds an environment: uv, or pip where pip's configuration must hold."""

    UV = "uv"
    PIP = "pip"


class Tool(Struct, frozen=True, kw_only=True):
    """A pinned tool; its requirements lie beside this module as ``requirements/NAME.txt``.

    Attributes:
        module: what ``run`` runs.
        extra: modules of the extra of the tool's name: where this Python has them all,
            ``call`` needs no environment.
        environment: added to the tool's process.
    """

    name: str
    version: str
    module: str
    purpose: str
    extra: tuple[str, ...] = ()
    environment: dict[str, str] = {}

    @property
    def requirements(self) -> Path:
        return Path(__file__).parent / "requirements" / f"{self.name}.txt"

    @property
    def folder(self) -> Path:
        """Where its environment lies; another Python or another pin is another folder."""
        pins = self.requirements.read_bytes() + sysconfig.get_platform().encode()
        pins += sys.version.encode()
        key = hashlib.sha256(pins).hexdigest()[:12]
        return home() / f"{self.name}-{self.version}-{key}"

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    @property
    def installed(self) -> bool:
        return (self.folder / _MARKER).is_file() and self.python.exists()


ONNX2TF = Tool(
    name="onnx2tf", version="2.6.9", module="onnx2tf", purpose="converts ONNX to LiteRT (.tflite)"
)
TENSORFLOW = Tool(
    name="tensorflow",
    version="2.21.0",
    module="tf2onnx.convert",
    purpose="reads Keras, SavedModel and .tflite files",
    extra=("tensorflow", "keras", "tf_keras", "tf2onnx"),
    environment={
        "CUDA_VISIBLE_DEVICES": "",
        "KERAS_BACKEND": "tensorflow",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "TF_ENABLE_ONEDNN_OPTS": "0",
    },
)
TOOLS = {tool.name: tool for tool in (ONNX2TF, TENSORFLOW)}


def home() -> Path:
    """The folder of all environments: ``EDGEKIT_TOOLCHAIN``, or the user's data folder."""
    chosen = os.environ.get("EDGEKIT_TOOLCHAIN")
    return Path(chosen) if chosen else user_data_path("edgekit") / "toolchain"


def find(name: str) -> Tool:
    """The tool of that name.

    Raises:
        UsageError: there is no such tool.
    """
    try:
        return TOOLS[name]
    except KeyError as error:
        raise UsageError(f"no tool is named {name!r}", f"known: {', '.join(TOOLS)}") from error


def install(tool: Tool, *, installer: Installer | None = None, wheels: Path | None = None) -> Path:
    """Build a tool's environment unless it is there; return its Python.

    Args:
        tool: which one.
        installer: ``None``: pip when pip's configuration names an index, else uv.
        wheels: a folder of wheels to install from, without any network.

    Raises:
        ToolMissing: it could not be built; nothing half-built counts as installed.
    """
    if tool.installed:
        return tool.python
    with _locked(tool.folder):
        if not tool.installed:
            chosen = installer or _configured_installer()
            shutil.rmtree(tool.folder, ignore_errors=True)
            try:
                for command in _COMMANDS[chosen](tool, wheels):
                    process.run(command, what=f"installing {tool.name}", limits=_INSTALL_LIMITS)
            except ToolError as error:
                shutil.rmtree(tool.folder, ignore_errors=True)
                raise ToolMissing(
                    f"the environment of {tool.name} {tool.version} could not be built "
                    f"with {chosen.value}: {_reason(error)}",
                    f"where there is a network, `edgekit toolchain install {tool.name}` prepares "
                    "it ahead of time; without one, `--wheels FOLDER` installs from wheels",
                ) from error
            (tool.folder / _MARKER).touch()
    return tool.python


def run(tool: Tool, arguments: Sequence[str], *, limits: Limits | None = None) -> None:
    """Run a tool in its environment, building that first.

    Raises:
        ToolError: the tool failed, crashed, passed its limits, or could not be installed.
    """
    # -P and no PYTHONPATH: the tool meets the modules of its environment only.
    argv = [str(install(tool)), "-P", "-m", tool.module, *arguments]
    process.run(argv, what=f"{tool.name} {tool.version}", limits=limits, env=_environment(tool))


def call[**P, T](
    tool: Tool, function: Callable[P, T], limits: Limits, /, *args: P.args, **kwargs: P.kwargs
) -> T:
    """Call a function of edgekit's beside a tool's modules, building its environment first.

    Raises:
        EdgekitError: the very error the function raised.
        ToolError: it failed otherwise, crashed, passed its limits, or the tool could not
            be installed.
    """
    if _here(tool):
        interpreter = Interpreter(sys.executable, tool.environment)
    else:
        interpreter = Interpreter(str(install(tool)), _environment(tool))
    return isolation.call_in(interpreter, function, limits, *args, **kwargs)


def ready(tool: Tool) -> bool:
    """Whether a tool can be called without building anything."""
    return tool.installed or _here(tool)


def _here(tool: Tool) -> bool:
    """Whether this very Python has the tool's extra; nothing is imported to see that."""
    return bool(tool.extra) and all(importlib.util.find_spec(name) for name in tool.extra)


def _environment(tool: Tool) -> dict[str, str]:
    return {**_ENVIRONMENT, **tool.environment}


def run_script(tool: Tool, script: Path, *arguments: str, limits: Limits | None = None) -> None:
    """Run a script by the Python of a tool's environment, building that first.

    Raises:
        ToolError: the script failed, crashed, passed its limits, or the tool could not be
            installed.
    """
    argv = [str(install(tool)), "-P", str(script), *arguments]
    what = f"{script.stem} with {tool.name} {tool.version}"
    process.run(argv, what=what, limits=limits, env=_ENVIRONMENT)


def _uv_commands(tool: Tool, wheels: Path | None) -> Iterator[list[str]]:
    import uv  # here: within an environment, where this module is imported too, it is not

    uv_bin = str(uv.find_uv_bin())
    yield [uv_bin, "venv", "--quiet", "--python", sys.executable, str(tool.folder)]
    source = ["--no-index", "--find-links", str(wheels)] if wheels else []
    into = ["--python", str(tool.python)]
    yield [uv_bin, "pip", "install", "--quiet", *into, *source, "-r", str(tool.requirements)]


def _pip_commands(tool: Tool, wheels: Path | None) -> Iterator[list[str]]:
    yield [sys.executable, "-I", "-m", "venv", str(tool.folder)]
    source = ["--no-index", "--find-links", str(wheels)] if wheels else []
    pip = [str(tool.python), "-m", "pip", "install", "--quiet", "--no-deps"]
    yield [*pip, *source, "-r", str(tool.requirements)]


_COMMANDS = {Installer.UV: _uv_commands, Installer.PIP: _pip_commands}


def _configured_installer() -> Installer:
    """Pip where a pip configuration names an index that uv would not know of."""
    if chosen := os.environ.get("EDGEKIT_INSTALLER"):
        try:
            return Installer(chosen)
        except ValueError as error:
            raise UsageError(f"EDGEKIT_INSTALLER is {chosen!r}", "expected uv or pip") from error
    if any(os.environ.get(name) for name in ("UV_INDEX", "UV_DEFAULT_INDEX", "UV_INDEX_URL")):
        return Installer.UV
    asked = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(asked, capture_output=True, text=True, check=False, timeout=60)
    keys = [line.partition("=")[0] for line in listed.stdout.splitlines()]
    own_index = any(key.endswith((".index-url", ".no-index")) for key in keys)
    return Installer.PIP if own_index else Installer.UV


def _reason(error: ToolError) -> str:
    """The end of what a tool said, on one line (uv wraps its own), or how it ended."""
    said = " ".join(error.hint.split())
    return said[-_REASON_CHARACTERS:] if said else error.message


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One builder at a time; the lock lies beside the folder and outlives it."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = folder.with_name(folder.name + ".lock").open("w")
    except OSError as error:
        raise ToolMissing(
            f"cannot write to {folder.parent}: {error.strerror}",
            "set EDGEKIT_TOOLCHAIN to a folder you may write",
        ) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
