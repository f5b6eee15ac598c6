"""Pruning channels without training: which, how many of each dimension, and the fit after it."""

from __future__ import annotations

from collections.abc import Sequence

import onnx
from msgspec import Struct

from edgekit import inspection
from edgekit.compression import fractions, layers, refit, saliency
from edgekit.compression.activations import Sample, shifted
from edgekit.compression.differences import before_softmax, difference, outputs
from edgekit.compression.groups import Coupling, Dimension, coupling
from edgekit.compression.layers import Layer
from edgekit.compression.surgery import without
from edgekit.errors import ModelError


class Terms(Struct, frozen=True, kw_only=True):
    """How channels are pruned.

    Attributes:
        fraction: of the network's multiply-accumulates that are to go.
        multiple: of what the channels left in a layer are a multiple; kernels take them by
            four or eight.
        ridge: how strongly fitted weights keep to what they were, as a share of the mean
            variance of what they multiply.
        rows: how many windows a layer is fitted on, about.
        shifted: copies of each sample, moved a little, that it is fitted on, too.
    """

    fraction: float
    multiple: int = 4
    ridge: float = 0.03
    rows: int = 20_000
    shifted: int = 1


class Cut(Struct, frozen=True):
    """One dimension's channels: how many there were, and which are to go."""

    dimension: Dimension
    removed: tuple[int, ...]


def pruned(
    model: onnx.ModelProto,
    samples: Sequence[Sample],
    terms: Terms,
    spatial: dict[str, tuple[int, ...]] | None = None,
) -> tuple[onnx.ModelProto, tuple[Cut, ...]]:
    """The network without some of its channels, the rest fitted to what it computed.

    Args:
        model: a normalised graph; it is not changed.
        samples: what it is fitted on, without labels.
        terms: how much, and how.
        spatial: input name -> its axes of place or time, along which a sample may be moved.

    Raises:
        ModelError: nothing can be removed, or not so much.
    """
    whole = onnx.shape_inference.infer_shapes(model)
    coupled = coupling(whole)
    fitted_on = shifted(samples, spatial, terms.shifted) if spatial else samples
    found = layers.layers(whole, max(1, terms.rows // len(fitted_on)))
    cuts = chosen(whole, coupled, found, samples, terms)
    removed = [channel for cut in cuts for channel in cut.removed]
    smaller = without(whole, coupled, removed)
    return refit.refitted(smaller, whole, found, coupled, removed, fitted_on, terms.ridge), cuts


def chosen(
    whole: onnx.ModelProto,
    coupled: Coupling,
    found: Sequence[Layer],
    samples: Sequence[Sample],
    terms: Terms,
) -> tuple[Cut, ...]:
    """Which channels go: in each dimension those missed least, as many as serve the goal best.

    Runs the network on the samples a number of times that grows with its layers.
    """
    dimensions = prunable(coupled, terms.multiple)
    reading = saliency.readers(whole, coupled, found, samples)
    output = before_softmax(whole)
    told = outputs(whole, output, samples)
    orders = [_order(whole, coupled, one, reading, terms) for one in dimensions]

    def table(dimension: Dimension, order: Sequence[int]) -> tuple[fractions.Level, ...]:
        readers = saliency.of(dimension, reading)

        def error(count: int) -> float:
            smaller = without(whole, coupled, order[:count])
            saliency.compensate(smaller, readers, order[:count], terms.ridge)
            return difference(outputs(smaller, output, samples), told)

        return fractions.sensitivity(dimension, terms.multiple, error)

    tables = [table(one, order) for one, order in zip(dimensions, orders, strict=True)]
    macs = inspection.macs(whole)
    weights = {node.input[1] for node in whole.graph.node if len(node.input) > 1}
    width = fractions.width(coupled, dimensions, macs, weights)
    goal = (1 - terms.fraction) * sum(macs.values())
    counts = fractions.allocate(tables, width, goal)
    if width.left(counts) > goal:
        most = 1 - width.left(counts) / sum(macs.values())
        raise ModelError(
            f"{terms.fraction:.0%} of the multiply-accumulates cannot be pruned: {most:.0%} is "
            "the most",
            "ask for less",
        )
    return tuple(
        Cut(one, tuple(order[:count]))
        for one, order, count in zip(dimensions, orders, counts, strict=True)
    )


def prunable(coupled: Coupling, multiple: int) -> tuple[Dimension, ...]:
    """The dimensions that can give channels up.

    Raises:
        ModelError: there are none; the message says why.
    """
    found = tuple(one for one in coupled.dimensions if fractions.levels(one, multiple))
    if not found:
        reasons = dict.fromkeys(one.reason for one in coupled.dimensions if one.reason)
        told = "; ".join(reasons) or f"no layer has more than {multiple} channels"
        raise ModelError(f"no channel can be pruned: {told}")
    return found


def _order(
    whole: onnx.ModelProto,
    coupled: Coupling,
    dimension: Dimension,
    reading: dict[str, saliency.Reader],
    terms: Terms,
) -> list[int]:
    """By second-order saliency where the readers are understood, else by magnitude."""
    readers = saliency.of(dimension, reading)
    if readers:
        return saliency.by_error(dimension, readers, terms.ridge)
    return saliency.by_magnitude(whole, coupled, dimension)
