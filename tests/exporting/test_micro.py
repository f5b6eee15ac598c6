"""TFLite Micro's kernels and its memory planner, as edgekit counts them."""

from __future__ import annotations

import pytest

from edgekit.errors import UsageError
from edgekit.exporting import micro, tflite
from edgekit.exporting.tflite import Graph, Operator, Tensor
from tests.paths import ASSETS, needs_assets

MODELS = ASSETS / "models"


def tensor(size: int, *, dtype: str = "int8", constant: bool = False) -> Tensor:
    return Tensor(shape=(1, size), dtype=dtype, constant=constant, variable=False)


def chain(*sizes: int) -> Graph:
    """Operators one after the other, over tensors of so many bytes."""
    return Graph(
        tensors=tuple(tensor(size) for size in sizes),
        inputs=(0,),
        outputs=(len(sizes) - 1,),
        operators=tuple(
            Operator(name="RELU", inputs=(i,), outputs=(i + 1,)) for i in range(len(sizes) - 1)
        ),
    )


@pytest.mark.parametrize(
    ("sizes", "planned"),
    [
        ((160,), 160),
        ((10, 10), 32),
        ((160, 320), 480),
        # The first and the third never live together, and share their place.
        ((160, 320, 160), 480),
        ((320, 160, 320, 160), 480),
    ],
)
def test_tensors_share_what_they_do_not_need_at_once(sizes: tuple[int, ...], planned: int) -> None:
    assert micro.arena([chain(*sizes)]).tensors == planned


def test_planning_takes_memory_of_its_own() -> None:
    """Of small networks more than the tensors: TFLM has no room to plan in otherwise."""
    estimate = micro.arena([chain(*[16] * 30)])
    assert estimate.tensors == 32
    assert estimate.planning == 30 * 32 + 30 * 40
    assert estimate.total >= estimate.planning + estimate.kept


@pytest.mark.parametrize(
    ("name", "inputs", "weights", "planned"),
    [
        ("FULLY_CONNECTED", (0, 1), "int4", 16 + 64 + 16),
        ("FULLY_CONNECTED", (0, 1), "int8", 16 + 16),
        ("TRANSPOSE_CONV", (1, 1, 0), "int8", 16 + 64 + 16),
    ],
)
def test_scratch_memory_lives_as_long_as_its_operator(
    name: str, inputs: tuple[int, ...], weights: str, planned: int
) -> None:
    graph = Graph(
        tensors=(tensor(16), tensor(64, dtype=weights, constant=True), tensor(16)),
        inputs=(0,),
        outputs=(2,),
        operators=(Operator(name=name, inputs=inputs, outputs=(2,)),),
    )
    assert micro.arena([graph]).tensors == planned


def test_constants_take_nothing_of_the_arena() -> None:
    graph = Graph(
        tensors=(tensor(16), tensor(10**6, constant=True), tensor(16)),
        inputs=(0,),
        outputs=(2,),
        operators=(Operator(name="FULLY_CONNECTED", inputs=(0, 1), outputs=(2,)),),
    )
    assert micro.arena([graph]).tensors == 32


def test_methods_are_named_as_the_resolver_names_them() -> None:
    names = ("CONV_2D", "FULLY_CONNECTED", "CUMSUM", "PADV2", "RELU6", "CONV_2D")
    floats = tuple(tensor(1, dtype="float32") for _ in range(3))
    operators = tuple(Operator(name=name, inputs=(0, 1), outputs=(2,)) for name in names)
    graph = Graph(tensors=floats, inputs=(0,), outputs=(2,), operators=operators)
    expected = ("AddConv2D", "AddCumSum", "AddFullyConnected", "AddPadV2", "AddRelu6")
    assert micro.methods([graph]) == expected


def test_an_operator_without_a_kernel_is_named() -> None:
    graph = Graph(
        tensors=(tensor(1),),
        inputs=(0,),
        outputs=(0,),
        operators=(
            Operator(name="GELU", inputs=(0,), outputs=(0,)),
            Operator(name="ADD", inputs=(0,), outputs=(0,)),
        ),
    )
    with pytest.raises(UsageError, match=r"no kernel for GELU\n"):
        micro.methods([graph])


@pytest.mark.parametrize(
    ("weights", "said"),
    [("int8", "FULLY_CONNECTED has int8 weights"), ("float16", "take no float16")],
)
def test_types_without_a_kernel_are_refused(weights: str, said: str) -> None:
    floats, odd = tensor(4, dtype="float32"), tensor(4, dtype=weights, constant=True)
    operator = Operator(name="FULLY_CONNECTED", inputs=(0, 1), outputs=(2,))
    graph = Graph(tensors=(floats, odd, floats), inputs=(0,), outputs=(2,), operators=(operator,))
    with pytest.raises(UsageError, match=said):
        micro.methods([graph])


@pytest.mark.parametrize(("dtype", "scales"), [("int8", 2), ("int4", 1), ("int8", 1)])
def test_weights_are_dequantized_by_one_scale_only(dtype: str, scales: int) -> None:
    """With several TFLite Micro computes something else, and says nothing."""
    stored = Tensor(shape=(2, 4), dtype=dtype, constant=True, variable=False, scales=scales)
    graph = Graph(
        tensors=(stored, tensor(8, dtype="float32")),
        inputs=(),
        outputs=(1,),
        operators=(Operator(name="DEQUANTIZE", inputs=(0,), outputs=(1,)),),
    )
    if (dtype, scales) == ("int8", 1):
        assert micro.methods([graph]) == ("AddDequantize",)
    else:
        with pytest.raises(UsageError, match=f"weights of {dtype} with {scales} scales"):
            micro.methods([graph])


# What TFLM's own recording allocator said of these files: the planned part, and all of it.
RECORDED = {
    "hand_keypoint_mlp/keypoint_classifier": (256, 1840),
    "mlperf_ad_autoencoder/ad01_int8": (768, 3984),
    "mlperf_ic_resnet8/pretrainedResnet_quant": (49152, 55984),
    "mlperf_kws_dscnn/kws_ref_model": (16000, 24272),
    "mlperf_sww/str_ww_ref_model": (6656, 16640),
    "mlperf_vww_mobilenetv1/vww_96_float": (294912, 324800),
    "mlperf_vww_mobilenetv1/vww_96_int8": (73728, 103680),
}


@needs_assets
@pytest.mark.parametrize("name", RECORDED)
def test_the_estimate_is_what_the_real_interpreter_takes(name: str) -> None:
    """The plan to the byte; all of it never too little, and not much too large."""
    planned, total = RECORDED[name]
    estimate = micro.arena(tflite.graphs(MODELS / f"{name}.tflite"))
    assert estimate.tensors == planned
    assert total <= estimate.total <= 1.1 * total + 1024
