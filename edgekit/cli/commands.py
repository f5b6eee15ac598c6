"""The commands: each turns arguments into a call of the pipeline, and the result into a report."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from edgekit import bundle, calibrations, pipeline, profiles, store
from edgekit.cli import fleets, interfaces
from edgekit.cli.progress import stages
from edgekit.cli.shapes import shapes
from edgekit.domain import BenchmarkResult, DeviceProfile, Format, Goal, Prefer
from edgekit.errors import DataError, InputError, UsageError
from edgekit.planning import Choice
from edgekit.report import documents, fleet_tables, measurements, survey_tables, terminal
from edgekit.toolchain import environments
from edgekit.toolchain.environments import Installer

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import RenderableType

    from edgekit.devices.provision import Equipment
    from edgekit.devices.survey import Survey
    from edgekit.observer import OnStage

Document = dict[str, Any]
Output = tuple[Document, Callable[[], "RenderableType"]]
"""The document for ``--json``, and how the same looks to a person."""


def devices(arguments: Namespace) -> Output:
    """``edgekit devices``."""
    match arguments.words:
        case []:
            pass
        case ["calibrate", name]:
            return _calibrate(arguments, profiles.find(name))
        case ["probe"]:
            found = _surveyed(arguments)
            return documents.surveyed(found), partial(survey_tables.surveyed, found)
        case ["add", name]:
            return _add(arguments, name)
        case [name]:
            profile = profiles.find(name)
            return documents.device(profile), partial(terminal.device, profile)
        case words:
            raise UsageError(
                f"edgekit devices {' '.join(words)} is not understood",
                "write `edgekit devices [NAME]`, `edgekit devices probe --on TARGET`, or "
                "`edgekit devices add|calibrate NAME --on TARGET`",
            )
    every = tuple(profiles.find(name) for name in profiles.names())
    return documents.devices(every), partial(terminal.devices, every)


def _surveyed(arguments: Namespace) -> Survey:
    from edgekit.devices import connect, parse
    from edgekit.devices.survey import survey

    with connect(parse(arguments.on), accept_new=arguments.accept_new) as transport:
        return survey(transport)


def _add(arguments: Namespace, name: str) -> Output:
    from edgekit import drafting

    path = drafting.destination(name, force=arguments.force)
    known = [profiles.find(other) for other in profiles.names() if other != name]
    drafted = drafting.draft(name, _surveyed(arguments), known)
    drafting.save(drafted, path)
    return documents.drafted(drafted, path), partial(survey_tables.drafted, drafted, path)


def _calibrate(arguments: Namespace, profile: DeviceProfile) -> Output:
    from edgekit import calibrating

    settings = calibrating.Settings(seconds=arguments.minutes * 60)
    with stages() as on_stage:
        found = calibrating.calibrate(
            profile,
            arguments.on,
            store.default_root(),
            settings,
            python=arguments.device_python,
            accept_new=arguments.accept_new,
            on_stage=on_stage,
        )
    path = calibrations.save(found)
    return documents.calibrated(found, path), partial(terminal.calibrated, found, path)


def inspect(arguments: Namespace) -> Output:
    """``edgekit inspect``."""
    targets = tuple(Format(name) for name in arguments.target)
    found = pipeline.inspect(
        arguments.model,
        shapes(arguments.shape),
        targets,
        trust=arguments.trust,
        cache=store.default_root(),
    )
    return documents.inspection(found), partial(terminal.inspection, found)


def plan(arguments: Namespace) -> Output:
    """``edgekit plan``."""
    request = _request(arguments, calibration=not arguments.no_calibration)
    made, explanation = pipeline.decide(request, store.default_root())
    told = (made, explanation)
    return documents.plan(*told), partial(terminal.plan, *told, request.profile)


def build(arguments: Namespace) -> Output:
    """``edgekit build``."""
    static = [name for name in arguments.precision if name.startswith("int8-static")]
    if arguments.calibration is None and static and static == arguments.precision:
        raise DataError(f"{static[0]} needs calibration data", "give --calibration X.npz")
    there = ("on", "measure_count", "accept_new", "provision", "wheels")
    if not arguments.measure and any(getattr(arguments, name) for name in there):
        raise UsageError("there is a target, and nothing to do there", "give --measure too")
    if arguments.measure and not arguments.on:
        arguments.on = "local"
    request = _request(arguments, calibration=arguments.calibration is not None)
    request = msgspec.structs.replace(
        request,
        calibration=arguments.calibration,
        evaluation=arguments.evaluate,
        metric=arguments.metric,
        interface=interfaces.interface(arguments.image_input, arguments.labels),
    )
    cache = None if arguments.no_cache else store.default_root()
    with stages() as on_stage:
        if arguments.measure:
            made = _measured(request, arguments, cache, on_stage)
        else:
            made = pipeline.build(request, arguments.output, cache=cache, on_stage=on_stage)
    return documents.built(made), partial(terminal.built, made)


def _measured(
    request: pipeline.Request, arguments: Namespace, cache: Path | None, on_stage: OnStage
) -> pipeline.Built:
    from edgekit import contest

    count = 3 if arguments.measure_count is None else arguments.measure_count
    terms = contest.Terms(
        on=arguments.on,
        count=count,
        accept_new=arguments.accept_new,
        equipment=_equipment(arguments),
    )
    return contest.build(request, arguments.output, terms, cache=cache, on_stage=on_stage)


def verify(arguments: Namespace) -> Output:
    """``edgekit verify``."""
    with bundle.opened(arguments.bundle) as opened:
        told = (str(arguments.bundle), opened.sha256, opened.manifest)
    return documents.verified(*told), partial(terminal.verified, *told)


def export(arguments: Namespace) -> Output:
    """``edgekit export``."""
    from edgekit import exporting

    platform, destination = arguments.to
    made = exporting.export(
        arguments.bundle,
        platform,
        destination,
        name=arguments.name,
        others=arguments.others,
    )
    return documents.exported(made), partial(terminal.exported, made)


def push(arguments: Namespace) -> Output:
    """``edgekit push``."""
    from edgekit import field

    options: dict[str, Any] = {
        "equipment": _equipment(arguments),
        "accept_new": arguments.accept_new,
        "retries": arguments.retry,
    }
    if fleets.is_one(arguments):
        on = fleets.members(arguments)[0].target
        with stages() as on_stage:
            deployment = field.push(arguments.bundle, on, on_stage=on_stage, **options)
        return documents.pushed(deployment), partial(terminal.pushed, deployment)
    work = partial(field.push, **options)
    return fleets.output(fleets.each(arguments, work, documents.pushed), fleet_tables.pushed)


def bench(arguments: Namespace) -> Output:
    """``edgekit bench``."""
    from edgekit import benchmarking

    work = measuring(arguments)
    if fleets.is_one(arguments):
        on = fleets.members(arguments)[0].target
        with stages() as on_stage:
            result = work(arguments.bundle, on, on_stage=on_stage)
        document = benchmarking.as_json(result) | saved(result, arguments.output)
        return document, partial(measurements.measured, document)
    rows = fleets.each(arguments, work, benchmarking.as_json, in_turns=True)
    if arguments.output:
        rows = fleets.saved(rows, arguments.output, saved)
    return fleets.output(rows, fleet_tables.measured)


def measuring(arguments: Namespace) -> Callable[..., BenchmarkResult]:
    """What measures as the options say."""
    from edgekit import benchmarking, field

    settings = benchmarking.Settings(
        runs=arguments.runs,
        seconds=arguments.seconds,
        processes=arguments.processes,
        threads=arguments.threads,
        cpu_only=arguments.cpu,
        compute_units=arguments.compute_units,
        attached=arguments.attached,
        energy=not arguments.no_energy,
        profile=arguments.profile,
        trtexec=arguments.trtexec,
        sustained_s=None if arguments.sustained is None else 60 * arguments.sustained,
        deadline_s=arguments.deadline,
    )
    return partial(
        field.measure,
        settings=settings,
        equipment=_equipment(arguments),
        accept_new=arguments.accept_new,
        retries=arguments.retry,
    )


def _equipment(arguments: Namespace) -> Equipment:
    from edgekit.devices.provision import Equipment

    if arguments.wheels and not arguments.provision:
        raise UsageError(
            "--wheels says from where, and nothing is to be installed", "give --provision, too"
        )
    return Equipment(
        # `push`, `compare` and `build` do not let one choose.
        python=getattr(arguments, "device_python", None),
        provision=arguments.provision,
        wheels=arguments.wheels,
    )


def saved(result: BenchmarkResult, path: Path | None) -> Document:
    """Save a result; that this fails is said beside the result, which is not lost for it."""
    from edgekit import benchmarking

    try:
        if path:
            benchmarking.save(result, path)
    except InputError as error:
        return {**documents.error(error), "exit_code": error.exit_code}
    return {}


def compare(arguments: Namespace) -> Output:
    """``edgekit compare``."""
    from edgekit import comparison

    bundles = arguments.first, arguments.second
    with stages() as on_stage:
        found = comparison.compare(
            *bundles,
            arguments.on,
            pace=comparison.Pace(pairs=arguments.pairs, seconds=arguments.seconds),
            equipment=_equipment(arguments),
            accept_new=arguments.accept_new,
            on_stage=on_stage,
        )
    document = documents.compared(*bundles, found)
    return document, partial(measurements.compared, document)


def toolchain(arguments: Namespace) -> Output:
    """``edgekit toolchain``."""
    chosen = [environments.find(arguments.tool)] if arguments.tool else environments.TOOLS.values()
    if arguments.action == "install":
        installer = Installer(arguments.installer) if arguments.installer else None
        with stages() as on_stage:
            for tool in chosen:
                on_stage("toolchain", f"{tool.name} {tool.version}")
                environments.install(tool, installer=installer, wheels=arguments.wheels)
    rows = [
        (t.name, t.version, t.purpose, str(t.folder) if t.installed else "not installed")
        for t in chosen
    ]
    names = ("name", "version", "purpose", "environment")
    document = {"tools": [dict(zip(names, row, strict=True)) for row in rows]}
    return document, partial(terminal.tools, rows)


COMMANDS: dict[str, Callable[[Namespace], Output]] = {
    "devices": devices,
    "inspect": inspect,
    "plan": plan,
    "build": build,
    "verify": verify,
    "export": export,
    "push": push,
    "bench": bench,
    "compare": compare,
    "toolchain": toolchain,
}


def _request(arguments: Namespace, *, calibration: bool) -> pipeline.Request:
    return pipeline.Request(
        model=arguments.model,
        profile=profiles.find(arguments.device),
        goal=_goal(arguments),
        choice=Choice(
            calibration=calibration,
            formats=tuple(Format(name) for name in arguments.format),
            precisions=tuple(arguments.precision),
            threads=arguments.threads,
            power_modes=tuple(arguments.power_mode),
            prune=arguments.prune,
        ),
        shapes=shapes(arguments.shape),
        basis=_basis(arguments),
        trust=arguments.trust,
    )


def _basis(arguments: Namespace) -> calibrations.Basis:
    """The device's calibration; where there is a target, only if it is of that machine."""
    if not arguments.on:
        return calibrations.basis(arguments.device)
    from edgekit import field

    facts = field.facts(arguments.on, accept_new=arguments.accept_new)
    return calibrations.basis(arguments.device, facts)


def _goal(arguments: Namespace) -> Goal:
    raw = {
        "max_latency_ms": arguments.max_latency_ms,
        "max_size_mb": arguments.max_size_mb,
        "max_memory_mb": arguments.max_memory_mb,
        "max_energy_mj": arguments.max_energy_mj,
        "max_accuracy_drop": arguments.max_drop,
        "prefer": Prefer(arguments.prefer).value,
    }
    try:
        return msgspec.convert(raw, Goal)
    except msgspec.ValidationError as error:
        raise UsageError(f"the goal does not make sense: {error}") from error
