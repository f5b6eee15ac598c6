"""What tf2onnx lacks of TensorFlow's operators; importing it registers the handlers."""

from __future__ import annotations

from typing import Any

import numpy as np
from tf2onnx import utils
from tf2onnx.handler import tf_op


@tf_op("Erfc")
class Erfc:
    """One minus the error function; Keras 3's GELU is made of it."""

    @classmethod
    def version_9(cls, ctx: Any, node: Any, **_kwargs: Any) -> None:
        dtype, shape = ctx.get_dtype(node.output[0]), ctx.get_shape(node.output[0])
        one = np.array(1, utils.map_onnx_to_numpy_type(dtype))
        erf = ctx.make_node("Erf", [node.input[0]], shapes=[shape], dtypes=[dtype])
        ctx.remove_node(node.name)
        ctx.make_node(
            "Sub",
            [ctx.make_const(utils.make_name("one"), one).output[0], erf.output[0]],
            outputs=node.output,
            shapes=[shape],
            dtypes=[dtype],
        )
