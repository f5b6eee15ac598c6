"""Any model file, brought to one ONNX graph with fixed shapes: the hub of every format."""

from edgekit.sources.feeds import random_feeds
from edgekit.sources.model import MIN_OPSET, Original, SourceModel
from edgekit.sources.readers import load

__all__ = ["MIN_OPSET", "Original", "SourceModel", "load", "random_feeds"]
