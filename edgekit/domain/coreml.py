"""What Core ML of each system release can load: Apple's documentation as data.

Releases count as iOS does; macOS 13 came beside iOS 16, and they stay as far apart.
"""

from __future__ import annotations

from math import prod

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from edgekit.domain.plan import Granularity, Mode, Quantization

RELEASES = (16, 17, 18)
"""The releases that edgekit makes ML Programs for. From iOS 16 on they take float16 tensors."""

MACOS_BEHIND = 3
"""macOS 13 came beside iOS 16."""

COMPUTE_UNITS = ("cpuOnly", "cpuAndGPU", "cpuAndNeuralEngine", "all")
"""The processors that Core ML may use: the cases of its ``MLComputeUnits``."""

_BITS = {"float16": 16, "int8": 8, "int4": 4}
_LUT = "lut"

PALETTE_BITS = (1, 2, 3, 4, 6, 8)
"""Bits of an index into a table of weights (``constexpr_lut_to_dense``)."""

_NEWER_PALETTE_BITS = (3,)

FEWEST_ELEMENTS = 512
"""Weights of fewer elements are not compressed."""

_FEW_BITS = 6
_MATRIX = 2
_BLOCKS = (32, 16, 8, 4, 2, 1)


def release(versions: str, os: str) -> int | None:
    """The newest release that the oldest system allowed by ``versions`` can load.

    Args:
        versions: PEP 440 specifier of the system's version, as a device profile has it.
        os: ``ios``, ``ipados`` or ``macos``.

    Returns:
        One of ``RELEASES``; ``None`` when that system is older than all of them.
    """
    behind = MACOS_BEHIND if os == "macos" else 0
    least = [Version(s.version) for s in SpecifierSet(versions) if s.operator in _FROM]
    oldest = max(least, default=Version(str(RELEASES[0] - behind)))
    fitting = [r for r in RELEASES if oldest >= Version(str(r - behind))]
    return max(fitting, default=None)


_FROM = (">=", ">", "==", "~=")


def on_a_mac(versions: str) -> str:
    """The versions of macOS that load what is made for ``versions`` of any of the systems.

    Args:
        versions: PEP 440 specifier, by the numbers of iOS or of macOS: below 16 only macOS
            has Core ML that edgekit makes packages for.
    """
    made_for = release(versions, "ios") or release(versions, "macos")
    return f">={(made_for or RELEASES[0]) - MACOS_BEHIND}"


def refusal(quantization: Quantization | None) -> str | None:
    """Why Core ML of no release has such a form; ``None`` when one has."""
    if quantization is None:
        return None
    if quantization.mode is Mode.DYNAMIC:
        return "Core ML takes ranges of activations that are known beforehand, or none"
    if quantization.wide:
        return "Core ML computes in 8-bit integers or in floats, not in 16-bit integers"
    if quantization.mode is Mode.PALETTIZED and weight_bits(quantization) not in PALETTE_BITS:
        known = ", ".join(map(str, PALETTE_BITS))
        return f"Core ML has tables for indices of {known} bits"
    return None


def needs(quantization: Quantization | None) -> int:
    """The first release that loads weights and activations stored so.

    iOS 16 has ``constexpr_affine_dequantize`` (int8), ``constexpr_lut_to_dense`` and
    ``constexpr_sparse_to_dense``; iOS 17 ``quantize`` and ``dequantize`` of activations;
    iOS 18 int4, blocks, tables of three bits, and one form on top of another.
    """
    if quantization is None or quantization.mode is Mode.FLOAT16:
        return 16
    joint = quantization.sparsity > 0
    newest = quantization.weights == "int4" or quantization.granularity is Granularity.PER_BLOCK
    if joint or newest or weight_bits(quantization) in _NEWER_PALETTE_BITS:
        return 18
    return 17 if quantization.mode is Mode.STATIC else 16


def weight_bits(quantization: Quantization | None) -> int:
    """Bits that one stored weight takes, without scales, tables and masks."""
    if quantization is None:
        return 32
    if quantization.weights.startswith(_LUT):
        return int(quantization.weights.removeprefix(_LUT))
    return _BITS[quantization.weights]


def spares(shape: tuple[int, ...], quantization: Quantization) -> bool:
    """Whether a weight stays in the type that is computed in.

    Small ones do: scales and tables would outweigh them. So do depthwise filters in few
    bits: they are few, and every one of them makes a channel.
    """
    if prod(shape) < FEWEST_ELEMENTS:
        return True
    return weight_bits(quantization) < _FEW_BITS and len(shape) > _MATRIX and shape[1] == 1


def block(shape: tuple[int, ...]) -> int:
    """How many channels share a scale or a table where that goes by blocks.

    The largest of ``_BLOCKS`` that divides both of a weight's channels.
    """
    fitting = (size for size in _BLOCKS if not any(channels % size for channels in shape[:2]))
    return next(fitting, 1)
