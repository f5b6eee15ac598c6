"""Resizing against ONNX Runtime where it has the mode, and values measured on Core ML.

The numbers marked "Core ML" are those that coremltools' own tests expect of it on a Mac.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

from edgekit import mil
from edgekit.errors import ToolError
from tests.mil.programs import Case, cases, check, floats, mb, saved

X = floats(1, 2, 5, 7)
PAIR = np.float32([[[0, 1]]])
SQUARE = np.arange(1, 17, dtype=np.float32).reshape(1, 1, 4, 4)
CORNERS = np.float32([[[[11, 22], [33, 44]]]])
PLACES = np.float32([[[[-1, -2], [-3.7, -1]], [[0, 0], [3.5, 1.2]]]])


def _onnx(x, height, width, mode, coordinates, nearest="floor"):
    attributes = {"mode": mode, "coordinate_transformation_mode": coordinates}
    if mode == "nearest":
        attributes["nearest_mode"] = nearest
    node = helper.make_node("Resize", ["x", "", "", "sizes"], ["y"], **attributes)
    sizes = helper.make_tensor("sizes", TensorProto.INT64, [4], [*x.shape[:2], height, width])
    graph = helper.make_graph(
        [node],
        "resize",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [sizes],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return session.run(None, {"x": x})[0]


def _case(name, expected, x=X, target="iOS16", **parameters):
    op = name.split("-")[0]
    return Case(name, lambda x: getattr(mb, op)(x=x, **parameters), {"x": x}, expected, target)


def _bilinear(mode, height, width):
    return {"sampling_mode": mode, "target_size_height": height, "target_size_width": width}


def _scales(height, width):
    return {"scale_factor_height": height, "scale_factor_width": width}


def _line(mode, expected):
    name = f"resize_bilinear-{mode}-coreml"
    return _case(name, np.float32([[expected]]), PAIR, **_bilinear(mode, 1, 5))


BILINEAR = [
    _line("STRICT_ALIGN_CORNERS", [0, 0.25, 0.5, 0.75, 1]),
    _line("DEFAULT", [0, 0.4, 0.8, 1, 1]),
    _line("OFFSET_CORNERS", [0.1, 0.3, 0.5, 0.7, 0.9]),
    _line("UNALIGN_CORNERS", [0, 0.1, 0.5, 0.9, 1]),
    *(
        _case(
            f"resize_bilinear-{mode}-{h}", _onnx(X, h, w, "linear", name), **_bilinear(mode, h, w)
        )
        for mode, name in (
            ("STRICT_ALIGN_CORNERS", "align_corners"),
            ("DEFAULT", "asymmetric"),
            ("UNALIGN_CORNERS", "half_pixel"),
        )
        for h, w in ((10, 14), (3, 9))
    ),
    _case("resize_bilinear-one", [[[0.5]]], PAIR, **_bilinear("ALIGN_CORNERS", 1, 1)),
    _case(
        "upsample_bilinear-aligned",
        _onnx(X, 10, 21, "linear", "align_corners"),
        **_scales(2, 3),
        align_corners=True,
    ),
    _case(
        "upsample_bilinear-half",
        _onnx(X, 10, 21, "linear", "half_pixel"),
        **_scales(2, 3),
        align_corners=False,
    ),
    _case(
        "upsample_bilinear-asymmetric",
        _onnx(X, 10, 21, "linear", "asymmetric"),
        **_scales(2, 3),
        align_corners=False,
        half_pixel_centers=False,
    ),
    _case(
        "upsample_bilinear-fractional-coreml",
        [[[0, 0.1, 0.5, 0.9, 1]]],
        PAIR,
        **_scales(1.0, 2.6),
        align_corners=False,
    ),
    _case(
        "resize-linear",
        _onnx(X, 10, 3, "linear", "asymmetric"),
        target="iOS17",
        shape=[10, 3],
        resized_dims=np.uint32(2),
        sampling_mode="DEFAULT",
    ),
]
NEAREST = [
    _case(
        "upsample_nearest_neighbor",
        _onnx(X, 10, 21, "nearest", "asymmetric"),
        **_scales(2, 3),
    ),
    _case(
        "upsample_nearest_neighbor-fractional-coreml",
        [[[[1.5, -2.5]] * 3]],
        np.float32([[[[1.5, -2.5, 3.5]]]]),
        **_scales(3.17, 0.67),
    ),
    _case(
        "resize_nearest_neighbor",
        _onnx(X, 8, 14, "nearest", "half_pixel", "round_prefer_ceil"),
        target_size_height=8,
        target_size_width=14,
    ),
    _case(
        "resize-nearest-coreml",
        [[[[-6.174, -6.174], [9.371, 9.371], [9.371, 9.371]]]],
        np.float32([[[[-6.174], [9.371]]]]),
        "iOS17",
        shape=[1, 1, 3, 2],
        resized_dims=np.uint32(2),
        interpolation_mode="NEAREST_NEIGHBOR",
        sampling_mode="DEFAULT",
    ),
]


def _roi(name, box, expected, size, **how):
    roi = np.float32(box).reshape(1, 1, -1, 1, 1)
    how = {"sampling_mode": "ALIGN_CORNERS"} | how
    expected = np.float32(expected).reshape(1, 1, 1, size, size)
    sizes = {"target_height": size, "target_width": size}
    return _case(f"crop_resize-{name}", expected, SQUARE, roi=roi, **sizes, **how)


THIRDS = [[6, 19 / 3, 20 / 3, 7], [22 / 3, 23 / 3, 8, 25 / 3]]
CROPS = [
    _roi("coreml", [1, 1, 2, 2], [6, 7, 10, 11], 2),
    _roi(
        "fine-coreml",
        [1, 1, 2, 2],
        [*THIRDS, [26 / 3, 9, 28 / 3, 29 / 3], [10, 31 / 3, 32 / 3, 11]],
        4,
    ),
    _roi("one-coreml", [1, 1, 2, 2], [8.5], 1),
    _roi("inverted-coreml", [2, 2, 1, 1], [11, 10, 7, 6], 2),
    _roi(
        "normalized-coreml", [0, 0, 0, 1 / 3, 1 / 3], [1, 2, 5, 6], 2, normalized_coordinates=True
    ),
    _roi("width-first", [1, 0, 2, 3], [2, 3, 14, 15], 2, box_coordinate_mode="CORNERS_WIDTH_FIRST"),
    _roi(
        "centre", [1.5, 1, 3, 2], [1, 3, 13, 15], 2, box_coordinate_mode="CENTER_SIZE_HEIGHT_FIRST"
    ),
    _roi("scaled", [2, 2, 4, 4], [6, 7, 10, 11], 2, spatial_scale=0.5),
    # RoI Align with one sample: bins of 1.5, their centres at 0.75 and 2.25.
    _roi("offset", [0, 0, 3, 3], [4.75, 6.25, 10.75, 12.25], 2, sampling_mode="OFFSET_CORNERS"),
    _roi("unalign", [0, 0, 3, 3], [3.5, 5.5, 11.5, 13.5], 2, sampling_mode="UNALIGN_CORNERS"),
    _case(
        "crop_resize-boxes-coreml",
        np.float32([3.1, 5.2, 10, 10, 10, 7.9, 10, 13.9, 2.2, 3.1, 9.4, 10.3]).reshape(3, 1, 2, 2),
        SQUARE,
        "iOS17",
        boxes=np.float32([[0.1, 0.3, 1.3, 1], [0.5, 1.8, 1, 0.3], [0, 0.4, 0.6, 0.7]]),
        box_indices=np.int32([0, 0, 0]),
        target_height=2,
        target_width=2,
        normalized_coordinates=True,
        sampling_mode="ALIGN_CORNERS",
        pad_value=10.0,
    ),
]


def _sampled(expected, *modes):
    sampling, padding, coordinates, align, value = modes

    def build(x, at):
        return mb.resample(
            x=x,
            coordinates=at,
            sampling_mode=sampling,
            padding_mode=padding,
            padding_value=value,
            coordinates_mode=coordinates,
            align_corners=align,
        )

    expected = np.float32(expected).reshape(1, 1, 2, 2)
    name = f"resample-{padding}-coreml"
    return Case(name, build, {"x": CORNERS, "at": PLACES}, expected, tolerance=1e-4)


def _affine(height, width, expected):
    matrix = np.float32([[-1, -2, -3.7, -1, 3.5, 1.2]])
    return _case(
        f"affine-{height}-coreml",
        np.float32(expected).reshape(1, 1, height, width),
        CORNERS,
        transform_matrix=matrix,
        output_height=height,
        output_width=width,
        sampling_mode="bilinear",
        padding_mode="constant",
        padding_value=0.0,
        coordinates_mode="normalized_minus_one_to_one",
        align_corners=True,
    )


ONE, ZERO = "normalized_minus_one_to_one", "normalized_zero_to_one"
SAMPLED = [
    _sampled([8.585, 6.17, 27.5, 6.17], "bilinear", "constant", ONE, True, 6.17),
    _sampled([11, 11, 11, 44], "nearest", "border", "unnormalized", False, -1.0),
    _sampled([22, 36.3, 11, 34.1], "bilinear", "reflection", ZERO, True, -1.0),
    _sampled([22, 33, 11, 33], "nearest", "symmetric", ZERO, False, -1.0),
    _affine(3, 3, [10.752501, 2.5025, 0, 1.98, 0, 0, 0, 0, 0]),
    _affine(2, 5, [10.752501, 5.94, 2.5025, 0.44, 0, 0, 0, 0, 0, 0]),
]


@cases(*BILINEAR, *NEAREST)
def test_resize(case: Case, tmp_path: Path) -> None:
    check(case, tmp_path)


@cases(*CROPS, *SAMPLED)
def test_crop_and_sample(case: Case, tmp_path: Path) -> None:
    check(case, tmp_path)


def test_a_tie_is_refused(tmp_path: Path) -> None:
    how = {"shape": [5, 14], "resized_dims": np.uint32(2)}
    names = {"interpolation_mode": "NEAREST_NEIGHBOR", "sampling_mode": "DEFAULT"}
    path = saved(tmp_path, lambda x: mb.resize(x=x, **how, **names), {"x": X}, "iOS17")
    with pytest.raises(ToolError, match="equally near"):
        mil.evaluate(mil.load(path), {"x": X})
