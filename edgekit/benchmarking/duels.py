"""Two artifacts in one visit, window by window in turn: the runner's duel, and what it says."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable

import msgspec
from msgspec import Struct

from edgekit import resources
from edgekit.benchmarking import events
from edgekit.benchmarking.drive import OnProgress, Settings, Visit, options, talked, threads_of
from edgekit.bundle import Bundle
from edgekit.devices.transport import Transport
from edgekit.domain import BenchmarkResult, Deployment, DeviceFacts, DeviceRuntimeFound

_OF_BOTH = (events.Environment, events.Done)


class Contestant(Struct, frozen=True):
    """A bundle that was pushed, and the interpreter and runtime there that run it."""

    bundle: Bundle
    deployment: Deployment
    facts: DeviceFacts
    runtime: DeviceRuntimeFound


class Duel(Struct, frozen=True, kw_only=True):
    """What two artifacts took in turn.

    Attributes:
        first: the first's own figures; ``second`` the second's.
        pairs_ns: of each pair of processes what a run of the first and of the second took, in
            one turn of each after another.
    """

    first: BenchmarkResult
    second: BenchmarkResult
    pairs_ns: tuple[tuple[tuple[int, int], ...], ...]


def duel(
    transport: Transport,
    both: tuple[Contestant, Contestant],
    settings: Settings,
    on_progress: OnProgress = lambda _: None,
) -> Duel:
    """Compare both's golden vectors, then measure both in turn, in one visit.

    The first's runner measures both: neither is timed by other code than the other.

    Args:
        transport: an open connection.
        both: of formats that ``edgekit_runner.py`` runs.
        settings: how one process of each pair measures; ``processes`` are the pairs.
        on_progress: told in a few words what has just ended.

    Raises:
        DeviceError: as ``benchmark``, for either; it says which, ``A`` or ``B``.
    """
    settings = msgspec.structs.replace(settings, deadline_s=2 * settings.limit_s)
    threads = [threads_of(one.bundle, one.facts, settings) for one in both]
    argv = [
        both[0].facts.python,
        posixpath.join(both[0].deployment.path, resources.runner().name),
        *("duel", *(one.deployment.path for one in both)),
        *("--python", *(one.facts.python for one in both)),
        *("--module", *(one.runtime.module for one in both)),
        *("--threads", *map(str, threads)),
        *options(transport, settings),
    ]
    said = _Said(both[0].deployment.target, settings, on_progress)
    completed = talked(transport, argv, settings, said.follow)
    for visit in said.visits:
        visit.check_end(completed)
    results = [
        visit.result(one.bundle, one.deployment, one.facts, count)
        for visit, one, count in zip(said.visits, both, threads, strict=True)
    ]
    return Duel(first=results[0], second=results[1], pairs_ns=said.pairs_ns())


class _Said:
    """What the runner says, told apart."""

    def __init__(self, target: str, settings: Settings, on_progress: OnProgress) -> None:
        def visit(name: str) -> Visit:
            return Visit(f"{target}, {name}", settings, lambda what: on_progress(f"{name}: {what}"))

        self.visits = visit("A"), visit("B")
        self._neither = Visit(target, settings, on_progress)

    def follow(self, lines: Iterable[str]) -> None:
        spoken_of = self._neither
        for event in map(events.decode, lines):
            if isinstance(event, events.Turn):
                spoken_of = self.visits[event.of]
            else:
                for visit in self.visits if isinstance(event, _OF_BOTH) else (spoken_of,):
                    visit.take(event)

    def pairs_ns(self) -> tuple[tuple[tuple[int, int], ...], ...]:
        pairs = list(zip(*(visit.windows_ns for visit in self.visits), strict=True))
        if any(not one or len(one) != len(other) for one, other in pairs):
            raise self._neither.odd("they had not the same number of turns")
        return tuple(tuple(zip(one, other, strict=True)) for one, other in pairs)
