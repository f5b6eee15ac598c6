"""What every format implements: one function from a job to an artifact."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

from edgekit.datasets import Dataset
from edgekit.domain import (
    Artifact,
    DeviceProfile,
    Format,
    Interface,
    NodeCost,
    Quantization,
    Recipe,
)
from edgekit.errors import DataError, ToolError
from edgekit.formats import host
from edgekit.sources import SourceModel
from edgekit.toolchain.process import Limits

TOOL_LIMITS = Limits(seconds=3600)


class Job(Struct, frozen=True, kw_only=True):
    """What is to be made.

    Attributes:
        calibration: needed by static quantization.
        folder: the artifact is written into it; nothing else there is touched.
        cache: where conversions are kept between builds; ``None``: not kept.
        mobile: also make what a mobile application's build needs.
        device: what it is made for; ``None``: for none in particular.
        interface: what an application is to see; a Core ML package tells it, too.
    """

    source: SourceModel
    recipe: Recipe
    folder: Path
    calibration: Dataset | None = None
    cache: Path | None = None
    mobile: bool = False
    device: DeviceProfile | None = None
    interface: Interface = Interface()


def quantized_static(job: Job) -> tuple[Quantization, Dataset]:
    """How a job quantizes to integers, and the samples that its ranges come from.

    Raises:
        ToolError: it does not.
        DataError: there are none.
    """
    quantization = job.recipe.quantization
    if quantization is None or not job.recipe.is_static:
        raise ToolError(f"{job.recipe.label} computes nothing in integers")
    return quantization, needed(job.calibration)


def needed(calibration: Dataset | None) -> Dataset:
    """The samples that ranges of static quantization come from.

    Raises:
        DataError: there are none.
    """
    if calibration is None:
        raise DataError("static int8 needs calibration data", "give --calibration X.npz")
    return calibration


def refuse_sparsity(job: Job) -> None:
    """For formats that store every weight, and whose kernels multiply by every one.

    Raises:
        ToolError: the recipe asks for weights that are made zero.
    """
    quantization = job.recipe.quantization
    if quantization is not None and quantization.sparsity:
        raise ToolError(
            f"{job.recipe.precision} cannot be made: {job.recipe.format.value} stores zeros like "
            "any other weight and multiplies by them, so they save neither bytes nor time",
            "whole channels can be removed: --prune",
        )


class FormatSpec(Struct, frozen=True, kw_only=True):
    """One format.

    Attributes:
        make: writes the artifact into the job's folder. Raises ``ToolError`` when a tool
            fails or the artifact does not run, ``DataError`` when calibration is missing.
        host_runtime: the name of the runtime that executes it on the host.
        sensitivity: what quantizing each node alone costs, for a job that has calibration
            data: by static quantization, in the format's own names, or by storing weights in
            few bits, in the source's; ``None``: the format raises no single node.
        infer: runs it on the host; see ``host.infer``, by which the device's own runner does.
        modules: a device runtime's name -> the Python module that provides it.
        operators: counts the operators of an artifact, by their names in the format.
        tools: distributions whose versions decide the artifact's bytes.
        pinned_tools: the same, for tools in environments of their own: name -> version.
    """

    format: Format
    make: Callable[[Job], Artifact]
    host_runtime: str
    modules: dict[str, str]
    operators: Callable[[Path], dict[str, int]]
    tools: tuple[str, ...]
    pinned_tools: dict[str, str] = {}
    sensitivity: Callable[[Job], tuple[NodeCost, ...]] | None = None
    infer: host.Infer = host.infer
