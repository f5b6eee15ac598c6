"""Summaries of networks that were never files: by hand, and by hypothesis."""

from __future__ import annotations

from hypothesis import strategies as st
from msgspec import structs

from edgekit import profiles, resources
from edgekit.domain import DeviceProfile, ModelSummary, NodeSummary

FOLDER = resources.folder(profiles.PROJECT_FOLDER)


def shipped(name: str) -> DeviceProfile:
    return profiles.read(FOLDER / f"{name}.toml")


EVERY = tuple(shipped(file.stem) for file in sorted(FOLDER.glob("*.toml")))
PLANNABLE = tuple(profile for profile in EVERY if profile.family.value != "apple")


def op(
    name: str,
    macs: int = 0,
    parameters: int = 0,
    shape: tuple[int, ...] = (1, 16, 32, 32),
    read: int = 16_384,
    group: int = 1,
    taps: int = 1,
) -> NodeSummary:
    """A node in float32."""
    written = 1
    for size in shape:
        written *= size
    return NodeSummary(
        name=f"{name}_it",
        op=name,
        macs=macs,
        parameters=parameters,
        parameter_bytes=4 * parameters,
        input_elements=read,
        output_elements=written,
        output_shape=shape,
        group=group,
        channelwise=group > 1,
        taps=taps,
    )


def network(*nodes: NodeSummary, peak: int = 200_000, quantized: bool = False) -> ModelSummary:
    return ModelSummary(
        sha256="0" * 64,
        name="made-up",
        opset=17,
        inputs=(),
        outputs=(),
        nodes=nodes,
        parameters=sum(node.parameters for node in nodes),
        parameter_bytes=sum(node.parameter_bytes for node in nodes),
        macs=sum(node.macs for node in nodes),
        activation_peak_bytes=peak,
        quantized=quantized,
    )


CONVOLUTIONS = network(*[op("Conv", 2_359_296, 14_000, taps=9), op("Relu")] * 20)
"""About a ResNet-20."""

MATRICES = network(*[op("MatMul", 400_000, 400_000, (1, 128, 640), 640), op("Add")] * 5)
"""About the layers of a small transformer."""

QUANTIZED = structs.replace(CONVOLUTIONS, quantized=True)

_WORKERS = ("Conv", "ConvTranspose", "QLinearConv", "Gemm", "MatMul", "LSTM")
_OTHERS = ("Relu", "Add", "Softmax", "Reshape", "QuantizeLinear", "MaxPool", "Gather")


@st.composite
def _ops(draw: st.DrawFn) -> NodeSummary:
    channels, side = draw(st.integers(2, 512)), draw(st.integers(1, 32))
    works = draw(st.booleans())
    name = draw(st.sampled_from(_WORKERS if works else _OTHERS))
    depthwise = name == "Conv" and draw(st.booleans())
    return op(
        name,
        macs=draw(st.integers(1, 10**8)) if works else 0,
        parameters=draw(st.integers(0, 10**6)),
        shape=(1, channels, side, side),
        read=draw(st.integers(1, 10**6)),
        group=channels if depthwise else 1,
    )


summaries = st.builds(
    lambda nodes, peak, quantized: network(*nodes, peak=peak, quantized=quantized),
    st.lists(_ops(), min_size=1, max_size=8),
    st.integers(1, 10**8),
    st.booleans(),
)
