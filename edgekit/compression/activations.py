"""What a graph computes inside on samples: any of its tensors, one sample after another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import helper
from onnxruntime import GraphOptimizationLevel

from edgekit.errors import ModelError

Array = NDArray[Any]
Sample = dict[str, Array]


def values(
    model: onnx.ModelProto, names: Sequence[str], samples: Iterable[Sample]
) -> Iterator[list[Array]]:
    """The named tensors for each sample; what they do not need is not computed.

    Raises:
        ModelError: the graph does not run.
    """
    wanted = list(dict.fromkeys(names))
    given = {value.name for value in model.graph.input}
    computed = [name for name in wanted if name not in given]
    session = _session(model, computed) if computed else None
    for sample in samples:
        known = dict(sample)
        if session is not None:
            fed = {value.name: sample[value.name] for value in session.get_inputs()}
            known |= dict(zip(computed, session.run(computed, fed), strict=True))
        yield [known[name] for name in names]


def _session(model: onnx.ModelProto, names: Sequence[str]) -> onnxruntime.InferenceSession:
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    del shown.graph.output[:]
    shown.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
    try:
        return _opened(shown, GraphOptimizationLevel.ORT_ENABLE_ALL)
    except Exception:  # ONNX Runtime's own, which share no base
        # The blocked layouts of its last level fail on some graphs that show what is inside
        # ("invalid channel count").
        try:
            return _opened(shown, GraphOptimizationLevel.ORT_ENABLE_EXTENDED)
        except Exception as error:
            said = str(error).splitlines()[0][:400]
            raise ModelError(f"the graph does not run: {said}") from error


def _opened(model: onnx.ModelProto, level: GraphOptimizationLevel) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = level
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def shifted(
    samples: Sequence[Sample], axes: Mapping[str, Sequence[int]], copies: int
) -> list[Sample]:
    """The samples, and copies moved a little along their spatial axes.

    The original network says itself what is right for them: few samples go further, and a
    layer fitted on them keeps to the network's indifference to place.

    Args:
        samples: input name -> array.
        axes: input name -> its spatial axes; an input without any stays as it is.
        copies: of each sample.
    """
    rng = np.random.default_rng(0)
    moved = [
        {name: _rolled(array, axes.get(name, ()), rng) for name, array in sample.items()}
        for _ in range(copies)
        for sample in samples
    ]
    return [*samples, *moved]


def _rolled(array: Array, axes: Sequence[int], rng: np.random.Generator) -> Array:
    """Moved by up to an eighth of each axis."""
    amounts = [int(rng.integers(-n, n + 1)) for n in (max(1, array.shape[a] // 8) for a in axes)]
    return np.roll(array, amounts, tuple(axes)) if axes else array
