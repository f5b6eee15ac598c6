"""A model in an application: typed tensors, a checked artifact, and what is wanted around a call.

NumPy and the model's runtime only, Python 3.8 and newer. `edgekit export --python` puts these
files into a package beside the artifact and a small module that is made for the model.
"""

from .cascade import Cascade, margin, softmax
from .errors import ModelError, QueueFull
from .model import Artifact, Model
from .tensors import Picture, Quantization, Tensor
from .worker import Worker

__all__ = [
    "Artifact",
    "Cascade",
    "Model",
    "ModelError",
    "Picture",
    "Quantization",
    "QueueFull",
    "Tensor",
    "Worker",
    "margin",
    "softmax",
]
