"""Any model file, brought to one ONNX graph with fixed shapes: the hub of every format."""

from edgekit.sources.feeds import random_feeds
from edgekit.sources.model import MIN_OPSET, SourceModel
from edgekit.sources.onnx_file import load

__all__ = ["MIN_OPSET", "SourceModel", "load", "random_feeds"]
