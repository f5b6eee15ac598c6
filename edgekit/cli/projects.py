"""The commands about a whole project, ``edgekit.toml``; nothing heavy unless there is work."""

from __future__ import annotations

import tempfile
from argparse import Namespace
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit import gate, project_build, store
from edgekit.cli.progress import rows, stages
from edgekit.errors import UsageError
from edgekit.project import load_project
from edgekit.report import check_formats
from edgekit.report import project as told

if TYPE_CHECKING:
    from rich.console import RenderableType

Output = tuple[dict[str, Any], Callable[[], "RenderableType"], int]
"""As that of the other commands, with the exit code."""


def init(arguments: Namespace) -> Output:
    """``edgekit init``."""
    from rich.text import Text

    from edgekit import pipeline, profiles, starter
    from edgekit.cli.shapes import shapes

    devices = tuple(arguments.device) or ("raspberry-pi-5",)
    for name in devices:
        profiles.find(name)
    fixed = shapes(arguments.shape)
    summary = pipeline.summarise(
        arguments.model, fixed, trust=arguments.trust, cache=store.default_root()
    )
    made = starter.Starter(
        summary=summary,
        source=arguments.model,
        devices=devices,
        shapes=fixed,
        calibration=arguments.calibration,
        evaluation=arguments.evaluate,
        schema=arguments.schema,
    )
    written = [str(path) for path in starter.write(made, arguments.output or starter.DESTINATION)]
    said = f"{' and '.join(written)} written: `edgekit build` builds what it declares."
    return {"written": written}, partial(Text, said), 0


def build(arguments: Namespace) -> Output:
    """``edgekit build`` without a model."""
    project = load_project(arguments.project)
    with ExitStack() as stack:
        on_row = stack.enter_context(rows("bundle"))
        cache = store.default_root()
        if arguments.no_cache:
            cache = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edgekit-")))
        made = project_build.build_project(
            project,
            arguments.output,
            locked=arguments.locked,
            jobs=arguments.jobs,
            cache=cache,
            on_row=on_row,
        )
    return told.built(made), partial(told.shown_build, made), made.exit_code


def verify(arguments: Namespace) -> Output:
    """``edgekit verify --rebuild``."""
    if not arguments.rebuild:
        raise UsageError("there is no bundle to verify", "name one, or build again with --rebuild")
    with stages() as on_stage:
        found = project_build.rebuild(load_project(arguments.project), on_stage=on_stage)
    return told.rebuilt(found), partial(told.shown_rebuild, found), int(any(found.values()))


def check(arguments: Namespace) -> Output:
    """``edgekit check``."""
    project = load_project(arguments.project)
    found = gate.check(
        project,
        results=arguments.results,
        baseline=arguments.baseline,
        baseline_results=arguments.baseline_results,
        strict=arguments.strict,
    )

    def show() -> RenderableType:
        if arguments.format == "text":
            return told.shown_check(found)
        return check_formats.FORMATS[arguments.format](found, _from_here(project.path))

    return told.checked(found), show, int(not found.passed)


def _from_here(path: Path) -> Path:
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else Path(path.name)


def bench(arguments: Namespace) -> Output:
    """``edgekit bench`` without a bundle."""
    from edgekit import benchmarking, project_bench
    from edgekit.cli import commands, fleets
    from edgekit.report import fleet_tables

    project = load_project(arguments.project)
    places = project_bench.places(project, arguments.only)
    measure = commands.measuring(arguments)
    with rows("bundle", [place.member.name for place in places]) as on_row:
        found = project_bench.each(
            places,
            lambda path, on, on_stage: measure(path, on, on_stage=on_stage),
            arguments.at_once,
            on_row,
        )
    told_of = fleets.told(found, benchmarking.as_json)
    folder = arguments.output or project.folder / gate.FOLDER
    told_of = fleets.saved(told_of, folder, commands.saved)
    document, show = fleets.output(told_of, partial(fleet_tables.measured, what="bundle"))
    return document, show, document["exit_code"]


COMMANDS: dict[str, Callable[[Namespace], Output]] = {
    "init": init,
    "build": build,
    "verify": verify,
    "check": check,
    "bench": bench,
}
