"""Pruned recipes, and what a network looks like to the cost model once channels are gone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import sqrt

from msgspec import structs

from edgekit.domain import Channels, ModelSummary, NodeSummary, Recipe
from edgekit.planning import rates
from edgekit.planning.kernels import Family, family
from edgekit.planning.question import Question
from edgekit.planning.recipes import Unreachable

_IMAGE_AXES = 4
_CONVOLUTIONS = (Family.CONV.value, Family.POINTWISE.value)
_FEWEST, _MOST = 4, 16
"""Channels. In wider blocks narrow layers have nothing to give, and the others too much."""


def pruned(
    found: Iterable[Recipe | Unreachable], fraction: float, question: Question
) -> Iterator[Recipe]:
    """The same recipes, each with the pruning before it."""
    for recipe in found:
        if isinstance(recipe, Recipe):
            multiple = _multiple(recipe, question)
            yield structs.replace(recipe, pruning=Channels(fraction, multiple))


def _multiple(recipe: Recipe, question: Question) -> int:
    """How many channels the device's convolutions compute at once: fewer take as long."""
    known = rates.measured(question.basis.calibration, recipe)
    known = known or rates.scaled(question.profile, recipe)
    kernels = [known.kernels[name] for name in _CONVOLUTIONS if name in known.kernels]
    tile = max((kernel.output_tile for kernel in kernels), default=_FEWEST)
    return min(max(1 << (tile.bit_length() - 1), _FEWEST), _MOST)


def scaled(summary: ModelSummary, pruning: Channels | None) -> ModelSummary:
    """The network as it would be if every layer gave up its share.

    A convolution with a window loses taps, and gives as much as before. Of others the work
    falls with what they read and with what they make, so each of them falls by the root of
    what is left. Which layers give how much is known only when it is done, and what is live
    at once may be what those make that give nothing.
    """
    if pruning is None:
        return summary
    left = 1 - pruning.fraction
    nodes = tuple(_scaled(node, left) for node in summary.nodes)
    return structs.replace(
        summary,
        nodes=nodes,
        parameters=sum(node.parameters for node in nodes),
        parameter_bytes=sum(node.parameter_bytes for node in nodes),
        macs=sum(node.macs for node in nodes),
    )


def _scaled(node: NodeSummary, left: float) -> NodeSummary:
    """A depthwise layer reads only what it makes."""
    windowed = family(node) is Family.CONV
    width = 1.0 if windowed else sqrt(left)
    work = width if node.channelwise else left
    shape = node.output_shape
    if len(shape) == _IMAGE_AXES:
        shape = (shape[0], max(1, round(shape[1] * width)), *shape[2:])
    return structs.replace(
        node,
        macs=round(node.macs * work),
        parameters=round(node.parameters * work),
        parameter_bytes=round(node.parameter_bytes * work),
        input_elements=round(node.input_elements * width),
        output_elements=round(node.output_elements * width),
        output_shape=shape,
        group=max(1, round(node.group * width)) if node.channelwise else node.group,
        taps=max(2, round(node.taps * left)) if windowed else node.taps,
    )
