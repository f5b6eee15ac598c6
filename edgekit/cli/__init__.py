"""The command line: arguments, progress, exit codes; the only place that prints or exits."""

from __future__ import annotations

import os
import signal
import sys

from edgekit.cli.arguments import is_about_a_project, parse
from edgekit.errors import EdgekitError, SystemRefused, Unexpected

TYPE_CHECKING = False  # not typing's own: see ``arguments``
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Sequence

    from rich.console import RenderableType

INTERRUPTED = 130
TERMINATED = 143


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code.

    0: done. 1: a check or gate failed. 2: bad input or usage. 3: the device or the
    connection failed. 4: a tool failed.
    """
    _tidy_up_when_ended()
    words = list(sys.argv[1:] if argv is None else argv)
    as_json, verbose = "--json" in words, "--verbose" in words
    try:
        arguments = parse(words)
        from edgekit.cli.progress import log

        log(verbose=verbose)
        document, render, code = _run(arguments)
        if as_json:
            _print_json(document)
        else:
            from edgekit.report import layout

            layout.show(render())
        return code
    except EdgekitError as error:
        if verbose:
            _traceback()
        _report(error, as_json=as_json)
        return error.exit_code
    except BrokenPipeError:
        # Whoever read our output has gone: nothing more can be said, and it is no failure.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        if verbose:
            _traceback()
        _report(SystemRefused(error), as_json=as_json)
        return SystemRefused.exit_code
    except Exception as error:
        _traceback()
        _report(Unexpected(error), as_json=as_json)
        return Unexpected.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return INTERRUPTED
    return 0


def _run(arguments: Namespace) -> tuple[object, Callable[[], RenderableType], int]:
    """A command's document, how a person is shown it, and the exit code."""
    if is_about_a_project(arguments):
        from edgekit.cli import projects

        return projects.COMMANDS[arguments.command](arguments)
    from edgekit.cli import commands

    document, render = commands.COMMANDS[arguments.command](arguments)
    return document, render, int(document.get("exit_code", 0))


def _tidy_up_when_ended() -> None:
    """Ended by someone, edgekit tidies up as on Ctrl-C; what nohup ignores stays ignored."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda *_: sys.exit(TERMINATED))


def _report(error: EdgekitError, *, as_json: bool) -> None:
    if as_json:
        from edgekit.report import documents

        _print_json(documents.error(error))
        return
    # Messages quote files and devices.
    from edgekit.report.text import printable

    sys.stderr.write(f"error: {printable(error.message)}\n")
    if error.hint:
        sys.stderr.write(f"hint: {printable(error.hint)}\n")


def _traceback() -> None:
    import traceback

    traceback.print_exc()


def _print_json(document: object) -> None:
    import json

    sys.stdout.write(json.dumps(document, indent=2, allow_nan=False) + "\n")
