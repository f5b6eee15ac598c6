"""What Core ML's processors like, as data, and why a recipe suits them.

The Neural Engine computes in float16, from the A17 and M4 on in int8, too; weights in fewer
bits are unpacked to float16 on every processor. Which release loads which form is in
``domain.coreml``.
"""

from __future__ import annotations

from edgekit.domain import (
    CPU,
    Accelerator,
    DeviceProfile,
    DeviceRuntime,
    Format,
    Granularity,
    Mode,
    Quantization,
    Recipe,
    coreml,
)

_FLOAT16 = Quantization(mode=Mode.FLOAT16, weights="float16", activations="float16")
_W8A8 = Quantization(
    mode=Mode.STATIC, weights="int8", activations="int8", symmetric_activations=True
)
_WEIGHTS = (
    Quantization(mode=Mode.WEIGHT_ONLY, weights="int8", activations="float16"),
    Quantization(mode=Mode.PALETTIZED, weights="lut6", activations="float16"),
    Quantization(mode=Mode.PALETTIZED, weights="lut4", activations="float16"),
    # In blocks: the fewer weights share a scale, the less four bits cost.
    Quantization(
        mode=Mode.WEIGHT_ONLY,
        weights="int4",
        activations="float16",
        granularity=Granularity.PER_BLOCK,
    ),
)


def variants(accelerator: Accelerator | None, release: int) -> tuple[Quantization | None, ...]:
    """How a processor wants a network, in forms that a release of iOS loads.

    Args:
        accelerator: ``None`` for the CPU.
        release: what ``domain.coreml.release`` gives.
    """
    tops = accelerator.tops if accelerator else None
    wanted: list[Quantization | None] = [] if tops and not tops.float32 else [None]
    if tops and tops.int8:
        wanted.append(_W8A8)
    if not tops or tops.float16:
        wanted += [_FLOAT16, *_WEIGHTS]
    return tuple(each for each in wanted if coreml.needs(each) <= release)


def release(profile: DeviceProfile, runtime: DeviceRuntime) -> int | None:
    """The newest release that the oldest system of a device can load; see ``domain.coreml``."""
    return coreml.release(runtime.versions, profile.os)


def reasons(recipe: Recipe) -> tuple[str, ...]:
    """Why Core ML is given this form, as a person would say it."""
    quantization = recipe.quantization
    if recipe.format is not Format.COREML or quantization is None:
        return ()
    where = "every processor" if recipe.accelerator == CPU else recipe.accelerator
    loads = f"loaded from iOS {coreml.needs(quantization)} on"
    if quantization.mode is Mode.STATIC:
        return (f"int8 weights and activations, {loads}, computed as such by {where}",)
    if quantization.mode is Mode.FLOAT16:
        return (f"float16, {loads}, is what {where} computes in",)
    bits = coreml.weight_bits(quantization)
    return (f"weights in {bits} bits, {loads}; {where} unpacks them to float16",)
