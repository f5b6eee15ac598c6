"""Compressed weights: coremltools' optimizer makes them, its own ``decompress_weights`` judges.

The examples of the definition (``iOS18/compression.py`` in coremltools) are checked as they stand.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgekit import mil
from tests.mil.programs import Case, cases, check, ct, floats, mb, saved

cto = ct.optimize.coreml

X = floats(2, 32)
IMAGE = floats(1, 16, 5, 5)
LINEAR = floats(64, 32, seed=1)
CONV = floats(32, 16, 3, 3, seed=2)


def _network(x, image):
    flat = mb.linear(x=x, weight=LINEAR, bias=floats(64, seed=3), name="flat")
    return flat, mb.conv(x=image, weight=CONV, pad_type="same", name="map")


def _linear(**how):
    return lambda m: cto.linear_quantize_weights(m, _all(cto.OpLinearQuantizerConfig(**how)))


def _palettes(**how):
    config = cto.OpPalettizerConfig(mode="uniform", **how)
    return lambda m: cto.palettize_weights(m, _all(config))


def _pruned(**how):
    return lambda m: cto.prune_weights(m, _all(cto.OpMagnitudePrunerConfig(**how)))


def _all(config):
    return cto.OptimizationConfig(global_config=config)


def _joint(first, second):
    return lambda m: second(first(m))


def _jointly(config, function):
    return lambda m: function(m, _all(config), joint_compression=True)


HALF = _pruned(target_sparsity=0.5, weight_threshold=1)
THREE = cto.OpPalettizerConfig(mode="uniform", nbits=4, weight_threshold=1)
EIGHT = cto.OpLinearQuantizerConfig(mode="linear_symmetric", weight_threshold=1)
TENSOR = cto.OpLinearQuantizerConfig(
    mode="linear_symmetric", granularity="per_tensor", weight_threshold=1
)
SMALL = {"weight_threshold": 1}
COMPRESSIONS = {
    "int8": ("iOS16", _linear(mode="linear", **SMALL), {"affine_dequantize"}),
    "int8-symmetric": ("iOS16", _linear(mode="linear_symmetric", **SMALL), {"affine_dequantize"}),
    "int8-per-tensor": (
        "iOS17",
        _linear(mode="linear", granularity="per_tensor", **SMALL),
        {"affine_dequantize"},
    ),
    "uint8": ("iOS16", _linear(mode="linear", dtype="uint8", **SMALL), {"affine_dequantize"}),
    **{
        f"palette-{bits}": ("iOS16", _palettes(nbits=bits, **SMALL), {"lut_to_dense"})
        for bits in (1, 2, 4, 6, 8)
    },
    "pruned": ("iOS16", HALF, {"sparse_to_dense"}),
    **{
        f"ios18-{dtype}-{granularity}": (
            "iOS18",
            _linear(mode="linear", dtype=dtype, granularity=granularity, block_size=16, **SMALL),
            {"blockwise_shift_scale"},
        )
        for dtype in ("int4", "uint4", "int8", "uint8")
        for granularity in ("per_channel", "per_block")
    },
    **{
        f"ios18-palette-{bits}": ("iOS18", _palettes(nbits=bits, **SMALL), {"lut_to_dense"})
        for bits in (1, 2, 3, 4, 6, 8)
    },
    "ios18-palette-grouped": (
        "iOS18",
        _palettes(nbits=4, granularity="per_grouped_channel", group_size=8, **SMALL),
        {"lut_to_dense"},
    ),
    "ios18-palette-scaled": (
        "iOS18",
        _palettes(nbits=4, enable_per_channel_scale=True, **SMALL),
        {"lut_to_dense", "blockwise_shift_scale"},
    ),
    "ios18-pruned": ("iOS18", HALF, {"sparse_to_dense"}),
    "ios18-pruned-palette": (
        "iOS18",
        _joint(HALF, _jointly(THREE, cto.palettize_weights)),
        {"lut_to_sparse", "sparse_to_dense"},
    ),
    "ios18-pruned-int8": (
        "iOS18",
        _joint(HALF, _jointly(EIGHT, cto.linear_quantize_weights)),
        {"sparse_blockwise_shift_scale", "sparse_to_dense"},
    ),
    "ios18-palette-int8": (
        "iOS18",
        _joint(_palettes(nbits=4, **SMALL), _jointly(TENSOR, cto.linear_quantize_weights)),
        {"lut_to_dense", "blockwise_shift_scale"},
    ),
}


@pytest.fixture(scope="module", params=["float16", "float32"])
def models(request, tmp_path_factory):
    """The network for each target, its weights in one precision."""
    precision = getattr(ct.precision, request.param.upper())
    found = {}
    for target in ("iOS16", "iOS17", "iOS18"):
        path = saved(
            tmp_path_factory.mktemp("network"),
            _network,
            {"x": X, "image": IMAGE},
            target,
            compute_precision=precision,
            pass_pipeline=ct.PassPipeline.DEFAULT,
        )
        found[target] = ct.models.MLModel(str(path), skip_model_load=True)
    return found


@pytest.mark.parametrize("name", COMPRESSIONS)
def test_it_is_what_coremltools_expands(name: str, models, tmp_path: Path) -> None:
    target, compress, kinds = COMPRESSIONS[name]
    compressed = compress(models[target])
    compressed.save(str(tmp_path / "small.mlpackage"))
    cto.decompress_weights(compressed).save(str(tmp_path / "large.mlpackage"))
    small, large = (mil.load(tmp_path / f"{size}.mlpackage") for size in ("small", "large"))
    found = {
        op.type.removeprefix("constexpr_") for op in small.operations if "constexpr" in op.type
    }
    assert found == kinds
    for op in small.operations:
        if op.type in {"linear", "conv"}:
            ours, theirs = (_weight(program, op.name) for program in (small, large))
            step = np.finfo(theirs.dtype).eps * np.abs(theirs).max()
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=4 * step)
            assert ours.dtype == theirs.dtype
            assert not np.array_equal(ours, LINEAR if op.type == "linear" else CONV)


def _weight(program, name):
    """The weight of an operation, as ``load`` expanded it."""
    (operation,) = (op for op in program.operations if op.name == name)
    return program.constants[operation.inputs["weight"][0].name]


INDICES = np.array([[2, 3], [3, 0], [1, 0], [3, 0], [2, 1], [0, 3]], np.uint8)
TABLES = np.array([1, 5, 9, 13, 2, 10, 18, 26], np.float16).reshape(2, 1, 4, 1)
EXPECTED = [[9, 13], [13, 1], [5, 1], [26, 2], [18, 10], [2, 26]]
VECTORS = np.array([[[0, 0], [1, 0]], [[1, 1], [0, 0]]], np.uint8)
PAIR = np.array([[1, 2, 3], [4, 5, 6]], np.float16).reshape(1, 1, 1, 2, 3)
ALONG_1 = [
    [[1, 1], [2, 2], [3, 3], [4, 1], [5, 2], [6, 3]],
    [[4, 4], [5, 5], [6, 6], [1, 1], [2, 2], [3, 3]],
]
ALONG_2 = [
    [[1, 2, 3, 1, 2, 3], [4, 5, 6, 1, 2, 3]],
    [[4, 5, 6, 4, 5, 6], [1, 2, 3, 1, 2, 3]],
]
MASK = np.array(
    [[1, 1, 0, 0, 0, 0], [1, 1, 0, 0, 0, 1], [0, 1, 1, 0, 1, 0], [0, 0, 0, 1, 0, 0]], np.uint8
)
SPARSE = np.array([0, 1, 1, 0, 1, 1, 0, 0, 1], np.uint8)
DATA = np.array([10, 11, 3, 4, 5, 6, 7, 8, 9], np.int8)
DATA_MASK = np.array([[1, 1, 0, 0], [1, 1, 1, 0], [0, 0, 1, 1], [1, 1, 0, 0]], np.uint8)
SCALED = [[0.9, 1.8, 0, 0], [0.2, 0.4, 0.6, 0], [0, 0, 0.9, 1.2], [0.7, 1.4, 0, 0]]


def _typed(array, kind):
    return array.astype(ct.converters.mil.mil.types.nptype_from_builtin(kind))


def _defined(name, weight, expected, dtype=np.float16):
    """A weight added to zeros of its shape."""
    expected = np.asarray(expected, np.float32)
    inputs = {"x": np.zeros(expected.shape, dtype)}
    return Case(name, lambda x: mb.add(x=x, y=weight()), inputs, expected, "iOS18", 2e-3)


def _lut(indices, kind, lut, **how):
    types = ct.converters.mil.mil.types
    return lambda: mb.constexpr_lut_to_dense(
        indices=_typed(indices, getattr(types, kind)), lut=lut, **how
    )


def _sparse_lut(lut, **how):
    types = ct.converters.mil.mil.types
    mask, data = mb.constexpr_lut_to_sparse(
        indices_mask=_typed(MASK, types.uint1),
        indices_nonzero_data=_typed(SPARSE, types.uint1),
        lut=np.array(lut, np.float16).reshape(1, 1, 2, -1),
        **how,
    )
    return mb.constexpr_sparse_to_dense(nonzero_data=data, mask=mask)


def _sparse_scale():
    types = ct.converters.mil.mil.types
    mask, data = mb.constexpr_sparse_blockwise_shift_scale(
        data_mask=_typed(DATA_MASK, types.uint1),
        nonzero_data=DATA,
        scale=np.array([[0.1, 0.2, 0.3, 0.4]], np.float16),
        offset=np.array([[1, 2, 3, 4]], np.int8),
    )
    return mb.constexpr_sparse_to_dense(nonzero_data=data, mask=mask)


DENSE = np.where(MASK, 2.0, 0)
DENSE[MASK == 1] = [2, 3, 3, 2, 3, 3, 2, 2, 3]
DEFINED = [
    _defined("grouped", _lut(INDICES, "uint2", TABLES), EXPECTED),
    _defined("vector-1", _lut(VECTORS, "uint1", PAIR, vector_axis=1), ALONG_1),
    _defined("vector-2", _lut(VECTORS, "uint1", PAIR, vector_axis=2), ALONG_2),
    _defined("sparse", lambda: _sparse_lut([2, 3]), DENSE),
    _defined(
        "sparse-vector",
        lambda: _sparse_lut([[2, 2], [3, 3]], vector_axis=0),
        DENSE.repeat(2, axis=0),
    ),
    _defined("sparse-scale", _sparse_scale, SCALED),
    _defined(
        "blocks",
        lambda: mb.constexpr_blockwise_shift_scale(
            data=np.arange(8, dtype=np.int8).reshape(2, 4),
            scale=np.array([[0.5, 2]], np.float16),
            offset=np.array([[1, -1]], np.int8),
        ),
        [[-0.5, 0, 6, 8], [1.5, 2, 14, 16]],
    ),
    _defined(
        "cast",
        lambda: mb.constexpr_cast(source_val=np.array([1.5, 2.5], np.float16), output_dtype="fp32"),
        [1.5, 2.5],
        np.float32,
    ),
]


@cases(*DEFINED)
def test_it_is_as_defined(case: Case, tmp_path: Path) -> None:
    check(case, tmp_path)
