"""Driving the runner on a device: start it, believe only what is well formed, name what failed."""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any

import msgspec
from msgspec import Struct

from edgekit import resources
from edgekit.benchmarking import events
from edgekit.benchmarking.energy import beyond_idling
from edgekit.benchmarking.validity import why_invalid
from edgekit.bundle import Bundle
from edgekit.devices.output import clean
from edgekit.devices.transport import Completed, Transport
from edgekit.domain import (
    BenchmarkResult,
    Deployment,
    DeviceFacts,
    DeviceRuntimeFound,
    Energy,
    GoldenResult,
    Placement,
    ProcessSamples,
    Profile,
    Sustained,
    Trtexec,
)
from edgekit.domain.coreml import COMPUTE_UNITS
from edgekit.errors import (
    ConnectionLost,
    DeviceError,
    DeviceRuntimeMissing,
    GoldenMismatch,
    RunnerFailed,
    UsageError,
)

_PASSES: dict[str, type[events.Event]] = {
    "memory": events.Memory,
    "energy": events.Energy,
    "profile": events.Profile,
    "trtexec": events.Trtexec,
    "sustain": events.Sustained,
}
OnProgress = Callable[[str], None]

_LOCK_WAIT_S = 60.0
"""Another's benchmark without long passes has ended by then."""

_SPARE_S = 900.0
_ENGINE_S = 1800.0
"""A large network's engine takes a small board that long to build."""

# The runner has to notice a hang first: it knows what hung, this side only that it took long.
_GRACE_S = 30.0
_SHOWN = 2000
_NAME = 200
_LONGEST_S = 24 * 3600.0
_AT_ONCE_S = 1.0
"""A long run's first window begins with the run."""

# The runner's status when the signs of life stopped coming.
_ABANDONED = 75
_ERRORS: dict[str, type[DeviceError]] = {
    "golden": GoldenMismatch,
    "runtime-missing": DeviceRuntimeMissing,
    "busy": DeviceError,
    "device": DeviceError,
    "bundle": DeviceError,
}


class Settings(Struct, frozen=True, kw_only=True):
    """How to measure.

    Attributes:
        runs: per process, at least.
        seconds: per process, at least; both minimums hold.
        warmup_runs: likewise, before anything is recorded.
        processes: fresh processes, one after another.
        threads: CPU threads; ``None``: the recipe's, at most the device's cores.
        cpu_only: leave the accelerator alone.
        compute_units: what Core ML may use, one of ``COMPUTE_UNITS``; ``None``: the recipe's.
        memory: measure peak memory, in a pass of its own; as with the next three.
        energy: measure energy, where there is a sensor: some 20 s.
        profile: time every operation, where the runtime can.
        trtexec: time ONNX artifacts by NVIDIA's own tool, too.
        sustained_s: run for so long without a pause, at the end; ``None``: not at all.
        attached: the name or identifier of the iPhone attached to the Mac that is the target,
            or ``any``; ``None``: the Mac itself. Core ML only, too.
        deadline_s: for the whole visit; ``None``: a quarter of an hour beyond what the
            minimums of time take.
    """

    runs: int = 50
    seconds: float = 1.0
    warmup_runs: int = 3
    warmup_seconds: float = 0.5
    processes: int = 5
    threads: int | None = None
    cpu_only: bool = False
    compute_units: str | None = None
    attached: str | None = None
    memory: bool = True
    energy: bool = True
    profile: bool = False
    trtexec: bool = False
    sustained_s: float | None = None
    deadline_s: float | None = None

    @property
    def passes(self) -> tuple[str, ...]:
        """What is done after the latency was measured, by the runner's names."""
        asked = {
            "memory": self.memory,
            "energy": self.energy,
            "profile": self.profile,
            "trtexec": self.trtexec,
            "sustain": self.sustained_s is not None,
        }
        return tuple(name for name, wanted in asked.items() if wanted)

    @property
    def limit_s(self) -> float:
        """The deadline in force."""
        if self.deadline_s is not None:
            return self.deadline_s
        measuring_s = self.processes * (self.seconds + self.warmup_seconds)
        spare_s = _SPARE_S + (_ENGINE_S if self.trtexec else 0)
        return spare_s + 1.5 * (measuring_s + (self.sustained_s or 0))

    def __post_init__(self) -> None:
        least = {"runs": 1, "seconds": 0, "warmup_runs": 0, "warmup_seconds": 0, "processes": 1}
        for name, minimum in least.items():
            # Written so that a NaN does not pass either.
            if not getattr(self, name) >= minimum:
                raise UsageError(f"{name} is {getattr(self, name)}, expected {minimum} or more")
        if self.sustained_s is not None and not 0 < self.sustained_s <= _LONGEST_S:
            raise UsageError(
                f"a sustained run of {self.sustained_s / 60:g} minutes, expected more than 0 and "
                f"at most {_LONGEST_S / 60:g}"
            )
        if self.threads is not None and self.threads < 1:
            raise UsageError(f"threads is {self.threads}, expected 1 or more")
        if self.compute_units is not None and self.compute_units not in COMPUTE_UNITS:
            raise UsageError(
                f"no compute units {self.compute_units!r}, expected one of: "
                + ", ".join(COMPUTE_UNITS)
            )


def benchmark(
    transport: Transport,
    bundle: Bundle,
    deployment: Deployment,
    facts: DeviceFacts,
    runtime: DeviceRuntimeFound,
    settings: Settings | None = None,
    on_progress: OnProgress = lambda _: None,
) -> BenchmarkResult:
    """Compare the golden vectors on the device, then measure there, in one visit.

    Args:
        transport: an open connection.
        bundle: what was pushed.
        deployment: where it lies on the device.
        facts: of the interpreter to use.
        runtime: the runtime of that interpreter to use.
        settings: how to measure; ``None``: the defaults.
        on_progress: told in a few words what has just ended.

    Raises:
        GoldenMismatch: the device computes something else; there are no figures.
        DeviceRuntimeMissing: the runtime or the accelerator's delegate is not there.
        RunnerFailed: the artifact crashed or hung there, or the answer makes no sense.
        ConnectionFailed: the connection was lost; the runner ends with it.
        DeviceError: another benchmark runs there, or the bundle was changed on the device.
    """
    settings = settings or Settings()
    runner = resources.RUNNERS[bundle.manifest.artifact.format]
    threads = threads_of(bundle, facts, settings)
    argv = [
        *(facts.python, posixpath.join(deployment.path, runner), "bench", deployment.path),
        *("--module", runtime.module, "--threads", str(threads)),
        *options(transport, settings),
    ]
    visit = Visit(deployment.target, settings, on_progress)

    def follow(lines: Iterable[str]) -> None:
        for line in lines:
            visit.take(events.decode(line))

    visit.check_end(talked(transport, argv, settings, follow))
    return visit.result(bundle, deployment, facts, threads)


def talked(
    transport: Transport,
    argv: Sequence[str],
    settings: Settings,
    follow: Callable[[Iterable[str]], None],
) -> Completed:
    """Start the runner and follow what it says; how it ended."""
    timeout_s = settings.limit_s + _LOCK_WAIT_S + _GRACE_S
    with transport.stream(argv, timeout_s=timeout_s) as stream:
        stream.beat()
        follow(stream.lines())
        return stream.completed()


def threads_of(bundle: Bundle, facts: DeviceFacts, settings: Settings) -> int:
    """The threads asked for; else the recipe's, as far as the device has cores."""
    return settings.threads or min(bundle.manifest.recipe.threads, facts.cores)


def options(transport: Transport, settings: Settings) -> list[str]:
    """How the runner is to measure, whatever it is that it measures."""
    given: dict[str, object] = {
        "--lock": posixpath.join(transport.workdir, "lock"),
        "--lock-wait": _LOCK_WAIT_S,
        "--engines": posixpath.join(transport.workdir, "engines"),
        "--runs": settings.runs,
        "--seconds": settings.seconds,
        "--warmup-runs": settings.warmup_runs,
        "--warmup-seconds": settings.warmup_seconds,
        "--processes": settings.processes,
        "--passes": ",".join(settings.passes),
        "--deadline": settings.limit_s,
    }
    chosen = {
        "--compute-units": settings.compute_units,
        "--attached": settings.attached,
        "--sustain-seconds": settings.sustained_s,
    }
    given |= {name: value for name, value in chosen.items() if value is not None}
    words = [text for name, value in given.items() for text in (name, str(value))]
    return [*words, "--cpu"] if settings.cpu_only else words


def _plain(event: events.Event) -> dict[str, Any]:
    """What an event says, without the tag that names it."""
    plain: dict[str, Any] = msgspec.to_builtins(event)
    return {name: value for name, value in plain.items() if name != "event"}


def _as[T](kind: type[T], event: events.Event | None) -> T | None:
    """What an event says, as the domain has it; ``None`` where it was not said."""
    return None if event is None else msgspec.convert(_plain(event), kind)


def _measured(facts: DeviceFacts, device: events.Device | None) -> DeviceFacts:
    """The facts of what was measured: the runner's own device, or one attached to it."""
    if device is None:
        return facts
    told = _plain(device)
    who = hashlib.sha256(msgspec.json.encode(told, order="deterministic")).hexdigest()
    return msgspec.structs.replace(facts, **told, libc="", cpu_flags=(), fingerprint=who)


def _profile(event: events.Profile | None) -> Profile | None:
    """The operations' names come from the model: bound and disarmed."""
    found = _as(Profile, event)
    if found is None:
        return None
    cleaned = (
        msgspec.structs.replace(
            one,
            name=clean(one.name, _NAME),
            kind=clean(one.kind, _NAME),
            where=clean(one.where, _NAME),
        )
        for one in found.operations
    )
    return msgspec.structs.replace(found, operations=tuple(cleaned))


class Visit:
    """What a runner has said so far of one artifact; refuses what it may not say at that point.

    Attributes:
        windows_ns: of each process what a run took in each of its windows, where it took turns.
    """

    def __init__(self, target: str, settings: Settings, on_progress: OnProgress) -> None:
        self._target = target
        self._settings = settings
        self._on_progress = on_progress
        self._golden: events.Golden | None = None
        self._processes: list[ProcessSamples] = []
        self.windows_ns: list[tuple[int, ...]] = []
        self._once: dict[type[Any], events.Event] = {}
        self._done = False

    def check_end(self, completed: Completed) -> None:
        """The runner said all it had to, and ended well."""
        wanted = {events.Environment, *(_PASSES[name] for name in self._settings.passes)}
        complete = self._done and wanted <= self._once.keys()
        if complete and completed.ok and len(self._processes) == self._settings.processes:
            return
        if completed.exit_status == _ABANDONED:
            raise ConnectionLost(
                f"{self._target}: the runner had not heard from this side for long, and ended",
                "a machine that sleeps cannot measure another; measure again",
            )
        how = completed.signal or f"status {completed.exit_status}"
        said = clean(completed.stderr, _SHOWN) or "it said nothing"
        raise RunnerFailed(f"{self._target}: the runner ended early, with {how}: {said}")

    def result(
        self, bundle: Bundle, deployment: Deployment, facts: DeviceFacts, threads: int
    ) -> BenchmarkResult:
        environment = self._said(events.Environment)
        if not (self._golden and environment):
            raise self.odd("too little")
        facts = _measured(facts, self._said(events.Device))
        samples = [process.samples_ns for process in self._processes]
        why = why_invalid(samples, environment, threads, facts.cores)
        memory, energy = self._said(events.Memory), _as(Energy, self._said(events.Energy))
        return BenchmarkResult(
            bundle_sha256=bundle.sha256,
            artifact_sha256=bundle.manifest.artifact.sha256,
            target=deployment.target,
            device=facts,
            runtime=DeviceRuntimeFound(**msgspec.structs.asdict(self._golden.runtime)),
            threads=threads,
            golden=GoldenResult(
                passed=True,
                max_error=self._golden.max_error or 0.0,
                sample_count=self._golden.sample_count,
            ),
            processes=tuple(self._processes),
            peak_memory_bytes=memory.peak_memory_bytes if memory else None,
            energy_mj=beyond_idling(energy),
            pushed_bytes=deployment.pushed_bytes,
            environment=_plain(environment),
            valid=why is None,
            why_invalid=why,
            placement=_as(Placement, self._said(events.Placement)),
            energy=energy,
            profile=_profile(self._said(events.Profile)),
            sustained=_as(Sustained, self._said(events.Sustained)),
            trtexec=_as(Trtexec, self._said(events.Trtexec)),
        )

    def _said[T: events.Event](self, kind: type[T]) -> T | None:
        """What was said once, if it was."""
        said = self._once.get(kind)
        return said if isinstance(said, kind) else None

    def take(self, event: events.Event) -> None:
        """Take in what the runner said.

        Raises:
            DeviceError: it says that something failed, or what it says makes no sense.
        """
        if self._done:
            raise self.odd("something after its last word")
        if isinstance(event, events.Error):
            raise self._failure(event)
        if isinstance(event, events.Phase):
            self._on_progress(event.name)
        elif isinstance(event, events.Golden):
            self._take_golden(event)
        elif self._golden is None and not isinstance(event, events.Device):
            raise self.odd("a figure before the golden vectors")
        elif isinstance(event, events.Process):
            self._take_process(event)
        elif isinstance(event, events.Done):
            self._done = True
        elif isinstance(event, events.Swept | events.Turn) or type(event) in self._once:
            raise self.odd("the same twice")
        else:
            if isinstance(event, events.Sustained):
                self._check_windows(event)
            self._once[type(event)] = event

    def _take_golden(self, event: events.Golden) -> None:
        if self._golden is not None:
            raise self.odd("the same twice")
        if not event.passed or event.max_error is None:
            error = "not a number" if event.worst_error is None else f"off by {event.worst_error:g}"
            raise GoldenMismatch(
                f"{self._target}: output {event.worst_output!r} is {error} where "
                f"{event.tolerance:g} is allowed; no figure is reported",
                f"{event.runtime.name} {event.runtime.version} computes something else there than "
                "what was validated: build for that version, or install the one that was used",
            )
        self._golden = event
        self._on_progress(f"golden vectors agree to {event.max_error:g}")

    def _take_process(self, event: events.Process) -> None:
        count = len(self._processes) + 1
        fewest = min(self._settings.runs, events.MAX_SAMPLES)
        if count > self._settings.processes or len(event.samples_ns) < fewest:
            raise self.odd(f"{len(event.samples_ns)} samples of process {count}")
        self._processes.append(
            ProcessSamples(
                first_load_ns=event.first_load_ns,
                first_inference_ns=event.first_inference_ns,
                samples_ns=event.samples_ns,
            )
        )
        self.windows_ns.append(event.windows_ns)
        self._on_progress(f"process {count} of {self._settings.processes} measured")

    def _check_windows(self, event: events.Sustained) -> None:
        """They follow one another; the runner rounds, so two short ones may begin together."""
        begins = [window.at_s for window in event.windows]
        if begins[0] > _AT_ONCE_S or any(later < one for one, later in pairwise(begins)):
            raise self.odd("the windows of the long run are out of order")

    def _failure(self, event: events.Error) -> DeviceError:
        """The typed error for what the runner reports."""
        kind = _ERRORS.get(event.kind, RunnerFailed)
        message = f"{self._target}: {clean(event.message, _SHOWN)}"
        if event.kind == "usage":
            return kind(message, "the bundle's runner is of another version: build the bundle anew")
        return kind(message, clean(event.hint, _SHOWN))

    def odd(self, what: str) -> RunnerFailed:
        """The error for an answer without sense."""
        return RunnerFailed(
            f"{self._target}: the runner's answer makes no sense: {what}",
            "the runner in the bundle is of another version, or the answer was tampered with",
        )
