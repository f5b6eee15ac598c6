"""Rewrites of what moves, selects or pads elements; see ``coreml_rewrites``."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from edgekit.formats.coreml_rewriting import Builder, Made, Refused, Rewrite, Shape

_MAX_RANK = 5


def _where(b: Builder) -> Made:
    """All three of one shape: the exporter takes that of one of them for the result's."""
    shapes = [b.shape(name) for name in b.node.input]
    target = np.broadcast_shapes(*shapes)
    if all(shape == target for shape in shapes):
        return None
    return b("Where", *(_expanded(b, name, target) for name in b.node.input))


def _expanded(b: Builder, name: str, target: Shape) -> str:
    if b.shape(name) == target:
        return name
    if name in b.scene.constants:
        return b.constant(np.broadcast_to(b.scene.constants[name], target))
    if b.type(name) == np.bool_:
        wide = b("Expand", b.cast(name, np.int32), b.integers(*target))
        return b.cast(wide, np.bool_)
    return b("Expand", name, b.integers(*target))


def _expand(b: Builder) -> Made:
    """To the whole shape: ONNX broadcasts both ways, and bools are no numbers in Core ML."""
    x = b.node.input[0]
    asked = tuple(int(size) for size in b.fixed(1, "the shape"))
    target = np.broadcast_shapes(b.shape(x), asked)
    if b.shape(x) == target:
        return b("Identity", x)
    if b.type(x) != np.bool_ and asked == target:
        return None
    return _expanded(b, x, target)


def _reshape(b: Builder) -> Made:
    """To a shape in plain numbers: the exporter reads a zero otherwise than ONNX."""
    wanted = b.shape(b.node.output[0])
    listed = b.scene.constants.get(b.node.input[1])
    if listed is not None and tuple(listed.tolist()) == wanted:
        return None
    return b("Reshape", b.node.input[0], b.integers(*wanted))


def _flatten(b: Builder) -> Made:
    return b("Reshape", b.node.input[0], b.integers(*b.shape(b.node.output[0])))


def _shape(b: Builder) -> Made:
    shape = b.shape(b.node.input[0])
    picked = shape[b.attribute("start", 0) : b.attribute("end", len(shape))]
    return b("Identity", b.integers(*picked))


def _size(b: Builder) -> Made:
    return b("Identity", b.constant(np.array(np.prod(b.shape(b.node.input[0])), np.int64)))


def _constant_of_shape(b: Builder) -> Made:
    value = b.attribute("value")
    fill = np.zeros(1, np.float32) if value is None else onnx.numpy_helper.to_array(value)
    return b("Identity", b.constant(np.full(b.shape(b.node.output[0]), fill[0], fill.dtype)))


def _eye_like(b: Builder) -> Made:
    rows, columns = b.shape(b.node.output[0])
    eye = np.eye(rows, columns, b.attribute("k", 0), dtype=b.type(b.node.output[0]))
    return b("Identity", b.constant(eye))


def _range(b: Builder) -> Made:
    start, limit, delta = (b.fixed(i, "a bound").item() for i in range(3))
    steps = np.arange(start, limit, delta).astype(b.type(b.node.input[0]))
    return b("Identity", b.constant(steps))


def _trilu(b: Builder) -> Made:
    x = b.node.input[0]
    k = int(b.fixed(1, "the diagonal").reshape(())) if b.input(1) else 0
    ones = np.ones(b.shape(x)[-2:], bool)
    kept = np.triu(ones, k) if b.attribute("upper", 1) else np.tril(ones, k)
    mask = b.constant(np.broadcast_to(kept, b.shape(x)))
    if b.type(x) == np.bool_:
        return b("And", x, mask)
    return b("Where", mask, x, b.scalar(0, x))


def _one_hot(b: Builder) -> Made:
    depth = int(b.fixed(1, "the depth").reshape(-1)[0])
    off, on = b.fixed(2, "the values")
    places = b.cast(b.node.input[0], np.int32)
    rank = len(b.shape(b.node.output[0]))
    axis = b.attribute("axis", -1) % rank
    size = b.constant(np.array(depth, np.int32))
    below = b("Less", places, b.constant(np.array(0, np.int32)))
    ahead = b("Add", places, b("Mul", b.cast(below, np.int32), size))
    classes = np.arange(depth, dtype=np.int32).reshape([-1] + [1] * (rank - axis - 1))
    hit = b("Equal", b("Unsqueeze", ahead, b.integers(axis)), b.constant(classes))
    target = b.shape(b.node.output[0])
    pair = [b.constant(np.full(target, value)) for value in (on, off)]
    return b("Where", hit, *pair)


def _split(b: Builder) -> Made:
    """Always with the sizes: where they differ, the exporter divides evenly."""
    x, axis = b.node.input[0], b.attribute("axis", 0)
    sizes = [b.shape(name)[axis] for name in b.node.output]
    if b.input(1) and b.fixed(1, "the sizes").tolist() == sizes:
        return None
    return b.several("Split", (x, b.integers(*sizes)), len(sizes), axis=axis)


def _pad(b: Builder) -> Made:
    """On the axes it names; what is not plain zeros or the last two axes is gathered."""
    x, mode = b.node.input[0], b.attribute("mode", "constant")
    shape, pads = b.shape(x), _all_pads(b)
    value = b.fixed(2, "the padding value") if b.input(2) else np.zeros((), b.type(x))
    if b.type(x).kind != "f":
        return _pad_gathered(b, pads, mode, value)
    plain = mode == "constant" and (pads >= 0).all()
    inner = not pads[: len(shape) - 2].any() and mode in ("reflect", "edge") and (pads >= 0).all()
    if (plain or inner) and not b.input(3):
        return None
    if plain:
        flat = b.integers(*pads.T.ravel().tolist())
        return b("Pad", x, flat, b.constant(value.reshape(())))
    return _pad_gathered(b, pads, mode, value)


def _all_pads(b: Builder) -> NDArray[Any]:
    """``[rank, 2]``: before and after every axis."""
    rank = len(b.shape(b.node.input[0]))
    listed = b.fixed(1, "the padding").astype(int).reshape(2, -1).T
    axes = b.fixed(3, "the axes").ravel() % rank if b.input(3) else np.arange(rank)
    pads = np.zeros((rank, 2), int)
    pads[axes.astype(int)] = listed
    return pads


_NUMPY_PAD = {"reflect": "reflect", "edge": "edge", "wrap": "wrap"}


def _pad_gathered(b: Builder, pads: NDArray[Any], mode: str, value: NDArray[Any]) -> str:
    """One Gather for each padded axis; constant values come from a slab beside the tensor."""
    made: str
    made, shape = b.node.input[0], list(b.shape(b.node.input[0]))
    for axis, (before, after) in enumerate(pads.tolist()):
        places = np.arange(max(0, -before), shape[axis] - max(0, -after))
        width = (max(0, before), max(0, after))
        if mode == "constant" and any(width):
            slab = [1 if a == axis else size for a, size in enumerate(shape)]
            filler = b.constant(np.full(slab, value, b.type(b.node.input[0])))
            made = b("Concat", made, filler, axis=axis)
            places = np.pad(places, width, constant_values=shape[axis])
        elif any(width):
            places = np.pad(places, width, mode=_NUMPY_PAD[mode])  # type: ignore[call-overload]
        if any((before, after)):
            made = b("Gather", made, b.integers(*places.tolist()), axis=axis)
            shape[axis] = len(places)
    return made


def _gather_elements(b: Builder) -> Made:
    """GatherND, whose places name every axis."""
    x, picked = b.node.input
    shape, rank = b.shape(picked), len(b.shape(x))
    axis = b.attribute("axis", 0) % rank
    grid = np.indices(shape, dtype=np.int32)
    along = b.cast(picked, np.int32)
    size = b.constant(np.array(b.shape(x)[axis], np.int32))
    below = b("Less", along, b.constant(np.array(0, np.int32)))
    ahead = b("Add", along, b("Mul", b.cast(below, np.int32), size))
    columns = [ahead if a == axis else b.constant(grid[a]) for a in range(rank)]
    last = [b("Unsqueeze", column, b.integers(rank)) for column in columns]
    if rank >= _MAX_RANK:
        raise Refused("its places would have six axes; Core ML has five")
    places = b("Concat", *last, axis=rank) if rank > 1 else last[0]
    return b("GatherND", x, b.cast(places, np.int64))


def _scattered(b: Builder, places: NDArray[Any], updates: str, rows: Shape) -> Made:
    """Updates at fixed places: gathered where the mask says so; of several, the last."""
    if b.attribute("reduction", "none") != "none":
        raise Refused("a reduction over scattered places")
    data = b.node.input[0]
    shape = b.shape(data)
    source = np.full(shape, -1, np.int64)
    source[tuple(places)] = np.arange(int(np.prod(rows))).reshape(rows)
    flat = b("Reshape", updates, b.integers(-1))
    taken = b("Gather", flat, b.constant(np.maximum(source, 0).ravel()), axis=0)
    return b("Where", b.constant(source >= 0), b("Reshape", taken, b.integers(*shape)), data)


def _scatter_nd(b: Builder) -> Made:
    indices = b.fixed(1, "where it writes")
    width, shape = indices.shape[-1], b.shape(b.node.input[0])
    rest = shape[width:]
    outer = [indices[..., a].reshape(*indices.shape[:-1], *[1] * len(rest)) for a in range(width)]
    inner = [
        np.arange(size).reshape([-1 if i == a else 1 for i in range(len(rest))])
        for a, size in enumerate(rest)
    ]
    places = np.broadcast_arrays(*outer, *inner)
    return _scattered(b, np.array(places), b.node.input[2], b.shape(b.node.input[2]))


def _scatter_elements(b: Builder) -> Made:
    indices = b.fixed(1, "where it writes")
    axis = b.attribute("axis", 0) % indices.ndim
    places = np.indices(indices.shape)
    places[axis] = indices
    return _scattered(b, places, b.node.input[2], indices.shape)


def _gather(b: Builder) -> Made:
    """Fixed places are counted from the front: what Core ML makes of negative ones varies."""
    indices = b.scene.constants.get(b.node.input[1])
    axis = b.attribute("axis", 0)
    if indices is None or not (indices < 0).any():
        return None
    size = b.shape(b.node.input[0])[axis]
    ahead = b.constant(np.where(indices < 0, indices + size, indices))
    return b("Gather", b.node.input[0], ahead, axis=axis)


LAYOUT: dict[str, Rewrite] = {
    "ConstantOfShape": _constant_of_shape,
    "Expand": _expand,
    "EyeLike": _eye_like,
    "Flatten": _flatten,
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "OneHot": _one_hot,
    "Pad": _pad,
    "Range": _range,
    "Reshape": _reshape,
    "ScatterElements": _scatter_elements,
    "ScatterND": _scatter_nd,
    "Shape": _shape,
    "Size": _size,
    "Split": _split,
    "Trilu": _trilu,
    "Where": _where,
}
