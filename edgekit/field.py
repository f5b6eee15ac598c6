"""The second half of the line: push a bundle to a device, and measure it there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from edgekit import benchmarking, bundle
from edgekit.benchmarking import Contestant, Duel, Settings
from edgekit.bundle import Bundle
from edgekit.devices import Transport, connect, parse
from edgekit.devices.probe import choose, probe
from edgekit.devices.provision import AS_IT_IS, Equipment, provision
from edgekit.devices.push import push as push_bundle
from edgekit.devices.retrying import RETRIES, persistent
from edgekit.domain import (
    BenchmarkResult,
    Deployment,
    DeviceFacts,
    DeviceRuntimeFound,
    Format,
    Manifest,
    coreml,
)
from edgekit.errors import DeviceRuntimeMissing, GoldenMismatch, UsageError
from edgekit.observer import OnStage, silent

Visit = Callable[[Settings], BenchmarkResult]

_STEPS = 10


def push(
    path: Path | Bundle,
    on: str,
    *,
    equipment: Equipment = AS_IT_IS,
    accept_new: bool = False,
    retries: int = RETRIES,
    on_stage: OnStage = silent,
) -> Deployment:
    """Put a bundle on a device, verified there; nothing is sent that is there already.

    Args:
        path: the bundle, or an open one.
        on: ``local[:/folder]`` or ``ssh://[user@]host[:port][/folder]``.
        equipment: whether to install the runtime there first.
        accept_new: record the key of a host seen for the first time.
        retries: how often to connect again, and go on, when the connection is lost.
        on_stage: told the stages as they begin.

    Raises:
        BundleError: the bundle is not whole.
        DeviceRuntimeMissing: there is nothing to install: no runtime runs the bundle, or no wheels.
        DeviceError: the device or the connection failed; nothing half-pushed is visible there.
    """
    target = parse(on)
    sent = _Sent(on_stage)

    def attempt() -> Deployment:
        on_stage("connect", str(target))
        with connect(target, accept_new=accept_new) as transport:
            if equipment.provision:
                _equipped(transport, opened.manifest, equipment, on_stage)
            return _pushed(transport, opened, sent)

    with _opened(path) as opened:
        if equipment.provision:
            _check_runner(opened)
        return persistent(attempt, retries, lambda why: on_stage("connect", why))


def measure(
    path: Path | Bundle,
    on: str,
    settings: Settings,
    *,
    equipment: Equipment = AS_IT_IS,
    accept_new: bool = False,
    retries: int = RETRIES,
    on_stage: OnStage = silent,
) -> BenchmarkResult:
    """Push a bundle, compare its golden vectors on the device, and measure it.

    Args:
        path: the bundle, or an open one.
        on: where; see ``push``.
        settings: how to measure.
        equipment: the Python to use there, and whether to install a runtime if none will do.
        accept_new: record the key of a host seen for the first time.
        retries: how often to connect and measure anew when the connection is lost.
        on_stage: told the stages as they begin.

    Raises:
        BundleError: the bundle is not whole.
        DeviceRuntimeMissing: no Python there has the runtime; nothing was sent.
        GoldenMismatch: the device computes something else; there are no figures.
        DeviceError: the device, the connection or the runner failed.
    """

    def attempt() -> BenchmarkResult:
        with visiting(
            path, on, equipment=equipment, accept_new=accept_new, on_stage=on_stage
        ) as visit:
            return visit(settings)

    return persistent(attempt, retries, lambda why: on_stage("connect", why))


def facts(on: str, *, accept_new: bool = False) -> tuple[DeviceFacts, ...]:
    """What a target is, a row for each Python there that has a runtime.

    Args:
        on: ``local``, or ``ssh://[user@]host[:port]``.
        accept_new: record the key of a host seen for the first time.

    Raises:
        DeviceError: the connection failed.
    """
    with connect(parse(on), accept_new=accept_new) as transport:
        return probe(transport)


@contextmanager
def visiting(
    path: Path | Bundle,
    on: str,
    *,
    equipment: Equipment = AS_IT_IS,
    accept_new: bool = False,
    on_stage: OnStage = silent,
) -> Iterator[Visit]:
    """A connection over which a bundle, pushed once, is measured as often as wanted.

    Args and errors as ``measure``; what is yielded measures once.
    """
    target = parse(on)
    with _opened(path) as opened:
        _check_runner(opened)
        on_stage("connect", str(target))
        with connect(target, accept_new=accept_new) as transport:
            on_stage("probe", str(target))
            ready = _ready(transport, opened, equipment, on_stage)

            def visit(settings: Settings) -> BenchmarkResult:
                _check_settings(opened.manifest, settings)
                on_stage("benchmark", f"{ready.runtime.name} {ready.runtime.version}")
                try:
                    return benchmarking.benchmark(
                        transport,
                        opened,
                        ready.deployment,
                        ready.facts,
                        ready.runtime,
                        settings,
                        lambda what: on_stage("benchmark", what),
                    )
                except GoldenMismatch as error:
                    hint = f"{error.hint}; {_instead(opened.manifest, on)}"
                    raise GoldenMismatch(error.message, hint) from error

            yield visit


def duel(
    first: Bundle,
    second: Bundle,
    on: str,
    settings: Settings,
    *,
    equipment: Equipment = AS_IT_IS,
    accept_new: bool = False,
    on_stage: OnStage = silent,
) -> Duel:
    """Push two bundles, neither for Core ML, and measure them in turn in one visit.

    Args and errors as ``measure``, for either; ``settings.processes`` are pairs of processes.
    """
    target = parse(on)
    for opened in (first, second):
        _check_runner(opened)
    on_stage("connect", str(target))
    with connect(target, accept_new=accept_new) as transport:
        on_stage("probe", str(target))
        both = (
            _ready(transport, first, equipment, on_stage),
            _ready(transport, second, equipment, on_stage),
        )
        runtimes = " and ".join(f"{one.runtime.name} {one.runtime.version}" for one in both)
        on_stage("compare", runtimes)
        return benchmarking.duel(transport, both, settings, lambda what: on_stage("compare", what))


def _ready(
    transport: Transport, opened: Bundle, equipment: Equipment, on_stage: OnStage
) -> Contestant:
    """A bundle on the device, once it is known that something there can run it."""
    facts, runtime = _equipped(transport, opened.manifest, equipment, on_stage)
    return Contestant(opened, _pushed(transport, opened, _Sent(on_stage)), facts, runtime)


@contextmanager
def _opened(path: Path | Bundle) -> Iterator[Bundle]:
    """Open a bundle, unless it is open already: then it is verified, too."""
    if isinstance(path, Bundle):
        yield path
    else:
        with bundle.opened(path) as opened:
            yield opened


def _equipped(
    transport: Transport, manifest: Manifest, equipment: Equipment, on_stage: OnStage
) -> tuple[DeviceFacts, DeviceRuntimeFound]:
    """An interpreter there with a runtime that will do, installed if need be and allowed."""
    facts, wanted = probe(transport, python=equipment.python), _wanted(manifest)
    try:
        return choose(facts, wanted)
    except DeviceRuntimeMissing:
        if not equipment.provision:
            raise
    there = provision(
        transport,
        facts,
        wanted,
        preferred=manifest.tool_versions,
        source=equipment.wheels,
        on_stage=on_stage,
    )
    return choose((there,), wanted)


def _check_runner(opened: Bundle) -> None:
    """Whether the runner can run the bundle's artifact anywhere."""
    manifest = opened.manifest
    if not manifest.runtimes:
        raise DeviceRuntimeMissing(
            f"no runtime that the runner drives runs {manifest.artifact.format.value}",
            "build it anew, for a device whose profile has the runtime",
        )


def _wanted(manifest: Manifest) -> dict[str, str]:
    """The runtimes that will do where it is measured: a Mac counts its systems otherwise."""
    if manifest.artifact.format is not Format.COREML:
        return manifest.runtimes
    return {name: coreml.on_a_mac(versions) for name, versions in manifest.runtimes.items()}


def _instead(manifest: Manifest, on: str) -> str:
    """What could be tried where a bundle computes something else."""
    tried = {attempt.recipe.label for attempt in manifest.attempts} | {manifest.recipe.label}
    labels = [candidate.recipe.label for candidate in manifest.plan.candidates]
    following = next((label for label in labels if label not in tried), None)
    named = f"the plan's next candidate is {following}; " if following else ""
    return f"{named}`edgekit build --measure --on {on}` keeps the best that is right there"


def _check_settings(manifest: Manifest, settings: Settings) -> None:
    if manifest.artifact.format is Format.COREML:
        if settings.profile or settings.trtexec or settings.sustained_s is not None:
            raise UsageError(
                "--profile, --trtexec and --sustained are not for Core ML",
                "Xcode's Instruments has a Core ML template that does both",
            )
        return
    for option in ("compute_units", "attached"):
        if getattr(settings, option) is not None:
            name = f"--{option.replace('_', '-')}"
            raise UsageError(
                f"{name} is for Core ML; the bundle holds {manifest.artifact.format.value}",
                f"leave {name} out",
            )


class _Sent:
    """The bytes that a push has sent, in all its attempts; every tenth of the way is told."""

    def __init__(self, on_stage: OnStage) -> None:
        self._on_stage = on_stage
        self._told = 0
        self.total_bytes = 0
        self.bytes = 0

    def begin(self, total_bytes: int) -> None:
        self.total_bytes = total_bytes
        self._on_stage("push", f"{total_bytes / 1e6:.2f} MB, less what is there already")

    def count(self, sent: int) -> None:
        self.bytes += sent
        if self.bytes * _STEPS // self.total_bytes > self._told:
            self._told = self.bytes * _STEPS // self.total_bytes
            self._on_stage("push", f"{self.bytes / 1e6:.2f} of {self.total_bytes / 1e6:.2f} MB")


def _pushed(transport: Transport, opened: Bundle, sent: _Sent) -> Deployment:
    """Push; what earlier attempts sent counts, too."""
    sent.begin(sum((opened.root / name).stat().st_size for name in opened.files))
    deployment = push_bundle(transport, opened, sent.count)
    skipped = max(0, sent.total_bytes - sent.bytes)
    return msgspec.structs.replace(deployment, pushed_bytes=sent.bytes, skipped_bytes=skipped)
