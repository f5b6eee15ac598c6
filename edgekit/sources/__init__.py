"""Any model file, brought to one ONNX graph with fixed shapes: the hub of every format."""

from edgekit.sources.feeds import random_feeds
from edgekit.sources.kept import load
from edgekit.sources.model import MIN_OPSET, Original, SourceModel

__all__ = ["MIN_OPSET", "Original", "SourceModel", "load", "random_feeds"]
