"""ML Programs (.mlpackage) on any machine: read as saved, evaluated without a Mac.

program = load(Path("model.mlpackage"))
outputs = evaluate(program, {"image": pixels})
"""

from edgekit.mil.evaluator import evaluate, load, unsupported
from edgekit.mil.types import Feature, Image, Operation, Program

__all__ = ["Feature", "Image", "Operation", "Program", "evaluate", "load", "unsupported"]
