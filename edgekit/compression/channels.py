"""Pruning without training: which channels and taps go, how many of each, and the fit after it.

Channels save time in the blocks that kernels compute at once; a kernel's taps, gone from its
ends, save it one by one. (Kernels of other shapes: Wen, Wu, Wang, Chen, Li: "Learning Structured
Sparsity in Deep Neural Networks", NIPS 2016.)
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from statistics import fmean

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
    positions = max(1, terms.rows // len(fitted_on))
    found = layers.layers(whole, positions)
    cuts = chosen(whole, coupled, found, samples, terms)
    removed = [channel for cut in cuts for channel in cut.removed]
    smaller = without(whole, coupled, removed)
    left = layers.layers(smaller, positions)
    return refit.refitted(smaller, whole, left, coupled, removed, fitted_on, terms.ridge), cuts


def chosen(
    whole: onnx.ModelProto,
    coupled: Coupling,
    found: Sequence[Layer],
    samples: Sequence[Sample],
    terms: Terms,
) -> tuple[Cut, ...]:
    """Which channels go: in each dimension those missed least, as many as serve the goal best.

    Each half of the samples judges what the other chose and was fitted to: to samples that
    they were fitted to, a network's last layers seem to be free. Runs the network on the
    samples a number of times that grows with its layers.
    """
    dimensions = prunable(coupled, terms.multiple)
    output = before_softmax(whole)
    halves = [half for half in (samples[::2], samples[1::2]) if half]
    read = [saliency.readers(whole, coupled, found, half) for half in halves]
    told = [outputs(whole, output, half) for half in halves]

    def table(dimension: Dimension) -> tuple[fractions.Level, ...]:
        orders = [_order(whole, coupled, dimension, half, terms) for half in read]
        readers = [saliency.of(dimension, half) for half in read]

        def error(count: int) -> float:
            missed = []
            for order, fitting, judging, its in zip(
                orders, readers, reversed(halves), reversed(told), strict=True
            ):
                smaller = without(whole, coupled, order[:count])
                saliency.compensate(smaller, fitting, order[:count], terms.ridge)
                missed.append(difference(outputs(smaller, output, judging), its))
            return fmean(missed)

        return fractions.sensitivity(dimension, _multiple(dimension, terms.multiple), error)

    tables = [table(one) for one in dimensions]
    macs = inspection.macs(whole)
    matrices = {node.input[1] for node in whole.graph.node if len(node.input) > 1}
    sizes = {t.name: prod(t.dims) for t in whole.graph.initializer if t.name in matrices}
    width = fractions.width(coupled, dimensions, macs, sizes)
    goal = (1 - terms.fraction) * sum(macs.values())
    counts = fractions.allocate(tables, width, goal)
    if width.left(counts) > goal:
        most = 1 - width.left(counts) / sum(macs.values())
        raise ModelError(
            f"{terms.fraction:.0%} of the multiply-accumulates cannot be pruned: {most:.0%} is "
            "the most",
            "ask for less",
        )
    reading = saliency.readers(whole, coupled, found, samples)
    return tuple(
        Cut(one, tuple(_order(whole, coupled, one, reading, terms)[:count]) if count else ())
        for one, count in zip(dimensions, counts, strict=True)
    )


def prunable(coupled: Coupling, multiple: int) -> tuple[Dimension, ...]:
    """The dimensions that can give channels up.

    Raises:
        ModelError: there are none; the message says why.
    """
    found = tuple(
        one for one in coupled.dimensions if fractions.levels(one, _multiple(one, multiple))
    )
    if not found:
        reasons = dict.fromkeys(one.reason for one in coupled.dimensions if one.reason)
        told = "; ".join(reasons) or f"no layer has more than {multiple} channels"
        raise ModelError(f"no channel can be pruned: {told}")
    return found


def _multiple(dimension: Dimension, multiple: int) -> int:
    """Of what is left of it; a kernel loses one tap after another."""
    return multiple if dimension.kernel_axis is None else 1


def _order(
    whole: onnx.ModelProto,
    coupled: Coupling,
    dimension: Dimension,
    reading: Sequence[saliency.Reader],
    terms: Terms,
) -> list[int]:
    """By second-order saliency where the readers are understood, else by magnitude.

    Taps have their order: from a kernel's ends.
    """
    if dimension.kernel_axis is not None:
        return list(dimension.channels)
    readers = saliency.of(dimension, reading)
    if readers:
        return saliency.by_error(dimension, readers, terms.ridge)
    return saliency.by_magnitude(whole, coupled, dimension)
