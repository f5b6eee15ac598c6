"""What is known about a network: its tensors, its nodes and their cost."""

from __future__ import annotations

from collections import Counter
from math import prod

from msgspec import Struct


class TensorSpec(Struct, frozen=True, forbid_unknown_fields=True):
    """A named tensor with a fixed shape; ``dtype`` is NumPy's name of the type."""

    name: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def elements(self) -> int:
        return prod(self.shape)


class NodeSummary(Struct, frozen=True, forbid_unknown_fields=True):
    """One node of the graph and what it costs to run once.

    Attributes:
        name: the node's name in the user's graph, or ``<op>_<index>``.
        op: the ONNX operator.
        macs: multiply-accumulate operations.
        parameters: elements of constant inputs.
        parameter_bytes: their size as stored.
        input_elements: elements of the activations read.
        output_elements: elements of the activations written.
        output_shape: shape of the first output.
        group: the convolution's groups (1 for all others).
        channelwise: each channel convolved on its own (depthwise).
        taps: elements of the window of a convolution or a pooling (3x3: 9); 1 for all others.
        input_type: NumPy's name of the first input's type; empty where there is none.
    """

    name: str
    op: str
    macs: int
    parameters: int
    parameter_bytes: int
    input_elements: int
    output_elements: int
    output_shape: tuple[int, ...]
    group: int = 1
    channelwise: bool = False
    taps: int = 1
    input_type: str = ""


class ModelSummary(Struct, frozen=True, forbid_unknown_fields=True):
    """A network at a glance; sizes in bytes, for a batch of one.

    Attributes:
        sha256: digest of the model as the user gave it (external data included).
        name: the file's stem.
        opset: the ONNX opset the graph was written in.
        nodes: in order of execution.
        activation_peak_bytes: the most that live activations take at once.
        quantized: the graph already carries quantized weights or activations.
    """

    sha256: str
    name: str
    opset: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    nodes: tuple[NodeSummary, ...]
    parameters: int
    parameter_bytes: int
    macs: int
    activation_peak_bytes: int
    quantized: bool

    @property
    def operators(self) -> dict[str, int]:
        """How often each operator occurs, the most frequent first."""
        return dict(Counter(node.op for node in self.nodes).most_common())


class CleanUp(Struct, frozen=True, forbid_unknown_fields=True):
    """What one pass over the graph did.

    Attributes:
        name: of the pass.
        does: what it is for, in words.
        changed: the graph is another one after it.
        reason: why the pass was dropped, when it was; the graph is then as before it.
    """

    name: str
    does: str
    changed: bool
    reason: str = ""


class GraphSize(Struct, frozen=True, forbid_unknown_fields=True):
    """A graph in four numbers, to set before and after side by side.

    Attributes:
        transposes: nodes that only move data from one layout to another.
        macs: multiply-accumulates; ``None`` where shapes cannot be inferred.
        weight_bytes: constants as stored.
    """

    nodes: int
    transposes: int
    macs: int | None
    weight_bytes: int
