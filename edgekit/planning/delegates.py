"""What delegates and execution providers take: data, each table with its source.

Operators are named as in the ONNX graph; where a delegate lists another format's
operators, they are what the converter makes of these.
"""

from __future__ import annotations

from msgspec import Struct

from edgekit.domain import NodeSummary


class Delegate(Struct, frozen=True, kw_only=True):
    """What a delegate or execution provider does with a graph.

    Attributes:
        operators: those it takes; ``None``: all but ``refused``.
        max_partitions: how many stretches of the graph it takes at most; the runtime keeps
            the others on the CPU. ``None``: all of them.
    """

    operators: frozenset[str] | None = None
    refused: frozenset[str] = frozenset()
    max_partitions: int | None = None

    def takes(self, node: NodeSummary) -> bool:
        if self.operators is not None:
            return node.op in self.operators
        return node.op not in self.refused


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# tensorflow/lite/delegates/gpu/common/model_builder.cc and "GPU delegates for LiteRT,
# supported ops"; TfLiteGpuDelegateOptionsV2 delegates one partition by default.
_LITERT_GPU = Delegate(
    operators=_names(
        "Abs Add AveragePool BatchNormalization Clip Concat Conv ConvTranspose Cos DepthToSpace "
        "Div Elu Exp Flatten Gather Gelu Gemm GlobalAveragePool HardSwish LSTM LeakyRelu Log "
        "MatMul Max MaxPool Min Mul Neg PRelu Pad Pow ReduceMax ReduceMean ReduceMin ReduceSum "
        "Relu Reshape Resize Sigmoid Sin Slice Softmax SpaceToDepth Split Sqrt Squeeze Sub Tanh "
        "Tile Transpose Unsqueeze"
    ),
    max_partitions=1,
)

# onnx/onnx-tensorrt, docs/operators.md (TensorRT 8.4 and later): what is marked N there.
_TENSORRT = Delegate(
    refused=_names(
        "BitShift Compress ConcatFromSequence ConvInteger Det DynamicQuantizeLinear Hardmax "
        "IsInf MatMulInteger MaxRoiPool MaxUnpool MeanVarianceNormalization Mod Multinomial "
        "NegativeLogLikelihoodLoss NonZero OneHot QLinearConv QLinearMatMul RandomNormal "
        "RandomNormalLike RoiAlign SequenceAt SequenceConstruct SequenceEmpty SequenceErase "
        "SequenceInsert SequenceLength Shrink SoftmaxCrossEntropyLoss SplitToSequence "
        "StringNormalizer TfIdfVectorizer Unique"
    )
)

# onnxruntime.ai, NNAPI Execution Provider, "Supported ops".
_NNAPI_OPERATORS = _names(
    "Abs Add AveragePool BatchNormalization Cast Clip Concat Conv DepthToSpace DequantizeLinear "
    "Div Elu Exp Flatten Floor Gather Gemm GlobalAveragePool GlobalMaxPool Identity LRN "
    "LeakyRelu Log MatMul Max MaxPool Min Mul Neg PRelu Pad Pow QLinearConv QLinearMatMul "
    "QuantizeLinear Relu Reshape Resize Sigmoid Sin Slice Softmax Split Sqrt Squeeze Sub Tanh "
    "Transpose Unsqueeze"
)

# onnxruntime.ai, QNN Execution Provider, "Supported ONNX operators".
_QNN_OPERATORS = _names(
    "Abs Add And ArgMax ArgMin Asin Atan AveragePool BatchNormalization Cast Clip Concat Conv "
    "ConvTranspose Cos DepthToSpace DequantizeLinear Div Elu Equal Exp Expand Flatten Floor "
    "Gather Gelu Gemm GlobalAveragePool Greater GreaterOrEqual GridSample HardSwish "
    "InstanceNormalization LRN LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax "
    "LpNormalization MatMul Max MaxPool Min Mul Neg Not Or PRelu Pad Pow QuantizeLinear "
    "ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum Relu Reshape Resize Round Sigmoid Sign "
    "Sin Slice Softmax SpaceToDepth Split Sqrt Squeeze Sub Tanh Tile TopK Transpose Unsqueeze "
    "Upsample Where"
)

# coral.ai, "TensorFlow models on the Edge TPU", supported operations; the compiler makes one
# partition.
_EDGETPU = Delegate(
    operators=_names(
        "Add AveragePool Clip Concat Conv ConvTranspose Flatten Gemm GlobalAveragePool LSTM "
        "MatMul Max MaxPool Min Mul PRelu Pad ReduceMax ReduceMean ReduceMin ReduceSum Relu "
        "Reshape Resize Sigmoid Slice Softmax SpaceToDepth Split Squeeze Sub Tanh Transpose"
    ),
    max_partitions=1,
)

# hollance/neural-engine, "Which layers are unsupported?": Apple publishes no list. What the
# Neural Engine does not take runs on the GPU or the CPU, without a word.
_NEURAL_ENGINE = Delegate(
    refused=_names("Gather GatherElements GatherND GRU LSTM NonZero RNN ScatterND TopK Upsample")
)

DELEGATES: dict[str, Delegate] = {
    "gpu": _LITERT_GPU,
    # StatefulNnApiDelegate::Options::max_number_delegated_partitions is 3.
    "nnapi": Delegate(operators=_NNAPI_OPERATORS, max_partitions=3),
    "qnn": Delegate(operators=_QNN_OPERATORS),
    "edgetpu": _EDGETPU,
    "TensorrtExecutionProvider": _TENSORRT,
    "NnapiExecutionProvider": Delegate(operators=_NNAPI_OPERATORS),
    "QNNExecutionProvider": Delegate(operators=_QNN_OPERATORS),
    "cpuAndNeuralEngine": _NEURAL_ENGINE,
    # Metal Performance Shaders run whatever Core ML can express.
    "cpuAndGPU": Delegate(),
}
"""By the names in the profiles' ``reached_by``."""
