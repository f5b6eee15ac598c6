"""A calibration from end to end: the networks onto the device, timed there, and fitted."""

from __future__ import annotations

import posixpath
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from tempfile import NamedTemporaryFile

import msgspec
from msgspec import Struct

from edgekit import resources
from edgekit.benchmarking import events
from edgekit.calibrating import artifacts, fit, networks
from edgekit.calibrating.artifacts import Entry, Prepared
from edgekit.calibrating.windows import Window, believed, undisturbed
from edgekit.devices import Transport, connect, parse
from edgekit.devices.output import clean
from edgekit.devices.probe import choose, probe
from edgekit.domain import (
    CALIBRATION_VERSION,
    Calibration,
    DeviceFacts,
    DeviceProfile,
    DeviceRuntimeFound,
    Format,
    MemoryUse,
    Quantization,
    Rates,
    Recipe,
    RuntimeCalibration,
    Scaling,
)
from edgekit.errors import DeviceRuntimeMissing, RunnerFailed
from edgekit.formats import FORMATS
from edgekit.observer import OnStage, silent
from edgekit.planning import rates, recipes
from edgekit.planning.rates import SAME_KERNELS, SLOWER, USUAL_SCALING

_RUNNER = "edgekit_runner.py"
_WINDOW_S = 0.012
_GRACE_S = 60.0
_LOCK_WAIT_S = 10.0
_PEAK_S = 120.0
_UNPACK_S = 120.0
_UNPACKED = "unpacked"
_SHOWN = 300
_THREADED = ("conv3_32-32-32-32_32_1", "conv3_64-64-64-64_28_1", "conv3_64-64-64-64_8_1")
"""The networks that show what threads bring: much work, and little."""

_THREADED_PRECISIONS = ("float32", "int8-static")
_THREADED_ROUNDS = 8


Swept = Mapping[str, tuple[Window, ...]]
"""Artifact -> its windows."""


class Settings(Struct, frozen=True, kw_only=True):
    """How long to measure, and what.

    Attributes:
        seconds: on the device, for the timing of all networks; the first round of each
            runtime is always ended.
        rounds: how many calm windows of every network are wanted, if time allows.
        chosen: whether a network of that name is measured.
    """

    seconds: float = 110.0
    rounds: int = 3
    chosen: Callable[[str], bool] = lambda _name: True


class _Runtime(Struct, frozen=True, kw_only=True):
    """A runtime on the device, and the interpreter that has it."""

    format: Format
    facts: DeviceFacts
    found: DeviceRuntimeFound


def calibrate(
    profile: DeviceProfile,
    on: str,
    cache: Path,
    settings: Settings | None = None,
    *,
    python: str | None = None,
    accept_new: bool = False,
    on_stage: OnStage = silent,
) -> Calibration:
    """Measure a designed set of small networks on a device, and fit prices to it.

    Args:
        profile: which device it is.
        on: where; ``local[:/folder]`` or ``ssh://[user@]host[:port][/folder]``.
        cache: where the networks are kept between calibrations.
        settings: how long.
        python: the Python to use there; ``None``: the first that has a runtime.
        accept_new: record the key of a host seen for the first time.
        on_stage: told the stages as they begin.

    Raises:
        DeviceRuntimeMissing: none of the profile's runtimes is there.
        RunnerFailed: the runner failed there.
        DeviceError: the device or the connection failed.
        ToolError: the networks could not be made.
    """
    started, settings = time.monotonic(), settings or Settings()
    with connect(parse(on), accept_new=accept_new) as transport:
        on_stage("probe", on)
        runtimes = _runtimes(profile, probe(transport, python=python), on_stage)
        on_stage("networks", "making them, if they are not there yet")
        variants = {r.format: _variants(profile, r.format) for r in runtimes}
        prepared = artifacts.prepare(variants, cache, settings.chosen)
        visit = _Visit(transport, prepared, settings, on_stage)
        visit.bring(runtimes[0].facts.python)
        for runtime in runtimes:
            visit.sweep(runtime)
        found = {
            r.format.value: visit.judge(r, _expected(profile, r.format, variants[r.format]))
            for r in runtimes
        }
        process_bytes = visit.process_bytes
    return Calibration(
        version=CALIBRATION_VERSION,
        device=profile.name,
        fingerprint=runtimes[0].facts.fingerprint,
        cpu_model=runtimes[0].facts.cpu_model,
        process_bytes=process_bytes,
        runtimes=found,
        made=datetime.now(UTC).date().isoformat(),
        networks=len(prepared.entries),
        seconds=round(time.monotonic() - started, 1),
    )


def _runtimes(
    profile: DeviceProfile, facts: Sequence[DeviceFacts], on_stage: OnStage
) -> list[_Runtime]:
    """One runtime for each format that edgekit makes and the device has."""
    found, missing = [], []
    for spec in (FORMATS[f] for f in profile.formats if _is_swept(f)):
        wanted = {
            spec.modules[r.name]: r.versions
            for r in profile.runtimes
            if spec.format in r.formats and r.name in spec.modules
        }
        try:
            fact, runtime = choose(facts, wanted)
            found.append(_Runtime(format=spec.format, facts=fact, found=runtime))
        except DeviceRuntimeMissing as error:
            on_stage("probe", f"without {spec.format.value}: {error.message}")
            missing.append(error)
    if not found:
        raise (
            missing[0]
            if missing
            else DeviceRuntimeMissing(f"{profile.name} has no runtime that edgekit can calibrate")
        )
    return found


def _is_swept(format_: Format) -> bool:
    """Whether the runner itself times the format's networks."""
    return format_ in FORMATS and resources.RUNNERS[format_] == _RUNNER


def _variants(profile: DeviceProfile, format_: Format) -> dict[str, Quantization | None]:
    """Every precision that has kernels, as planning would have it quantized."""
    made: dict[str, Quantization | None] = {}
    for variant in recipes.cpu_variants(format_, profile):
        # The first of a precision: one scale for a whole tensor runs on the same kernels.
        made.setdefault(Recipe(format=format_, runtime="", quantization=variant).precision, variant)
    return {name: how for name, how in made.items() if (format_, name) not in SLOWER}


def _expected(
    profile: DeviceProfile, format_: Format, variants: Mapping[str, Quantization | None]
) -> dict[str, Rates]:
    """What each precision should cost there, before anything is measured."""
    return {
        precision: rates.scaled(profile, Recipe(format=format_, runtime="", quantization=variant))
        for precision, variant in variants.items()
    }


class _Visit:
    """The networks on the device, and what has been measured of them."""

    def __init__(
        self, transport: Transport, prepared: Prepared, settings: Settings, on_stage: OnStage
    ) -> None:
        self._transport = transport
        self._prepared = prepared
        self._settings = settings
        self._on_stage = on_stage
        self._home = posixpath.join(transport.workdir, "calibration", prepared.key)
        self.process_bytes = 0.0
        self._swept: dict[tuple[str, Format], Swept] = {}

    def bring(self, python: str) -> None:
        """Send the networks and the runner, and unpack them, unless they are there."""
        runner = posixpath.join(self._home, _RUNNER)
        size = self._prepared.archive.stat().st_size
        self._on_stage("push", f"{size / 1e6:.1f} MB of networks, unless they are there")
        there = self._transport.stat(posixpath.join(self._home, _UNPACKED))
        if there is None:
            archive = posixpath.join(self._home, artifacts.ARCHIVE)
            self._transport.mkdir(self._home)
            self._transport.put(self._prepared.archive, archive)
            unpack = [python, "-m", "zipfile", "-e", archive, self._home]
            done = self._transport.run(unpack, timeout_s=_UNPACK_S)
            if not done.ok:
                raise RunnerFailed(
                    f"{self._transport.target}: the networks cannot be unpacked: "
                    f"{clean(done.stderr, _SHOWN) or done.exit_status}"
                )
            self._transport.remove(archive)
            self._transport.mkdir(posixpath.join(self._home, _UNPACKED))
        self._transport.put(resources.runner(), runner)

    def sweep(self, runtime: _Runtime) -> None:
        """Time every network, with one thread."""
        entries = self._entries(runtime)
        share = len(entries) / len(self._prepared.entries)
        timed = [e for e in entries if (e.format, e.precision) not in SAME_KERNELS]
        seconds = self._settings.seconds * share
        swept = self._sweep(runtime, timed, 1, seconds)
        self._swept[runtime.facts.python, runtime.format] = swept

    def judge(self, runtime: _Runtime, expected: Mapping[str, Rates]) -> RuntimeCalibration:
        """Everything about one runtime, once all were swept: they share the calm moments."""
        entries = self._entries(runtime)
        python = runtime.facts.python
        swept, usual_ns = self._swept[python, runtime.format], self._usual_ns(python)
        taken = {path: believed(seen, usual_ns) for path, seen in swept.items()}
        by_precision: dict[str, dict[str, float]] = {}
        for entry in entries:
            if entry.path in taken:
                by_precision.setdefault(entry.precision, {})[entry.network] = taken[entry.path]
        self._on_stage("fit", f"{len(taken)} networks of {runtime.format.value}")
        return RuntimeCalibration(
            module=runtime.found.module,
            version=runtime.found.version,
            rates={
                name: self._rates(name, found, expected[name])
                for name, found in by_precision.items()
            },
            memory=self._memory(runtime, entries),
            scaling=self._scaling(runtime, entries, taken, usual_ns),
        )

    def _usual_ns(self, python: str) -> float:
        """What counting takes in that Python when nothing disturbs it."""
        sweeps = (swept for (used, _), swept in self._swept.items() if used == python and swept)
        windows = (chain.from_iterable(swept.values()) for swept in sweeps)
        return min(map(undisturbed, windows), default=0.0)

    def _entries(self, runtime: _Runtime) -> list[Entry]:
        return [e for e in self._prepared.entries if e.format is runtime.format]

    def _rates(self, precision: str, taken: dict[str, float], expected: Rates) -> Rates:
        checks = {n: ns for n, ns in taken.items() if n.startswith(networks.CHECKS)}
        fitted = {n: ns for n, ns in taken.items() if n not in checks}
        return fit.rates(fitted, checks, self._prepared.summaries, precision, expected)

    def _scaling(
        self,
        runtime: _Runtime,
        entries: Sequence[Entry],
        alone: Mapping[str, float],
        usual_ns: float,
    ) -> Scaling:
        """What another thread brings; where there is no other core, what is usual."""
        if runtime.facts.cores == 1:
            return USUAL_SCALING
        few = [e for e in entries if e.network in _THREADED and e.precision in _THREADED_PRECISIONS]
        pairs = []
        for threads in {2, min(4, runtime.facts.cores)}:
            swept = self._sweep(runtime, few, threads, _WINDOW_S * len(few) * _THREADED_ROUNDS)
            taken = {path: believed(seen, usual_ns) for path, seen in swept.items()}
            for entry in few:
                if entry.path in taken and entry.path in alone:
                    operators = fit.operators(self._prepared.summaries[entry.network])
                    pair = fit.Threaded(threads, operators, alone[entry.path], taken[entry.path])
                    pairs.append(pair)
        return fit.scaling(pairs)

    def _memory(self, runtime: _Runtime, entries: Sequence[Entry]) -> dict[str, MemoryUse]:
        """From a network of nothing, and of each precision one of weights and one of activations.

        A network of nothing takes the same in every precision.
        """
        small = next(e for e in entries if e.network == networks.SMALL)
        base = self._peak(runtime, small)
        found = {}
        for precision in dict.fromkeys(entry.precision for entry in entries):
            own = [e for e in entries if e.precision == precision]
            large = [e for e in own if e.network in (networks.LARGE, networks.WIDE)]
            peaks = [base, *(self._peak(runtime, entry) for entry in large)]
            found[precision] = fit.memory(peaks, precision)
        return found

    def _peak(self, runtime: _Runtime, entry: Entry) -> fit.Peak:
        path = posixpath.join(self._home, entry.path)
        argv = [*self._runner(runtime), "peak", path]
        said = self._said([*argv, *_running(runtime, 1)], _PEAK_S)
        memory = next((e for e in said if isinstance(e, events.Memory)), None)
        if memory is None or memory.peak_memory_bytes is None:
            raise RunnerFailed(
                f"{self._transport.target}: it does not tell how much memory is used"
            )
        self.process_bytes = max(self.process_bytes, float(memory.before_bytes or 0))
        there = self._transport.stat(path)
        arena = self._prepared.summaries[entry.network].activation_peak_bytes
        weighs = there.size_bytes if there else 0
        return fit.Peak(float(weighs), float(arena), float(memory.peak_memory_bytes))

    def _sweep(
        self, runtime: _Runtime, entries: Sequence[Entry], threads: int, seconds: float
    ) -> Swept:
        """Every window of every network that runs."""
        with NamedTemporaryFile(suffix=".json") as listed:
            listed.write(msgspec.json.encode([entry.path for entry in entries]))
            listed.flush()
            models = posixpath.join(self._home, "models.json")
            self._transport.put(Path(listed.name), models)
        what = f"{len(entries)} networks, {runtime.found.name} {runtime.found.version}"
        self._on_stage("measure", f"{what}, {threads} thread{'s' * (threads > 1)}")
        deadline_s = 3 * seconds + _GRACE_S
        argv = [
            *(*self._runner(runtime), "sweep", models, *_running(runtime, threads)),
            *("--rounds", str(self._settings.rounds), "--window", str(_WINDOW_S)),
            *("--seconds", str(seconds), "--deadline", str(deadline_s)),
            *("--lock", posixpath.join(self._transport.workdir, "lock")),
            *("--lock-wait", str(_LOCK_WAIT_S)),
        ]
        said = self._said(argv, deadline_s + _LOCK_WAIT_S + _GRACE_S)
        swept = [event for event in said if isinstance(event, events.Swept)]
        return {
            event.model: tuple(map(Window, event.windows_ns, event.counting_ns))
            for event in swept
            if event.windows_ns
        }

    def _runner(self, runtime: _Runtime) -> tuple[str, str]:
        return runtime.facts.python, posixpath.join(self._home, _RUNNER)

    def _said(self, argv: Sequence[str], timeout_s: float) -> list[events.Event]:
        """All that the runner says until it ends, and that it ended well."""
        with self._transport.stream(argv, timeout_s=timeout_s) as stream:
            stream.beat()
            said = [events.decode(line) for line in stream.lines()]
            ended = stream.completed()
        failed = next((event for event in said if isinstance(event, events.Error)), None)
        if failed is None and ended.ok:
            return said
        why = clean(failed.message if failed else ended.stderr, _SHOWN)
        how = ended.signal or f"status {ended.exit_status}"
        raise RunnerFailed(
            f"{self._transport.target}: the runner ended with {how}: {why or 'it said nothing'}",
            clean(failed.hint, _SHOWN) if failed else "",
        )


def _running(runtime: _Runtime, threads: int) -> tuple[str, ...]:
    adapter = FORMATS[runtime.format].host_runtime
    module = runtime.found.module
    return "--runtime", adapter, "--module", module, "--threads", str(threads)
