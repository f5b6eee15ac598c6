"""What is wanted, what could be made, and what was decided."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

from msgspec import Meta, Struct, structs

from edgekit.domain.device import Format

NotNegative = Annotated[float, Meta(ge=0)]
AboveZero = Annotated[float, Meta(gt=0)]

CPU = "cpu"


class Prefer(Enum):
    """What decides between candidates that all meet the goal."""

    LATENCY = "latency"
    SIZE = "size"
    ENERGY = "energy"
    ACCURACY = "accuracy"


class Goal(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The user's budgets; ``None`` leaves the device's own limit in force.

    Attributes:
        max_accuracy_drop: how much worse the metric may get, in its own unit (0.01: one
            point of top-1); ``None``: what is usual for the metric.
    """

    max_latency_ms: AboveZero | None = None
    max_size_mb: AboveZero | None = None
    max_memory_mb: AboveZero | None = None
    max_energy_mj: AboveZero | None = None
    max_accuracy_drop: NotNegative | None = None
    prefer: Prefer = Prefer.LATENCY


class Mode(Enum):
    """How a network is quantized."""

    STATIC = "static"
    DYNAMIC = "dynamic"
    WEIGHT_ONLY = "weight-only"
    FLOAT16 = "float16"
    PALETTIZED = "palettized"


class Granularity(Enum):
    """What shares one scale."""

    PER_TENSOR = "per-tensor"
    PER_CHANNEL = "per-channel"
    PER_BLOCK = "per-block"


class Quantization(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How weights and activations are stored and computed.

    Attributes:
        weights: NumPy's name of the stored type; ``int4`` is stored two to a byte;
            ``lut<bits>`` for indices into a table of values, where the mode is palettized.
        activations: NumPy's name of the type that flows between nodes.
        symmetric_activations: zero points of activations are zero.
        reduced_range: weights use 7 of their 8 bits, where the CPU's int8 multiply-add
            saturates (AVX2 without VNNI).
        sparsity: share of each weight's elements, its smallest, that is made zero and not
            stored.
    """

    mode: Mode
    weights: str
    activations: str
    granularity: Granularity = Granularity.PER_CHANNEL
    symmetric_activations: bool = False
    reduced_range: bool = False
    sparsity: Annotated[float, Meta(ge=0, lt=1)] = 0.0

    @property
    def wide(self) -> bool:
        """Whether 16-bit integers flow between nodes."""
        return self.activations in ("int16", "uint16")

    @property
    def precision(self) -> str:
        """A short name: ``float16``, ``int8-static``, ``palettized-4bit``, ``...-sparse-50``."""
        named = f"{self.weights}-{self.mode.value}{'-int16' if self.wide else ''}"
        if self.mode is Mode.FLOAT16:
            named = self.mode.value
        elif self.mode is Mode.PALETTIZED:
            named = f"{self.mode.value}-{self.weights.removeprefix('lut')}bit"
        return f"{named}-sparse-{self.sparsity:.0%}".removesuffix("%") if self.sparsity else named


class Channels(Struct, frozen=True, forbid_unknown_fields=True):
    """Whole channels, and ends of kernels, removed until so much of the work is gone.

    Attributes:
        fraction: of the multiply-accumulates.
        multiple: what is left of a layer comes in multiples of so many channels, if the
            fraction can be reached so: kernels compute that many at once.
    """

    fraction: Annotated[float, Meta(gt=0, lt=1)]
    multiple: Annotated[int, Meta(ge=1)] = 4


class Recipe(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One way to make an artifact and to run it.

    Attributes:
        runtime: the device runtime's name in the profile.
        accelerator: the accelerator's name in the profile, or ``cpu``.
        quantization: ``None`` for float32.
        pruning: what is removed before; ``None``: nothing.
        float_nodes: nodes that static quantization leaves in float, by the names that the
            format's own graph has for them.
        eight_bit_nodes: nodes whose weights keep eight bits where the others have fewer, by
            their names in the source's graph.
        threads: CPU threads the runtime is given.
        power_mode: the name of one of the profile's power modes; ``None``: its default.
    """

    format: Format
    runtime: str
    accelerator: str = CPU
    quantization: Quantization | None = None
    pruning: Channels | None = None
    float_nodes: tuple[str, ...] = ()
    eight_bit_nodes: tuple[str, ...] = ()
    threads: int = 1
    power_mode: str | None = None

    @property
    def precision(self) -> str:
        """``float32``, or the short name of the quantization."""
        return self.quantization.precision if self.quantization else "float32"

    @property
    def is_static(self) -> bool:
        """Whether it computes in integers, by ranges from calibration data."""
        return self.quantization is not None and self.quantization.mode is Mode.STATIC

    @property
    def activation_bytes(self) -> int:
        """Of an element that flows between nodes on the CPU."""
        if self.quantization is None or not self.is_static:
            return 4
        return 2 if self.quantization.wide else 1

    @property
    def planned(self) -> Recipe:
        """As a plan has it: which nodes need more precision is found out by building."""
        return structs.replace(self, float_nodes=(), eight_bit_nodes=())

    @property
    def raised(self) -> dict[str, tuple[str, ...]]:
        """The nodes of a higher precision: ``in float`` or ``in 8 bits`` -> their names."""
        kinds = {"in float": self.float_nodes, "in 8 bits": self.eight_bit_nodes}
        return {how: names for how, names in kinds.items() if names}

    @property
    def repair(self) -> str:
        """The same counted: ``2 nodes in 8 bits``; empty: none."""
        counts = {how: len(names) for how, names in self.raised.items()}
        return " and ".join(
            f"{n} {'node' if n == 1 else 'nodes'} {how}" for how, n in counts.items()
        )

    @property
    def label(self) -> str:
        """How a person names it: ``int8-static on onnxruntime (cpu, 4 threads)``."""
        coarse = self.quantization and self.quantization.granularity is Granularity.PER_TENSOR
        pruned = f"pruned-{100 * self.pruning.fraction:.3g}" if self.pruning else ""
        repair = f"but {self.repair}" if self.repair else ""
        coarse_name = "per-tensor" if coarse else ""
        how = " ".join(filter(None, (self.precision, pruned, coarse_name, repair)))
        threads = f"{self.threads} threads" if self.threads > 1 else ""
        where = ", ".join(filter(None, (self.accelerator, threads, self.power_mode)))
        return f"{how} on {self.runtime} ({where})"


class Range(Struct, frozen=True, forbid_unknown_fields=True):
    """A predicted quantity: the expected value between a low and a high."""

    low: float
    mid: float
    high: float


class Prediction(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a recipe is expected to cost, before anything is built."""

    latency_ms: Range
    peak_memory_bytes: Range
    size_bytes: Range
    energy_mj: Range


class Candidate(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A recipe worth building, with what it should cost and why it stands where it stands.

    Attributes:
        recipe: with the placement (threads, power mode) that serves the goal best.
        pareto: no other candidate is at least as good in latency, size, memory, energy and
            accuracy class, and better in one of them.
    """

    recipe: Recipe
    prediction: Prediction
    reasons: tuple[str, ...]
    pareto: bool = False


class Rejection(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A recipe that is not worth building, and why."""

    recipe: Recipe
    reason: str
    prediction: Prediction | None = None


class Plan(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The decision: candidates in the order they are to be tried, and what was rejected.

    Attributes:
        basis: what the predictions rest on, in words: a calibration, or the profile alone.
    """

    model_sha256: str
    device: str
    goal: Goal
    candidates: tuple[Candidate, ...]
    rejected: tuple[Rejection, ...]
    basis: str = ""
