"""What a node asks of the kernel that runs it: an operator family, and quantities to be paid for.

A kernel works in blocks: output channels in tiles of the vector width, input channels in
groups of a dot product. What is left of a block is computed and thrown away, so quantities
are counted in whole blocks. The same is known from kernel-level latency prediction
(Zhang et al., "nn-Meter: towards accurate latency prediction of deep-learning model
inference on diverse edge devices", MobiSys 2021); here the blocks are two numbers that
are fitted, and everything else is linear in them.
"""

from __future__ import annotations

from enum import Enum
from math import ceil, prod

from edgekit.domain import Kernel, NodeSummary


class Family(Enum):
    """Operators that the same kernels run."""

    CONV = "conv"
    POINTWISE = "pointwise"
    DEPTHWISE = "depthwise"
    MATMUL = "matmul"
    DENSE = "dense"
    RECURRENT = "recurrent"
    BINARY = "binary"
    AFFINE = "affine"
    ACTIVATION = "activation"
    SOFTMAX = "softmax"
    MAX_POOL = "maxpool"
    AVERAGE_POOL = "avgpool"
    REDUCE = "reduce"
    MOVE = "move"
    SLICE = "slice"
    VIEW = "view"
    FOLDED = "folded"


_CONVOLUTIONS = frozenset({"Conv", "ConvTranspose", "ConvInteger", "QLinearConv"})
_PRODUCTS = frozenset({"Gemm", "MatMul", "MatMulInteger", "QLinearMatMul"})
_BLOCKED = (Family.CONV, Family.POINTWISE, Family.MATMUL, Family.DENSE)
_POOLS = (Family.MAX_POOL, Family.AVERAGE_POOL)
_DENSE_ROWS = 4
"""A product of fewer rows is bound by its weights: runtimes have other kernels for it."""

_FAMILIES = {
    **dict.fromkeys(("LSTM", "GRU", "RNN"), Family.RECURRENT),
    **dict.fromkeys(("Add", "Sub", "Mul", "Div", "Min", "Max", "Sum", "PRelu"), Family.BINARY),
    "MaxPool": Family.MAX_POOL,
    **dict.fromkeys(("AveragePool", "LpPool"), Family.AVERAGE_POOL),
    **dict.fromkeys(("GlobalAveragePool", "GlobalMaxPool"), Family.REDUCE),
    **dict.fromkeys(("ReduceMean", "ReduceSum", "ReduceMax", "ArgMax"), Family.REDUCE),
    **dict.fromkeys(("Softmax", "LogSoftmax", "LayerNormalization"), Family.SOFTMAX),
    **dict.fromkeys(("Concat", "Transpose", "Split", "Gather", "Tile"), Family.MOVE),
    **dict.fromkeys(("Resize", "Expand", "DepthToSpace", "SpaceToDepth"), Family.MOVE),
    # A padding that a convolution could have taken on is no node any more.
    **dict.fromkeys(("Slice", "Pad"), Family.SLICE),
    # Runtimes fold these into their neighbours: no dispatch and no traffic of their own.
    **dict.fromkeys(("Relu", "LeakyRelu", "Clip", "BatchNormalization"), Family.FOLDED),
    **dict.fromkeys(("Constant", "Identity", "Dropout", "Cast", "Shape"), Family.FOLDED),
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), Family.VIEW),
    **dict.fromkeys(("QuantizeLinear", "DequantizeLinear"), Family.FOLDED),
}


def family(node: NodeSummary) -> Family:
    """Which kernels run a node; an operator that is not listed works element by element."""
    if node.op in _CONVOLUTIONS:
        if node.channelwise:
            return Family.DEPTHWISE
        return Family.CONV if node.taps > 1 else Family.POINTWISE
    if node.op in _PRODUCTS:
        return Family.DENSE if _rows(node) < _DENSE_ROWS else Family.MATMUL
    kind = _FAMILIES.get(node.op, Family.ACTIVATION)
    # By a constant: runtimes make most of these a part of what they follow.
    return Family.AFFINE if kind is Family.BINARY and node.parameters else kind


def is_product(node: NodeSummary) -> bool:
    """Whether a node multiplies by matrices, whatever kernel does it."""
    return node.op in _PRODUCTS or family(node) is Family.RECURRENT


def is_folded(node: NodeSummary) -> bool:
    """Whether a node computes nothing of its own: it is a part of its neighbours, or a view."""
    return _FAMILIES.get(node.op) in (Family.FOLDED, Family.VIEW)


def quantities(node: NodeSummary, kernel: Kernel, weight_bytes: float = 0.0) -> dict[str, float]:
    """How much of everything that a kernel charges for a node takes.

    Args:
        node: one node of the network.
        kernel: its blocks; the prices are not looked at.
        weight_bytes: of the whole network: what the cache cannot keep is fetched each time.

    Returns:
        Quantity -> amount. ``calls``; ``macs`` multiply-accumulates in whole blocks, and
        those in ``single`` blocks where kernels of two blocks do not fit; ``columns``
        elements gathered from the input, in ``pieces``; ``steps`` taps times output blocks,
        or those of a sequence; ``rows`` positions; ``outputs`` written, in whole blocks;
        ``reads`` input elements; ``weights`` read; ``spilled`` of them from beyond the cache;
        ``lines`` of the image; ``elements``. Where the channels are no multiple of the
        blocks: ``ragged`` outputs, in ``ragged_calls``, and those ``left`` of whole blocks;
        ``shallow`` pieces, and their ``shallow_macs``.
    """
    kind = family(node)
    if kind in _BLOCKED:
        return _product(node, kernel, weight_bytes)
    if kind is Family.DEPTHWISE:
        return _depthwise(node, kernel)
    if kind is Family.RECURRENT:
        return {"calls": 1, "macs": node.macs, "steps": node.macs / max(1, node.parameters)}
    if kind in _POOLS:
        windows = node.output_elements
        return {"calls": 1, "elements": windows, "steps": windows * (node.taps - 1)}
    if kind is Family.VIEW:
        return {"calls": 1}
    if kind is Family.SLICE:
        return {"calls": 1, "elements": node.output_elements}
    return {"calls": 1, "elements": max(node.input_elements, node.output_elements)}


def _product(node: NodeSummary, kernel: Kernel, weight_bytes: float) -> dict[str, float]:
    rows, width = _rows(node), channels(node)
    depth = node.macs / (rows * width)
    if kernel.joined:
        inputs = _blocks(depth, kernel.input_tile)
    else:
        inputs = _blocks(depth / node.taps, kernel.input_tile) * node.taps
    outputs = _blocks(width, kernel.output_tile)
    macs, shallow = rows * outputs * inputs, depth / node.taps % kernel.input_tile
    left = width % kernel.output_tile
    spilled = max(0.0, 1 - kernel.cache_bytes / weight_bytes) if weight_bytes else 0.0
    return {
        "calls": 1,
        "macs": macs,
        "single": macs if width % (2 * kernel.output_tile) else 0,
        "columns": rows * depth,
        "steps": rows * node.taps * outputs / kernel.output_tile if node.taps > 1 else 0,
        "outputs": rows * outputs,
        "rows": rows,
        "pieces": rows * node.taps if node.taps > 1 else 0,
        "ragged": rows * width if left else 0,
        "ragged_calls": 1 if left else 0,
        "left": rows * left,
        "shallow": rows * node.taps if shallow else 0,
        "shallow_macs": rows * outputs * depth if shallow else 0,
        "reads": node.input_elements,
        "weights": outputs * inputs,
        "spilled": node.parameters * spilled,
    }


def _depthwise(node: NodeSummary, kernel: Kernel) -> dict[str, float]:
    rows, width = _rows(node), channels(node)
    outputs = rows * _blocks(width, kernel.output_tile)
    return {
        "calls": 1,
        "macs": outputs * node.taps,
        "outputs": outputs,
        "rows": rows,
        "reads": node.input_elements,
        "lines": width * prod(node.output_shape[2:-1]),
    }


def channels(node: NodeSummary) -> int:
    """Output channels: on the second axis of a convolution, on the last of a product."""
    if not node.output_shape:
        return 1
    if node.op in _CONVOLUTIONS and len(node.output_shape) > 1:
        return node.output_shape[1]
    return node.output_shape[-1]


def _rows(node: NodeSummary) -> float:
    """Positions at which every output channel is computed."""
    return max(1.0, node.output_elements / channels(node))


def _blocks(count: float, size: int) -> float:
    return float(ceil(count / size) * size)
