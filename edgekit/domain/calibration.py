"""What was learnt about a device's speed and memory by measuring small networks on it."""

from __future__ import annotations

from msgspec import Struct

CALIBRATION_VERSION = 3
"""Of the networks and of the model that is fitted to them; another one is not comparable."""


class Kernel(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the operators of one family cost: nanoseconds per unit of each quantity.

    Attributes:
        ns: quantity (see ``planning.kernels``) -> nanoseconds per unit, one thread.
        output_tile: output channels are computed in blocks of this many.
        input_tile: input channels are read in blocks of this many.
        joined: the window and its channels are one row, rounded up together (im2col).
        cache_bytes: weights beyond this, over the whole network, are fetched anew each time.
    """

    ns: dict[str, float]
    output_tile: int = 1
    input_tile: int = 1
    joined: bool = False
    cache_bytes: float = 1e6


class Rates(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A runtime's speed with one precision.

    Attributes:
        kernels: operator family -> its kernel.
        call_ns: what one inference costs whatever the network.
        input_ns: per element of the network's inputs.
        output_ns: per element of its outputs.
        spread: (low, high): between these factors of the prediction lie nine in ten of the
            measurements, those that the fit did not see included.
        within_10_percent: share of the measured networks predicted that well; ``measured``
            says how many there were.
    """

    kernels: dict[str, Kernel]
    call_ns: float
    input_ns: float
    output_ns: float
    spread: tuple[float, float]
    within_10_percent: float
    measured: int


class Scaling(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What more threads bring: ``serial`` of the time stays, ``sync_ns`` per operator is added."""

    serial: float
    sync_ns: float


class MemoryUse(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Peak memory: ``base + per_weight_byte * artifact + per_arena_byte * activations``.

    Attributes:
        base_bytes: the process with the runtime and a network of nothing.
    """

    base_bytes: float
    per_weight_byte: float
    per_arena_byte: float


class RuntimeCalibration(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One runtime on the device.

    Attributes:
        module: the Python module that provides it.
        rates: precision -> rates.
        memory: precision -> memory.
    """

    module: str
    version: str
    rates: dict[str, Rates]
    memory: dict[str, MemoryUse]
    scaling: Scaling


class Calibration(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything measured on one device, one thread, in its power mode at that time.

    Attributes:
        device: the profile's name.
        fingerprint: of the device that was measured; see ``DeviceFacts``.
        process_bytes: what the runner's process takes before any runtime is loaded.
        runtimes: format (``litert``, ``onnxruntime``) -> its runtime.
        made: day of the measurement, ISO 8601.
        networks: how many were measured.
    """

    version: int
    device: str
    fingerprint: str
    cpu_model: str
    process_bytes: float
    runtimes: dict[str, RuntimeCalibration]
    made: str
    networks: int
    seconds: float
