"""Every error edgekit raises on purpose: what was wrong, and what to do about it.

One base class carries the message and the hint; its kinds decide the exit code of
the command line. Errors of third-party code are wrapped with ``raise ... from``.
"""

from __future__ import annotations

# Not typing's own: importing typing takes longer than everything else that `--help` needs.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import ClassVar


class EdgekitError(Exception):
    """The base of every error that edgekit raises on purpose.

    Attributes:
        message: what was wrong: the subject, what was expected and what was got.
        hint: what the reader can do about it; empty when there is nothing to add.
    """

    kind: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 4

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\nhint: {self.hint}" if self.hint else self.message


class InputError(EdgekitError):
    """A file, an argument or data that edgekit cannot work with."""

    kind = "input"
    exit_code = 2


class UsageError(InputError):
    """A command line that does not make sense."""

    kind = "usage"


class ProfileError(InputError):
    """A device profile that is unknown or malformed."""

    kind = "profile"


class ProjectError(InputError):
    """An ``edgekit.toml`` or a lock that is missing or will not do."""

    kind = "project"


class ModelError(InputError):
    """A model file that is unreadable, invalid or out of edgekit's reach."""

    kind = "model"


class DataError(InputError):
    """Calibration or evaluation data that do not fit the model."""

    kind = "data"


class BundleError(InputError):
    """A bundle that is damaged, forged or from a future version."""

    kind = "bundle"


class GoalError(EdgekitError):
    """No recipe meets the goal: a check failed, nothing is broken."""

    kind = "goal"
    exit_code = 1


class GateError(EdgekitError):
    """Every candidate that was built failed its validation."""

    kind = "gate"
    exit_code = 1


class LockError(EdgekitError):
    """What was built, or is to be built, is not what the lock says."""

    kind = "lock"
    exit_code = 1


class DeviceError(EdgekitError):
    """The device or the connection to it failed."""

    kind = "device"
    exit_code = 3


class ConnectionFailed(DeviceError):
    """The device could not be reached, or the connection was lost."""

    kind = "connection"


class ConnectionLost(ConnectionFailed):
    """An open connection broke: trying again may well succeed, and a push goes on where it was."""


class HostKeyError(DeviceError):
    """The host key is unknown, changed or revoked: nothing was sent."""

    kind = "host-key"


class DeviceRuntimeMissing(DeviceError):
    """The device lacks the runtime, or the version of it, that a bundle needs."""

    kind = "runtime-missing"


class GoldenMismatch(DeviceError):
    """The device's outputs differ from the golden vectors: its numbers mean nothing."""

    kind = "golden"


class RunnerFailed(DeviceError):
    """The runner crashed, hung or answered nonsense on the device."""

    kind = "runner"


class ToolError(EdgekitError):
    """A tool edgekit drives (converter, quantizer, runtime) failed."""

    kind = "tool"


class UnsupportedOperation(ToolError):
    """A program has an operation that edgekit's evaluator cannot run."""

    kind = "unsupported-operation"


class ToolCrashed(ToolError):
    """A tool's process ended by a signal."""

    kind = "tool-crashed"


class ToolTimeout(ToolError):
    """A tool's process ran past its time limit and was ended."""

    kind = "tool-timeout"


class PruningFailed(ToolError):
    """A network cannot be pruned, or not as far as was asked for."""

    kind = "pruning"


class ConversionFailed(ToolError):
    """No artifact of a format can be made of this model, however it is quantized."""

    kind = "conversion"


class ToolMissing(ToolError):
    """A tool's environment is not installed and could not be built."""

    kind = "tool-missing"


class SystemRefused(InputError):
    """A file or folder that cannot be read or written, or no room left."""

    kind = "system"

    def __init__(self, error: OSError) -> None:
        where = f"{error.filename}: " if error.filename else ""
        super().__init__(
            f"{where}{error.strerror or error}",
            "check that the file is readable, the folder writable and the disk not full; "
            "EDGEKIT_CACHE moves the cache",
        )


class Unexpected(EdgekitError):
    """A defect of edgekit itself."""

    kind = "unexpected"

    def __init__(self, error: Exception) -> None:
        super().__init__(
            f"edgekit met something it did not expect: {type(error).__name__}: {error}",
            "this is a defect of edgekit: please report it with the traceback above",
        )
