"""Rewrites of what moves, selects, pads, pools or resizes elements; see ``coreml_rewrites``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import helper

from edgekit.formats.coreml_rewriting import Builder, Made, Refused, Rewrite, Shape

_MAX_RANK = 5
_IMAGE_RANK = 4


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


def _depth_to_space(b: Builder) -> Made:
    """In steps that stay within Core ML's five axes."""
    x, size = b.node.input[0], b.attribute("blocksize")
    n, c, h, w = b.shape(x)
    kept = c // size**2
    if b.attribute("mode", "DCR") == "CRD":
        split = b("Reshape", x, b.integers(n * kept, size, size, h, w))
        moved = b("Transpose", split, perm=[0, 3, 1, 4, 2])
    else:
        rows = b("Reshape", x, b.integers(n, size, size * kept, h, w))
        tall = b("Transpose", rows, perm=[0, 2, 3, 1, 4])
        columns = b("Reshape", tall, b.integers(n, size, kept, h * size, w))
        moved = b("Transpose", columns, perm=[0, 2, 3, 4, 1])
    return b("Reshape", moved, b.integers(n, kept, h * size, w * size))


def _space_to_depth(b: Builder) -> Made:
    x, size = b.node.input[0], b.attribute("blocksize")
    n, c, h, w = b.shape(x)
    if b.attribute("mode", "DCR") == "CRD":
        split = b("Reshape", x, b.integers(n * c, h // size, size, w // size, size))
        whole = b("Transpose", split, perm=[0, 2, 4, 1, 3])
        return b("Reshape", whole, b.integers(n, c * size * size, h // size, w // size))
    columns = b("Reshape", x, b.integers(n, c, h, w // size, size))
    narrow = b("Transpose", columns, perm=[0, 4, 1, 2, 3])
    rows = b("Reshape", narrow, b.integers(n, size * c, h // size, size, w // size))
    moved = b("Transpose", rows, perm=[0, 3, 1, 2, 4])
    return b("Reshape", moved, b.integers(n, size * size * c, h // size, w // size))


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


def _conv_transpose(b: Builder) -> Made:
    """Padding in numbers, and no output padding: it is less padding at the end."""
    b.fixed(1, "its weight")
    x, weight = b.node.input[:2]
    spatial = len(b.shape(x)) - 2
    attributes = b.attributes()
    extra = attributes.pop("output_padding", [0] * spatial)
    asked = attributes.pop("output_shape", None)
    auto = attributes.pop("auto_pad", b"NOTSET")
    if asked is None and auto in (b"NOTSET", b"VALID") and not any(extra):
        return None
    kernel = b.shape(weight)[2:]
    strides = attributes.get("strides", [1] * spatial)
    dilations = attributes.get("dilations", [1] * spatial)
    given = attributes.get("pads", [0] * spatial * 2)
    wanted = b.shape(b.node.output[0])[2:]
    begins, ends = [], []
    for a in range(spatial):
        full = strides[a] * (b.shape(x)[2 + a] - 1) + (kernel[a] - 1) * dilations[a] + 1
        total = full - wanted[a]
        begin = given[a]
        if asked is not None or auto in (b"SAME_UPPER", b"SAME_LOWER"):
            shared = max(total, 0)
            begin = shared - shared // 2 if auto == b"SAME_LOWER" else shared // 2
        begins.append(begin)
        ends.append(total - begin)
    return _transposed(b, attributes, begins, ends)


def _transposed(b: Builder, attributes: dict[str, Any], begins: list[int], ends: list[int]) -> str:
    """A transposed convolution; what it should give beyond its full size is bias alone."""
    x, weight = b.node.input[:2]
    inner = [max(0, pad) for pad in (*begins, *ends)]
    made = b("ConvTranspose", x, weight, **attributes | {"pads": inner})
    outer = [[max(0, -pad) for pad in side] for side in (begins, ends)]
    if any(outer[0]) or any(outer[1]):
        made = b("Pad", made, b.integers(0, 0, *outer[0], 0, 0, *outer[1]))
    if not b.input(2):
        return made
    shape = [1, -1] + [1] * len(begins)
    return b("Add", made, b("Reshape", b.node.input[2], b.integers(*shape)))


def _fixed_weight(b: Builder) -> Made:
    b.fixed(1, "its weight")
    return None


def _resize(b: Builder) -> Made:
    """A product with a fixed matrix for each axis, where the exporter has no kernel.

    Interpolation is linear in the image: what a resize makes of the unit vectors is its
    matrix, and ONNX Runtime makes it.
    """
    x, mode = b.node.input[0], b.attribute("mode", "nearest")
    before, after = b.shape(x), b.shape(b.node.output[0])
    coordinates = b.attribute("coordinate_transformation_mode", "half_pixel")
    if len(before) == _IMAGE_RANK and before[:2] == after[:2] and _has_kernel(b, mode, coordinates):
        return None
    if b.attribute("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise Refused("it keeps an aspect ratio: export it with fixed sizes")
    if coordinates == "tf_crop_and_resize":
        raise Refused("it crops and resizes in one")
    if coordinates == "align_corners" and any(
        (_scale(b, axis) or 1) * size % 1 for axis, size in enumerate(before)
    ):
        raise Refused("its corners meet at a fraction of a pixel, which runtimes round otherwise")
    made, current = x, list(before)
    for axis, (small, large) in enumerate(zip(before, after, strict=True)):
        if small == large and not _scale(b, axis):
            continue
        matrix = _resize_matrix(b, axis, small, large)
        last = len(before) - 1
        order = [a for a in range(last + 1) if a != axis] + [axis]
        moved = b("Transpose", made, perm=order) if axis != last else made
        made = b("MatMul", moved, b.constant(matrix.astype(b.type(x))))
        if axis != last:
            made = b("Transpose", made, perm=[int(a) for a in np.argsort(order)])
        current[axis] = large
    return b("Identity", made) if made == x else made


def _has_kernel(b: Builder, mode: str, coordinates: str) -> bool:
    if b.attribute("antialias", 0) or b.attribute("axes"):
        return False
    if mode == "nearest":
        return coordinates in ("asymmetric", "half_pixel") and bool(b.input(2) or b.input(3))
    return False


def _scale(b: Builder, axis: int) -> float | None:
    """The scale of an axis, where it is given as such and changes anything."""
    if not b.input(2):
        return None
    scales = b.fixed(2, "the scales")
    axes = b.attribute("axes") or range(len(b.shape(b.node.input[0])))
    by_axis = dict(zip(axes, scales.tolist(), strict=False))
    scale = float(by_axis.get(axis, 1.0))
    return None if scale == 1.0 else scale


def _resize_matrix(b: Builder, axis: int, small: int, large: int) -> NDArray[Any]:
    """``[small, large]``: what the resize makes of each unit vector."""
    attributes = b.attributes()
    for name in ("axes", "keep_aspect_ratio_policy"):
        attributes.pop(name, None)
    scale = _scale(b, axis)
    if scale is None:
        inputs, extra = ["x", "", "", "s"], np.array([small, large], np.int64)
    else:
        inputs, extra = ["x", "", "s"], np.array([1.0, scale], np.float32)
    node = helper.make_node("Resize", inputs, ["y"], **attributes)
    eye = np.eye(small, dtype=np.float32)
    values = [helper.make_tensor_value_info(n, 1, None) for n in "xy"]
    graph = helper.make_graph(
        [node], "resize", values[:1], values[1:], [onnx.numpy_helper.from_array(extra, "s")]
    )
    opsets = [helper.make_opsetid("", b.scene.opset)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return np.asarray(session.run(None, {"x": eye})[0])


def _pool(b: Builder) -> Made:
    if any(d != 1 for d in b.attribute("dilations", [1])):
        raise Refused("its window has holes (dilations)")
    if len([name for name in b.node.output if name]) > 1:
        raise Refused("it also gives the places of the maxima")
    if not b.attribute("ceil_mode", 0):
        return None
    downward, upward = _pooled(b, np.floor), _pooled(b, np.ceil)
    wanted = b.shape(b.node.output[0])[2:]
    if wanted == upward != downward:
        return None
    # A window that would begin in the padding is left out: as if sizes were rounded down.
    if wanted != downward:
        raise Refused("some of its windows begin in the padding")
    return b(b.node.op_type, b.node.input[0], **b.attributes() | {"ceil_mode": 0})


def _pooled(b: Builder, rounded: Callable[[float], float]) -> Shape:
    """The spatial size of what a pool gives, by the plain formula."""
    sizes, kernel = b.shape(b.node.input[0])[2:], b.attribute("kernel_shape")
    pads = b.attribute("pads", [0] * 2 * len(sizes))
    strides = b.attribute("strides", [1] * len(sizes))
    return tuple(
        int(rounded((size + pads[a] + pads[a + len(sizes)] - kernel[a]) / strides[a])) + 1
        for a, size in enumerate(sizes)
    )


def _lp_pool(b: Builder) -> Made:
    """By the mean of powers, times the size of the window."""
    if b.attribute("ceil_mode", 0) or any(d != 1 for d in b.attribute("dilations", [1])):
        raise Refused("its window has holes, or reaches beyond the padding")
    x, p = b.node.input[0], b.attribute("p", 2)
    attributes = b.attributes() | {"count_include_pad": 1}
    for name in ("p", "ceil_mode", "dilations"):
        attributes.pop(name, None)
    size = float(np.prod(b.attribute("kernel_shape")))
    powers = b("Pow", b("Abs", x), b.scalar(p, x))
    mean = b("AveragePool", powers, **attributes)
    return b("Pow", b("Mul", mean, b.scalar(size, x)), b.scalar(1 / p, x))


LAYOUT: dict[str, Rewrite] = {
    "AveragePool": _pool,
    "ConstantOfShape": _constant_of_shape,
    "Conv": _fixed_weight,
    "ConvTranspose": _conv_transpose,
    "DepthToSpace": _depth_to_space,
    "Expand": _expand,
    "EyeLike": _eye_like,
    "Flatten": _flatten,
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "LpPool": _lp_pool,
    "MaxPool": _pool,
    "OneHot": _one_hot,
    "Pad": _pad,
    "Range": _range,
    "Reshape": _reshape,
    "Resize": _resize,
    "ScatterElements": _scatter_elements,
    "ScatterND": _scatter_nd,
    "Shape": _shape,
    "Size": _size,
    "SpaceToDepth": _space_to_depth,
    "Split": _split,
    "Trilu": _trilu,
    "Where": _where,
}
