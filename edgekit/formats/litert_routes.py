"""The ways that lead from a source to a float ``.tflite``, in the order in which they are tried."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

from edgekit.domain import Format
from edgekit.errors import ToolError
from edgekit.formats.contract import TOOL_LIMITS
from edgekit.sources import SourceModel, tensorflow
from edgekit.toolchain import environments, isolation
from edgekit.toolchain.environments import ONNX2TF, TENSORFLOW

TOOLS = (ONNX2TF, TENSORFLOW)


class Route(Struct, frozen=True, kw_only=True):
    """One way.

    Attributes:
        name: the tool's.
        kinds: what the user's own file must be; empty: any, the way starts at the ONNX graph.
        convert: writes into a scratch folder; gives the ``.tflite``.
    """

    name: str
    kinds: tuple[str, ...] = ()
    convert: Callable[[SourceModel, Path], Path]


def of(source: SourceModel) -> tuple[Route, ...]:
    """The ways that are open to a source."""
    kind = source.original.kind if source.original else "onnx"
    return tuple(route for route in ROUTES if not route.kinds or kind in route.kinds)


def _itself(source: SourceModel, _scratch: Path) -> Path:
    if source.original is None:
        raise ToolError(f"{source.name} is no .tflite")
    return source.original.path


def _converter(source: SourceModel, scratch: Path) -> Path:
    made = scratch / "converted.tflite"
    tensorflow.to_tflite(source, made)
    return made


def _onnx2tf(source: SourceModel, scratch: Path) -> Path:
    # A copy: onnx2tf rewrites the file that it is given.
    graph = shutil.copyfile(source.graph, scratch / "graph.onnx")
    return _by_onnx2tf(source, graph, scratch)


def _written_out(source: SourceModel, scratch: Path) -> Path:
    graph = scratch / "graph.onnx"
    isolation.call(_write_out, TOOL_LIMITS, source, graph)
    return _by_onnx2tf(source, graph, scratch)


def _write_out(source: SourceModel, graph: Path) -> tuple[str, ...]:
    """What runs in a process of its own."""
    from edgekit.formats.writing_out import write_out

    return write_out(source, Format.LITERT, graph)


def _by_onnx2tf(source: SourceModel, graph: Path, scratch: Path) -> Path:
    arguments = ["-i", str(graph), "-o", str(scratch), "-nuo", "-n"]
    # It takes every input of three to five axes for channels-first and moves its second
    # axis to the end: an NHWC input of [1, 224, 224, 3] would become [1, 224, 3, 224].
    kept = [spec.name for spec in source.inputs if spec.name not in source.channels_first]
    if kept:
        arguments += ["-kat", *kept]
    environments.run(ONNX2TF, arguments, limits=TOOL_LIMITS)
    made = sorted(scratch.glob("*_float32.tflite"))
    if not made:
        raise ToolError("onnx2tf ended without a .tflite")
    return made[0]


def _onnxsim(source: SourceModel, scratch: Path) -> Path:
    if not environments.ready(TENSORFLOW):
        # Gigabytes, to try once more what has failed already: that is the user's to decide.
        raise ToolError("it needs TensorFlow: `edgekit toolchain install tensorflow`")
    made = scratch / "exported.tflite"
    environments.call(TENSORFLOW, _export, TOOL_LIMITS, source.graph, made)
    return made


def _export(graph: Path, destination: Path) -> None:
    """What runs beside TensorFlow, which onnxsim's exporter builds its graph with."""
    import onnx
    import onnxsim

    onnxsim.export_tflite(onnx.load(graph), str(destination))


ROUTES = (
    Route(name="the .tflite file itself", kinds=("tflite",), convert=_itself),
    Route(name="TFLiteConverter", kinds=("keras", "saved_model"), convert=_converter),
    Route(name=f"onnx2tf {ONNX2TF.version}", convert=_onnx2tf),
    Route(name=f"onnx2tf {ONNX2TF.version} of smaller operators", convert=_written_out),
    Route(name="onnxsim", convert=_onnxsim),
)
"""What is nearest to the user's own file comes first, and before onnx2tf, which takes HardSwish
apart. ``benchmarks/zoo.py`` prints what the file of each way takes."""
