"""Rewrites of convolutions, pools and resizing; see ``coreml_rewrites``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import helper

from edgekit.formats.coreml_rewriting import Builder, Made, Refused, Rewrite, Shape

_IMAGE_RANK = 4


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


IMAGE: dict[str, Rewrite] = {
    "AveragePool": _pool,
    "Conv": _fixed_weight,
    "ConvTranspose": _conv_transpose,
    "DepthToSpace": _depth_to_space,
    "LpPool": _lp_pool,
    "MaxPool": _pool,
    "Resize": _resize,
    "SpaceToDepth": _space_to_depth,
}
