"""Every error edgeq raises on purpose; each says thing, actual, expected, and carries a hint.

EdgeqError
├── UsageError               bad arguments or configuration: exit code 2
│   ├── ConfigError
│   └── NewerStateError        a newer edgeq wrote the state folder
├── ModelError               a model file
│   ├── StructureError         damaged: not a well-formed TFLite flatbuffer
│   └── UnsupportedModelError  well-formed, but edgeq cannot take it
├── SampleError              a sample that is not what the model takes
├── CalibrationError         no usable range could be found
├── QuantizeError            the INT8 file could not be written
├── DriftError               the kept drift windows cannot be read
├── EngineError              an engine could not be built, loaded or run
│   └── DeviceError            the GPU or its driver failed; carries the driver's code
├── GateError                the engine does not agree with the float model
├── BundleError              a bundle folder is incomplete or was altered
├── RegistryError            the registry cannot be opened, or does not allow what was asked
│   ├── VersionError           no such version, or it cannot be live
│   └── DamagedRegistryError  its file is not a whole database
├── DropError                a drop was refused at intake; carries the stage
├── SwapError                the new engine was not published; the old one still serves
├── DaemonError              the daemon cannot be reached or refused a command
└── RequestError             a request that cannot be answered
    ├── InvalidRequestError    malformed, or not what the model takes
    ├── NotFoundError          no such model, version or resource
    ├── MethodNotAllowedError  the resource is there, but not for this method
    ├── TooLargeError          the request body is over the limit
    ├── UnauthenticatedError   a call without the token that it needs
    ├── ForbiddenError         a call that no token would open
    ├── ConflictError          the state of the model does not allow it
    ├── UnavailableError       not ready, queue full or shutting down; carries retry_after_s
    ├── TimedOutError          the client was too slow with its request
    └── DeadlineError          the deadline passed before an answer
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class EdgeqError(Exception):
    """Base of every error raised on purpose: a message, and one imperative sentence as hint."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message


class UsageError(EdgeqError):
    """Bad arguments: exit code 2."""


class ConfigError(UsageError):
    """The configuration, a sidecar or an environment override is wrong."""


class NewerStateError(UsageError):
    """A newer edgeq wrote the state folder: starting this one again would not help."""


class ModelError(EdgeqError):
    """A model file cannot be used."""


class StructureError(ModelError):
    """The file is not a well-formed TFLite flatbuffer: truncated, damaged or something else."""


class UnsupportedModelError(ModelError):
    """The file is well-formed, but holds something that edgeq or the runtime cannot run."""


class SampleError(EdgeqError):
    """A sample has the wrong shape, type or content for the model."""


class CalibrationError(EdgeqError):
    """No usable range could be found for an activation, or a table does not fit its model."""


class QuantizeError(EdgeqError):
    """The INT8 model could not be written."""


class DriftError(EdgeqError):
    """What was kept of live frames over a restart cannot be read."""


class EngineError(EdgeqError):
    """An engine could not be built, loaded or run."""


class DeviceError(EngineError):
    """The GPU or its driver failed; `code` is the driver's CUresult, 0 where it gave none.

    After a sticky error every call fails until the context is made anew.
    """

    def __init__(
        self, message: str, *, hint: str = "", code: int = 0, is_sticky: bool = False
    ) -> None:
        super().__init__(message, hint=hint)
        self.code = code
        self.is_sticky = is_sticky


class GateError(EdgeqError):
    """The engine does not agree with the float model; `verdict` is what `verdict.json` holds."""

    def __init__(
        self, message: str, *, hint: str = "", verdict: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.verdict = verdict or {}


class BundleError(EdgeqError):
    """A bundle folder is incomplete or its files do not have their recorded digests."""


class RegistryError(EdgeqError):
    """The registry cannot be opened, or does not allow what was asked."""


class VersionError(RegistryError):
    """A model has no such version, or it is not one that can be made live."""


class DamagedRegistryError(RegistryError):
    """The registry's file is not a whole database any more."""


class DropError(EdgeqError):
    """A drop was refused; `stage` names the check that refused it.

    `sha256` is the digest of the refused bytes, "" where the file was not read to its end.
    """

    def __init__(self, message: str, *, stage: str, hint: str = "", sha256: str = "") -> None:
        super().__init__(message, hint=hint)
        self.stage = stage
        self.sha256 = sha256


class SwapError(EdgeqError):
    """The new engine was not published; what served before still serves."""


class DaemonError(EdgeqError):
    """The daemon cannot be reached, or refused a command."""


class RequestError(EdgeqError):
    """A request that cannot be answered."""


class InvalidRequestError(RequestError):
    """The request is malformed or is not what the model takes."""


class NotFoundError(RequestError):
    """No such model, version or resource."""


class MethodNotAllowedError(RequestError):
    """The resource is there, but not for this method; `allowed` are those it takes."""

    def __init__(self, message: str, allowed: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.allowed = tuple(allowed)


class TooLargeError(RequestError):
    """The request body is over the limit."""


class UnauthenticatedError(RequestError):
    """The token that the call needs is absent or wrong."""


class ForbiddenError(RequestError):
    """The call is refused whatever it brings: no token is configured that would open it."""


class ConflictError(RequestError):
    """The state of the model does not allow what was asked."""


class UnavailableError(RequestError):
    """Not ready, queue full or shutting down; `retry_after_s` is when to try again."""

    def __init__(self, message: str, *, retry_after_s: int = 1, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.retry_after_s = retry_after_s


class TimedOutError(RequestError):
    """The client was too slow with its request."""


class DeadlineError(RequestError):
    """The deadline passed before an answer was ready."""
