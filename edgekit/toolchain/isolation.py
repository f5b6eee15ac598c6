"""Calling one of edgekit's own functions in a process of its own, with limits.

Converters, quantizers and runtimes parse files that strangers wrote, and some of them
end the whole process when they fail. A call crosses the border as MessagePack, which keeps
infinities and NaN: arguments and result must be types that msgspec knows, or paths.
"""

from __future__ import annotations

import importlib
import inspect
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path, PurePath
from typing import Any, cast, get_type_hints

import msgspec

import edgekit
from edgekit import errors
from edgekit.errors import EdgekitError, ToolError
from edgekit.toolchain import process
from edgekit.toolchain.process import Limits

_MODULE = "edgekit.toolchain.isolation"


class Interpreter(msgspec.Struct, frozen=True):
    """A Python to call functions in; ``environment`` is added to this process's."""

    python: str
    environment: dict[str, str] = {}


HERE = Interpreter(sys.executable)


def call[**P, T](
    function: Callable[P, T], limits: Limits, /, *args: P.args, **kwargs: P.kwargs
) -> T:
    """Call ``function`` in a new process and return what it returns.

    Raises:
        EdgekitError: the very error the function raised.
        ToolError: it failed otherwise, crashed, or passed its limits.
    """
    return call_in(HERE, function, limits, *args, **kwargs)


def call_in[**P, T](
    interpreter: Interpreter,
    function: Callable[P, T],
    limits: Limits,
    /,
    *args: P.args,
    **kwargs: P.kwargs,
) -> T:
    """As ``call``, in a Python that may be another: it needs msgspec, NumPy and platformdirs."""
    name = name_of(function)
    bound = inspect.signature(function).bind(*args, **kwargs).arguments
    with tempfile.TemporaryDirectory(prefix="edgekit-call-") as folder:
        asked, answer_file = Path(folder) / "call", Path(folder) / "answer"
        asked.write_bytes(encoded(bound))
        # -P: what lies in the working folder is not taken for a module.
        argv = [interpreter.python, "-P", "-m", _MODULE, name, str(asked), str(answer_file)]
        environment = dict(interpreter.environment)
        if interpreter.python != HERE.python:
            environment["PYTHONPATH"] = str(_edgekit_alone(Path(folder)))
        finished = process.run(argv, what=name, limits=limits, env=environment)
        if not answer_file.is_file():
            raise ToolError(f"{name} ended without an answer", finished.said)
        return answered(function, answer_file)


def name_of(function: Callable[..., object]) -> str:
    """A function's name, by which another process finds it."""
    return f"{function.__module__}:{function.__qualname__}"


def encoded(value: object) -> bytes:
    """Arguments or a result as they cross."""
    return msgspec.msgpack.encode(value, enc_hook=_plain)


def answered[T](function: Callable[..., T], answer_file: Path) -> T:
    """What ``answer`` wrote.

    Raises:
        EdgekitError: the very error the function raised.
        ToolError: it failed otherwise.
    """
    answer = msgspec.msgpack.decode(answer_file.read_bytes())
    if fields := answer.get("error"):
        kind: type[EdgekitError] = getattr(errors, fields["type"], ToolError)
        error = kind.__new__(kind)
        EdgekitError.__init__(error, fields["message"], fields["hint"])
        raise error
    result = _converted(answer["result"], get_type_hints(function)["return"])
    return cast(T, result)


def _edgekit_alone(folder: Path) -> Path:
    """A folder with edgekit in it, and nothing else of what is installed where it lies."""
    package = folder / "path"
    package.mkdir()
    (package / "edgekit").symlink_to(Path(edgekit.__file__).parent, target_is_directory=True)
    return package


def _plain(value: Any) -> str:
    if isinstance(value, PurePath):
        return str(value)
    raise TypeError(f"{type(value).__name__} cannot cross to another process")


def _converted(value: Any, kind: Any) -> Any:
    return msgspec.convert(value, kind, dec_hook=lambda wanted, raw: wanted(raw))


def answer(name: str, asked: Path, answer_file: Path, **live: object) -> None:
    """Do a call in this process, and write what came of it.

    Args:
        name: as ``name_of`` gave it.
        asked: the ``encoded`` arguments.
        answer_file: written in one step.
        **live: arguments that did not cross.
    """
    aside = answer_file.with_name(answer_file.name + ".part")
    aside.write_bytes(encoded(_done(name, asked, live)))
    aside.rename(answer_file)


def _done(name: str, asked: Path, live: dict[str, object]) -> dict[str, Any]:
    module, _, qualname = name.partition(":")
    function = getattr(importlib.import_module(module), qualname)
    hints = get_type_hints(function)
    raw = msgspec.msgpack.decode(asked.read_bytes())
    try:
        crossed = {key: _converted(value, hints[key]) for key, value in raw.items()}
        return {"result": function(**crossed, **live)}
    except EdgekitError as error:
        fields = {"type": type(error).__name__, "message": error.message, "hint": error.hint}
        return {"error": fields}
    except Exception as error:
        traceback.print_exc()
        said = f"{type(error).__name__}: {error}"
        return {"error": {"type": "ToolError", "message": f"{name} failed", "hint": said[:2000]}}


def _main() -> None:
    name, asked, answer_file = sys.argv[1:]
    answer(name, Path(asked), Path(answer_file))


if __name__ == "__main__":
    _main()
