"""What was made: the artifact, the proof that it is right, and the bundle's manifest."""

from __future__ import annotations

from enum import Enum
from typing import Literal

from msgspec import Struct

from edgekit.domain.device import Format
from edgekit.domain.model import TensorSpec
from edgekit.domain.plan import Plan, Prediction, Range, Recipe

SCHEMA_VERSION = 1
Digests = dict[str, str]


class AffineQuantization(Struct, frozen=True, forbid_unknown_fields=True):
    """``real = scale * (stored - zero_point)``."""

    scale: float
    zero_point: int


Colours = Literal["rgb", "bgr", "gray"]


class Picture(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An input that is a picture of bytes: ``source = scale * pixel + bias``.

    Attributes:
        colours: the order of the source's channels.
        scale: for each channel, or one for all; none is 0.
        bias: for each channel, or one for all.
    """

    colours: Colours
    scale: tuple[float, ...] = (1.0,)
    bias: tuple[float, ...] = (0.0,)

    @property
    def channels(self) -> int:
        return 1 if self.colours == "gray" else 3


class Interface(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What an application is to see of a model, beyond its tensors.

    Attributes:
        pictures: by the names of the inputs.
        labels: of the classes, in the order of the first output's scores.
    """

    pictures: dict[str, Picture] = {}
    labels: tuple[str, ...] = ()


class TensorBinding(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How one input or output of the artifact relates to the source's.

    Attributes:
        source: the tensor as the user's model has it.
        artifact: the tensor as the artifact takes or gives it.
        permutation: ``artifact_array = source_array.transpose(permutation)``.
        layout: the meaning of the artifact's axes (``NHWC``, ``NCHW``); ``None``: as the source.
        quantization: set when the artifact's tensor is an integer for a real value.
        image: set when the artifact takes a picture: bytes in the order row, column, and red,
            green, blue, for one sample; ``permutation`` then brings the source's axes to
            sample, row, column, channel.
    """

    source: TensorSpec
    artifact: TensorSpec
    permutation: tuple[int, ...]
    layout: str | None = None
    quantization: AffineQuantization | None = None
    image: Picture | None = None


class Artifact(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A model file, or folder, for a device; ``path`` is relative to its bundle or working folder.

    Attributes:
        sha256: of the file; of a folder, over its files' names and digests.
        parts: the files of a folder, relative to ``path``; empty: ``path`` is a file.
        extra_files: files beside it, made with it.
        notes: by which way it was made, and which ways failed before that, and why.
    """

    path: str
    format: Format
    sha256: str
    size_bytes: int
    inputs: tuple[TensorBinding, ...]
    outputs: tuple[TensorBinding, ...]
    parts: tuple[str, ...] = ()
    extra_files: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def files(self) -> tuple[str, ...]:
        """Every file, relative to the bundle or working folder."""
        own = tuple(f"{self.path}/{part}" for part in self.parts) or (self.path,)
        return (*own, *self.extra_files)


FEWEST_TELLING = 8
"""Samples; of fewer nothing follows."""


class OutputFidelity(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How near one output is to the source's, over all samples.

    Attributes:
        cosine: the mean over the samples of the cosine similarity.
        max_relative_error: largest absolute error over the source's largest absolute value.
        agreement: share of samples whose largest element is the same.
    """

    name: str
    cosine: float
    max_relative_error: float
    agreement: float


class ValidationReport(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The artifact against the source, on the host.

    Attributes:
        metric: its name; higher is better, but for ``mae``.
        baseline: the source's value.
        value: the artifact's value.
        drop: how much worse, in the metric's own unit (negative: better).
        drop_interval: between which values it lies with 95 % confidence, had there been more
            samples of the same kind; ``None``: the metric is no mean over samples.
        data: what it was measured on: ``evaluation``, ``calibration`` or ``random``.
    """

    sample_count: int
    data: str
    metric: str
    baseline: float
    value: float
    drop: float
    max_drop: float
    per_output: tuple[OutputFidelity, ...]
    passed: bool
    drop_interval: tuple[float, float] | None = None

    @property
    def settled(self) -> bool:
        """Whether the samples are enough to tell that the drop is on its side of the limit."""
        if self.drop_interval is None:
            return self.sample_count >= FEWEST_TELLING
        low, high = self.drop_interval
        return high <= self.max_drop if self.passed else low > self.max_drop

    @property
    def verdict(self) -> str:
        """``passed`` or ``failed``; ``undecided``: it may pass, the samples cannot tell."""
        if not self.passed:
            return "failed"
        return "passed" if self.settled else "undecided"


class Outcome(Enum):
    """How the attempt at a candidate ended."""

    CHOSEN = "chosen"
    REJECTED = "rejected"
    FAILED = "failed"


class Price(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What raising some nodes by a precision adds.

    Attributes:
        size_bytes: weighed; ``None``: there was no artifact without it.
        latency_ms: predicted, of the nodes that are known in the source's graph.
    """

    size_bytes: int | None
    latency_ms: float


class Attempt(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One candidate that was built, or could not be.

    Attributes:
        price: of the nodes that were raised; ``None``: none was.
    """

    recipe: Recipe
    outcome: Outcome
    reason: str
    size_bytes: int | None = None
    validation: ValidationReport | None = None
    price: Price | None = None


class Measured(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A candidate as it was predicted, and as it was measured on a target.

    Attributes:
        latency_ms: the median within its 95 % interval; ``None``: it gave no figure.
        peak_memory_bytes: ``None`` where the system does not tell.
        rounds: in how many it was measured, interleaved with the others.
        device_fingerprint: of the device it was measured on.
        reason: why it won, or did not.
        doubts: why some of its rounds may not be believed.
    """

    recipe: Recipe
    prediction: Prediction
    size_bytes: int
    latency_ms: Range | None
    peak_memory_bytes: int | None
    rounds: int
    target: str
    device_fingerprint: str
    runtime: str
    outcome: Outcome
    reason: str
    doubts: tuple[str, ...] = ()


class Golden(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Inputs and the outputs that a right device gives for them, as ``.npy`` in the bundle.

    Attributes:
        inputs: one file per input, in order; the first axis counts the samples.
        outputs: one file per output, in order.
        tolerances: largest absolute error allowed per output, in real units.
    """

    sample_count: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    tolerances: tuple[float, ...]


class Narrowed(Struct, frozen=True, forbid_unknown_fields=True):
    """Layers of one width that gave channels up: how many they had, and have.

    Attributes:
        kernel_axis: not channels, but taps along this axis of the kernel.
    """

    layers: tuple[str, ...]
    before: int
    after: int
    kernel_axis: int | None = None


class PruningReport(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What pruning took away, counted on the graph that was left.

    Attributes:
        layers: every width that could have given channels or taps up, also where it did not.
        sample_count: how many calibration samples it was done with.
    """

    macs_before: int
    macs_after: int
    weight_bytes_before: int
    weight_bytes_after: int
    layers: tuple[Narrowed, ...]
    sample_count: int


class NodeCost(Struct, frozen=True, forbid_unknown_fields=True):
    """What quantizing one node alone costs.

    Attributes:
        name: in the format's own graph.
        error: of the outputs: squared, as a share of their variance over the samples.
        source: the node of the source's graph that it comes from; empty: none that is known.
    """

    name: str
    error: float
    source: str = ""


class RoundedLayer(Struct, frozen=True, forbid_unknown_fields=True):
    """A layer whose weights were made to fit into so many bits."""

    name: str
    bits: int


class RoundingReport(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What fitting weights to few bits brought, on samples that it was not done with.

    Attributes:
        error_to_nearest: of the outputs with every weight at its nearest value: squared, as
            a share of their variance over the samples.
        error: the same for the weights that were fitted.
        used: whether these are the ones in the artifact.
        sample_count: how many calibration samples there were.
    """

    layers: tuple[RoundedLayer, ...]
    error_to_nearest: float
    error: float
    used: bool
    sample_count: int


class BalancingReport(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What making a network ready for int8 brought, on samples that it was not done with.

    Attributes:
        equalized: channels were brought to one reach, layer by layer.
        corrected: biases take up what rounding the weights shifts.
        error_before: of the outputs of the network as it was, its layers in int8: squared, as
            a share of their variance over the samples.
        error: the same for the one that was converted.
        sample_count: how many calibration samples there were.
    """

    equalized: bool
    corrected: bool
    error_before: float
    error: float
    sample_count: int

    @property
    def used(self) -> bool:
        """Whether anything was changed."""
        return self.equalized or self.corrected


class Manifest(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A bundle's table of contents and its pedigree.

    Attributes:
        recipe: the recipe that was built; ``plan`` says why, ``attempts`` what was tried.
        runtimes: Python module that runs the artifact -> PEP 440 specifier of the versions
            that the device takes, in order of preference.
        delegate: the delegate or execution provider that reaches the accelerator;
            ``None``: the CPU.
        measured: the candidates that were measured on a target before one was chosen.
        pruned: what the recipe's pruning took away; ``None``: it has none.
        rounded: how weights in few bits were fitted; ``None``: they were not.
        balanced: how the network was made ready for static int8; ``None``: it was not.
        sensitivity: what quantizing each node alone costs, the costliest first, where the
            recipe had to be repaired.
        data_notes: what is odd about the calibration data.
        interface: what an application is to see, by the names of the source's tensors.
        digests: sha256 of every other file of the bundle, by its path.
        sizes_bytes: size of the same files.
    """

    schema_version: int
    model_name: str
    model_sha256: str
    device: str
    recipe: Recipe
    runtimes: dict[str, str]
    delegate: str | None
    artifact: Artifact
    validation: ValidationReport
    golden: Golden
    plan: Plan
    attempts: tuple[Attempt, ...]
    tool_versions: dict[str, str]
    digests: Digests
    sizes_bytes: dict[str, int]
    measured: tuple[Measured, ...] = ()
    pruned: PruningReport | None = None
    rounded: RoundingReport | None = None
    balanced: BalancingReport | None = None
    sensitivity: tuple[NodeCost, ...] = ()
    data_notes: tuple[str, ...] = ()
    interface: Interface = Interface()
