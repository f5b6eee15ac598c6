"""Driving the runner on a device: start it, believe only what is well formed, name what failed."""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
from msgspec import Struct

from edgekit import resources
from edgekit.benchmarking import events
from edgekit.benchmarking.validity import why_invalid
from edgekit.bundle import Bundle
from edgekit.devices.output import clean
from edgekit.devices.transport import Completed, Transport
from edgekit.domain import (
    BenchmarkResult,
    Deployment,
    DeviceFacts,
    DeviceRuntimeFound,
    GoldenResult,
    Placement,
    ProcessSamples,
)
from edgekit.errors import (
    ConnectionLost,
    DeviceError,
    DeviceRuntimeMissing,
    GoldenMismatch,
    RunnerFailed,
    UsageError,
)

COMPUTE_UNITS = ("cpuOnly", "cpuAndGPU", "cpuAndNeuralEngine", "all")
_ONCE: dict[type[events.Event], str] = {
    events.Device: "_device",
    events.Memory: "_memory",
    events.Placement: "_placement",
    events.Environment: "_environment",
}
OnProgress = Callable[[str], None]

_LOCK_WAIT_S = 10.0
_SPARE_S = 900.0
# The runner has to notice a hang first: it knows what hung, this side only that it took long.
_GRACE_S = 30.0
_SHOWN = 2000
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
    deadline_s: float | None = None

    @property
    def limit_s(self) -> float:
        """The deadline in force."""
        if self.deadline_s is not None:
            return self.deadline_s
        return _SPARE_S + 1.5 * self.processes * (self.seconds + self.warmup_seconds)

    def __post_init__(self) -> None:
        least = {"runs": 1, "seconds": 0, "warmup_runs": 0, "warmup_seconds": 0, "processes": 1}
        for name, minimum in least.items():
            # Written so that a NaN does not pass either.
            if not getattr(self, name) >= minimum:
                raise UsageError(f"{name} is {getattr(self, name)}, expected {minimum} or more")
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
    threads = settings.threads or min(bundle.manifest.recipe.threads, facts.cores)
    argv = [
        *(facts.python, posixpath.join(deployment.path, runner), "bench", deployment.path),
        *("--module", runtime.module, "--threads", str(threads)),
        *("--lock", posixpath.join(transport.workdir, "lock"), "--lock-wait", str(_LOCK_WAIT_S)),
        *_options(settings),
    ]
    visit = _Visit(deployment.target, settings, on_progress)
    timeout_s = settings.limit_s + _LOCK_WAIT_S + _GRACE_S
    with transport.stream(argv, timeout_s=timeout_s) as stream:
        stream.beat()
        visit.follow(stream.lines())
        visit.check_end(stream.completed())
    return visit.result(bundle, deployment, facts, threads)


def _options(settings: Settings) -> list[str]:
    given: dict[str, object] = {
        "--runs": settings.runs,
        "--seconds": settings.seconds,
        "--warmup-runs": settings.warmup_runs,
        "--warmup-seconds": settings.warmup_seconds,
        "--processes": settings.processes,
        "--deadline": settings.limit_s,
    }
    chosen = {"--compute-units": settings.compute_units, "--attached": settings.attached}
    given |= {name: value for name, value in chosen.items() if value is not None}
    options = [text for name, value in given.items() for text in (name, str(value))]
    return [*options, "--cpu"] if settings.cpu_only else options


def _plain(event: events.Environment | events.Device) -> dict[str, Any]:
    """What an event says, without the tag that names it."""
    plain: dict[str, Any] = msgspec.to_builtins(event)
    return {name: value for name, value in plain.items() if name != "event"}


def _measured(facts: DeviceFacts, device: events.Device | None) -> DeviceFacts:
    """The facts of what was measured: the runner's own device, or one attached to it."""
    if device is None:
        return facts
    told = _plain(device)
    who = hashlib.sha256(msgspec.json.encode(told, order="deterministic")).hexdigest()
    return msgspec.structs.replace(facts, **told, libc="", cpu_flags=(), fingerprint=who)


def _placement(event: events.Placement | None) -> Placement | None:
    if event is None:
        return None
    return Placement(compute_units=event.compute_units, operations=event.operations)


class _Visit:
    """What a runner has said so far; refuses whatever it may not say at that point."""

    def __init__(self, target: str, settings: Settings, on_progress: OnProgress) -> None:
        self._target = target
        self._settings = settings
        self._on_progress = on_progress
        self._device: events.Device | None = None
        self._golden: events.Golden | None = None
        self._processes: list[ProcessSamples] = []
        self._memory: events.Memory | None = None
        self._placement: events.Placement | None = None
        self._environment: events.Environment | None = None
        self._done = False

    def follow(self, lines: Iterable[str]) -> None:
        for line in lines:
            if self._done:
                raise self._odd("something after its last word")
            self._take(events.decode(line))

    def check_end(self, completed: Completed) -> None:
        """The runner said all it had to, and ended well."""
        complete = self._memory and self._environment and self._done
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
        if not (self._golden and self._memory and self._environment):
            raise self._odd("too little")
        facts = _measured(facts, self._device)
        samples = [process.samples_ns for process in self._processes]
        why = why_invalid(samples, self._environment, threads, facts.cores)
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
            peak_memory_bytes=self._memory.peak_memory_bytes,
            energy_mj=None,
            pushed_bytes=deployment.pushed_bytes,
            environment=_plain(self._environment),
            valid=why is None,
            why_invalid=why,
            placement=_placement(self._placement),
        )

    def _take(self, event: events.Event) -> None:
        if isinstance(event, events.Error):
            raise self._failure(event)
        if isinstance(event, events.Phase):
            self._on_progress(event.name)
        elif isinstance(event, events.Golden):
            self._take_golden(event)
        elif self._golden is None and not isinstance(event, events.Device):
            raise self._odd("a figure before the golden vectors")
        elif isinstance(event, events.Process):
            self._take_process(event)
        elif isinstance(event, events.Done):
            self._done = True
        else:
            self._keep(event)

    def _keep(self, event: events.Event) -> None:
        """What is said once."""
        slot = _ONCE.get(type(event))
        if slot is None or getattr(self, slot) is not None:
            raise self._odd("the same twice")
        setattr(self, slot, event)
        if isinstance(event, events.Memory):
            self._on_progress("memory measured")

    def _take_golden(self, event: events.Golden) -> None:
        if self._golden is not None:
            raise self._odd("the same twice")
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
            raise self._odd(f"{len(event.samples_ns)} samples of process {count}")
        self._processes.append(
            ProcessSamples(
                first_load_ns=event.first_load_ns,
                first_inference_ns=event.first_inference_ns,
                samples_ns=event.samples_ns,
            )
        )
        self._on_progress(f"process {count} of {self._settings.processes} measured")

    def _failure(self, event: events.Error) -> DeviceError:
        """The typed error for what the runner reports."""
        kind = _ERRORS.get(event.kind, RunnerFailed)
        message = f"{self._target}: {clean(event.message, _SHOWN)}"
        return kind(message, clean(event.hint, _SHOWN))

    def _odd(self, what: str) -> RunnerFailed:
        return RunnerFailed(
            f"{self._target}: the runner's answer makes no sense: {what}",
            "the runner in the bundle is of another version, or the answer was tampered with",
        )
