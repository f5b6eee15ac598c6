"""From measured networks to prices: non-negative least squares on relative errors.

A price below zero has no meaning, and a network that takes a microsecond counts as much as
one that takes a second (Lawson and Hanson, "Solving least squares problems", 1974, chapter
23). What is not linear, the blocks of each kernel, is tried, one operator family at a time.
Where the networks leave a price open, it stays near the one that was expected (a weak prior:
Hoerl and Kennard, "Ridge regression", Technometrics 12(1), 1970).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import product
from typing import NamedTuple

import numpy as np
from msgspec import structs
from numpy.typing import NDArray
from scipy.optimize import nnls

from edgekit.domain import Kernel, MemoryUse, ModelSummary, Rates, Scaling
from edgekit.planning import kernels
from edgekit.planning.kernels import Family
from edgekit.planning.rates import USUAL_SCALING

_OUTPUT_TILES = (1, 8, 16, 32, 64)
_INPUT_TILES = (1, 4, 8, 16, 32, 64)
_CACHE_BYTES = (6e4, 2.5e5, 5e5, 1e6, 1.5e6, 2e6, 4e6)
_SWEEPS = 2
_REWEIGHTED = 4
_CLOSE = 0.03
_BETTER = 1e-4
_NEAR = 0.1
_NINE_IN_TEN = (0.05, 0.95)
_LEAST_SPREAD = 0.05
_EXPECTED_NETWORKS = 0.3
"""What is expected counts as much as this many networks."""

_STORED_BYTES = {"float32": 4.0, "float16": 2.0, "int4-weight-only": 0.5, "int4-dynamic": 0.5}
_INT8_BYTES = 1.0

Measured = Mapping[str, float]
"""Network -> nanoseconds of one inference."""


_STATIC_ARENA = 0.25
"""Activations of static int8 take a quarter of float32."""


class Threaded(NamedTuple):
    """A network with one thread and with several; in nanoseconds."""

    threads: int
    operators: int
    alone: float
    together: float


class Peak(NamedTuple):
    """A network's artifact, its live activations in float32, and the peak of its process."""

    artifact_bytes: float
    arena_bytes: float
    peak_bytes: float


Matrix = NDArray[np.float64]
_Shapes = dict[Family, Kernel]
_Prices = dict[tuple[str, str], float]
_NETWORK = ""
"""The family of what a network costs beside its nodes."""


def rates(
    measured: Measured,
    checks: Measured,
    summaries: Mapping[str, ModelSummary],
    precision: str,
    expected: Rates,
) -> Rates:
    """The prices that explain what was measured with one thread.

    Args:
        measured: what is fitted to.
        checks: what the fit is judged by, beside its own residuals; never fitted to.
        summaries: of every network named in either.
        precision: how weights are stored.
        expected: prices before anything was measured, up to a factor; those of a family
            that no network has are kept.
    """
    stored = _STORED_BYTES.get(precision, _INT8_BYTES)
    expected = _to_scale(expected, _Problem(measured, summaries, stored))
    problem = _Problem(measured, summaries, stored, _prices_of(expected))
    shapes = problem.best_shapes()
    prices = problem.solve(shapes)
    others = _Problem(checks, summaries, stored)
    ratios = np.concatenate([p.ratios(shapes, prices) for p in (problem, others)])
    low, high = np.quantile(1 / np.maximum(ratios, _CLOSE), _NINE_IN_TEN)
    return Rates(
        kernels={
            **expected.kernels,
            **{
                kind.value: structs.replace(
                    kernel,
                    ns={name: price for (of, name), price in prices.items() if of == kind.value},
                )
                for kind, kernel in shapes.items()
            },
        },
        call_ns=prices[_NETWORK, "calls"],
        input_ns=prices[_NETWORK, "inputs"],
        output_ns=prices[_NETWORK, "outputs"],
        spread=(min(1 - _LEAST_SPREAD, float(low)), max(1 + _LEAST_SPREAD, float(high))),
        within_10_percent=float(np.mean(np.abs(ratios - 1) < _NEAR)),
        measured=len(ratios),
    )


def scaling(pairs: Sequence[Threaded]) -> Scaling:
    """The serial share and the price of waking others: ``t_n = t_1 (s + (1-s)/n) + w * ops``."""
    if not pairs:
        return USUAL_SCALING
    rows = [(p.alone * (1 - 1 / p.threads), float(p.operators)) for p in pairs]
    left = [p.together - p.alone / p.threads for p in pairs]
    weight = 1 / np.array([p.together for p in pairs])
    (serial, sync_ns), _ = nnls(np.array(rows) * weight[:, None], np.array(left) * weight)
    return Scaling(serial=min(1.0, float(serial)), sync_ns=float(sync_ns))


def operators(summary: ModelSummary) -> int:
    """How many operators a runtime dispatches."""
    return sum(not kernels.is_folded(node) for node in summary.nodes)


def memory(peaks: Sequence[Peak], precision: str) -> MemoryUse:
    """What is there whatever the network, and what weights and activations add to it."""
    arena = _STATIC_ARENA if precision == "int8-static" else 1.0
    rows = np.array([(1.0, p.artifact_bytes, p.arena_bytes * arena) for p in peaks])
    taken = np.array([p.peak_bytes for p in peaks])
    (base, weights, activations), _ = nnls(rows / taken[:, None], np.ones(len(peaks)))
    return MemoryUse(
        base_bytes=float(base),
        per_weight_byte=float(weights),
        per_arena_byte=float(activations),
    )


def _to_scale(expected: Rates, problem: _Problem) -> Rates:
    """What was expected, as much faster or slower as the device turned out to be."""
    shapes = {Family(name): kernel for name, kernel in expected.kernels.items()}
    factor = float(1 / np.median(problem.ratios(shapes, _prices_of(expected))))
    return structs.replace(
        expected,
        kernels={
            name: structs.replace(kernel, ns={q: ns * factor for q, ns in kernel.ns.items()})
            for name, kernel in expected.kernels.items()
        },
        call_ns=expected.call_ns * factor,
        input_ns=expected.input_ns * factor,
        output_ns=expected.output_ns * factor,
    )


def _prices_of(rates: Rates) -> _Prices:
    kernels_ = rates.kernels.items()
    prices = {(kind, name): ns for kind, kernel in kernels_ for name, ns in kernel.ns.items()}
    own = {"calls": rates.call_ns, "inputs": rates.input_ns, "outputs": rates.output_ns}
    return prices | {(_NETWORK, name): ns for name, ns in own.items()}


class _Problem:
    """One runtime and precision: the networks, what they ask for, and what they took."""

    def __init__(
        self,
        measured: Measured,
        summaries: Mapping[str, ModelSummary],
        stored: float,
        expected: _Prices | None = None,
    ) -> None:
        self._expected = expected or {}
        self._summaries = [summaries[name] for name in sorted(measured)]
        self._taken = np.array([measured[name] for name in sorted(measured)])
        self._weight_bytes = [
            stored * sum(node.parameters for node in s.nodes if node.macs) for s in self._summaries
        ]
        self._families = {kernels.family(n) for s in self._summaries for n in s.nodes}
        self._families.discard(Family.FOLDED)
        self._block = cache(self._block_of)

    def best_shapes(self) -> _Shapes:
        """The blocks of every family's kernel that explain the most."""
        shapes = {kind: Kernel(ns={}) for kind in sorted(self._families, key=lambda f: f.value)}
        best = self._loss(shapes)
        for kind in (kind for _ in range(_SWEEPS) for kind in shapes):
            for tried in _shapes_of(kind, shapes[kind]):
                loss = self._loss({**shapes, kind: tried})
                if loss < best - _BETTER:
                    best, shapes = loss, {**shapes, kind: tried}
        return shapes

    def solve(self, shapes: _Shapes, reweighted: int = _REWEIGHTED) -> _Prices:
        """The prices for these blocks; networks that fit badly count for less and less."""
        names, amounts = self._matrix(shapes)
        largest = np.maximum(amounts.max(axis=0), 1e-9)
        relative = amounts / largest / self._taken[:, None]
        pull = np.sqrt(_EXPECTED_NETWORKS * np.mean(relative**2, axis=0))
        expected = largest * [self._expected.get(name, 0.0) for name in names]
        weight = np.ones(len(self._taken))
        for _ in range(reweighted):
            rows = np.vstack([relative * weight[:, None], np.diag(pull)])
            solved, _ = nnls(rows, np.hstack([weight, pull * expected]), maxiter=50 * len(names))
            weight = 1 / np.sqrt(np.maximum(np.abs(relative @ solved - 1), _CLOSE))
        return dict(zip(names, (solved / largest).tolist(), strict=True))

    def ratios(self, shapes: _Shapes, prices: _Prices) -> Matrix:
        """Predicted over measured, a network each."""
        if not self._summaries:
            return np.ones(0)
        known = {kind: kernel for kind, kernel in shapes.items() if kind in self._families}
        names, amounts = self._matrix(known)
        return np.asarray(amounts @ [prices.get(name, 0.0) for name in names] / self._taken)

    def _loss(self, shapes: _Shapes) -> float:
        ratios = self.ratios(shapes, self.solve(shapes, reweighted=2))
        return float(np.mean(np.abs(np.log(np.maximum(ratios, _CLOSE)))))

    def _matrix(self, shapes: _Shapes) -> tuple[list[tuple[str, str]], Matrix]:
        """What every network asks for, a column for each thing that has a price."""
        blocks = [self._own(), *(self._block(*_hashable(k, v)) for k, v in shapes.items())]
        names = [name for names, _ in blocks for name in names]
        return names, np.hstack([amounts for _, amounts in blocks])

    def _own(self) -> tuple[list[tuple[str, str]], Matrix]:
        rows = [
            (1.0, sum(t.elements for t in s.inputs), sum(t.elements for t in s.outputs))
            for s in self._summaries
        ]
        return [(_NETWORK, name) for name in ("calls", "inputs", "outputs")], np.array(rows)

    def _block_of(
        self, kind: Family, tiles: tuple[int, int, bool], cache_bytes: float
    ) -> tuple[list[tuple[str, str]], Matrix]:
        output, input_, joined = tiles
        kernel = Kernel(
            ns={}, output_tile=output, input_tile=input_, joined=joined, cache_bytes=cache_bytes
        )
        rows = [
            self._amounts(kind, s, kernel, weight_bytes)
            for s, weight_bytes in zip(self._summaries, self._weight_bytes, strict=True)
        ]
        names = sorted({name for row in rows for name in row})
        amounts = [[row.get(name, 0.0) for name in names] for row in rows]
        return [(kind.value, name) for name in names], np.array(amounts, float)

    @staticmethod
    def _amounts(
        kind: Family, summary: ModelSummary, kernel: Kernel, weight_bytes: float
    ) -> dict[str, float]:
        total: dict[str, float] = {}
        for node in summary.nodes:
            if kernels.family(node) is kind:
                for name, amount in kernels.quantities(node, kernel, weight_bytes).items():
                    total[name] = total.get(name, 0.0) + amount
        return total


def _hashable(kind: Family, kernel: Kernel) -> tuple[Family, tuple[int, int, bool], float]:
    tiles = kernel.output_tile, kernel.input_tile, kernel.joined
    return kind, tiles, kernel.cache_bytes


def _shapes_of(kind: Family, now: Kernel) -> Iterator[Kernel]:
    """What to try for a family: blocks, then how much of the weights stays in the cache."""
    tiles = {
        Family.CONV: product(_OUTPUT_TILES, _INPUT_TILES, (False, True)),
        Family.POINTWISE: product(_OUTPUT_TILES, _INPUT_TILES, (False,)),
        Family.MATMUL: product(_OUTPUT_TILES, _INPUT_TILES, (False,)),
        Family.DENSE: product(_OUTPUT_TILES, _INPUT_TILES, (False,)),
        Family.DEPTHWISE: product(_OUTPUT_TILES, (1,), (False,)),
    }
    for output, input_, joined in tiles.get(kind, ()):
        yield structs.replace(now, output_tile=output, input_tile=input_, joined=joined)
    if kind in (Family.CONV, Family.POINTWISE, Family.MATMUL, Family.DENSE):
        for size in _CACHE_BYTES:
            yield structs.replace(now, cache_bytes=size)
