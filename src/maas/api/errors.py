"""Errors on the wire: one table from our tree to HTTP and gRPC, looked up along a class's ancestry, for every dialect."""

from __future__ import annotations

import math
from collections.abc import Mapping

from maas import errors
from maas.errors import InvalidRequest, MaasError, Refused, TooLarge, Unavailable, UnsupportedMedia


class SlowRequest(InvalidRequest):
    """Headers or body came too slowly. This and the three below arise only where bytes become requests."""

    code = "request_timeout"


class UnsupportedCoding(UnsupportedMedia):
    """The body is compressed in a way that is not read here; `readable` says which is, as `Accept-Encoding` names it."""

    def __init__(self, message: str, *, readable: str = "gzip, deflate") -> None:
        super().__init__(message)
        self.readable = readable


class TargetTooLong(TooLarge):
    code = "target_too_long"


class HeadersTooLarge(TooLarge):
    code = "headers_too_large"


# What each is in HTTP, and in gRPC.
_STATUS: Mapping[type[MaasError], tuple[int, str]] = {
    errors.MaasError: (500, "INTERNAL"),
    errors.InvalidRequest: (400, "INVALID_ARGUMENT"),
    errors.TooLarge: (413, "RESOURCE_EXHAUSTED"),
    errors.UnsupportedMedia: (415, "INVALID_ARGUMENT"),
    errors.Forbidden: (403, "PERMISSION_DENIED"),
    errors.ModelNotFound: (404, "NOT_FOUND"),
    errors.Refused: (503, "UNAVAILABLE"),
    errors.QueueFull: (503, "UNAVAILABLE"),
    errors.DeadlineUnreachable: (503, "UNAVAILABLE"),
    errors.Unavailable: (503, "UNAVAILABLE"),
    errors.ModelNotReady: (503, "UNAVAILABLE"),
    errors.Draining: (503, "UNAVAILABLE"),
    errors.WorkerDied: (503, "UNAVAILABLE"),
    errors.Aborted: (503, "UNAVAILABLE"),
    errors.ServerUnreachable: (503, "UNAVAILABLE"),
    errors.ConnectionLost: (503, "UNAVAILABLE"),
    errors.DeadlineExceeded: (504, "DEADLINE_EXCEEDED"),
    errors.ComputeTimeout: (504, "DEADLINE_EXCEEDED"),
    errors.ModelFailed: (500, "INTERNAL"),
    errors.OutOfMemory: (500, "INTERNAL"),
    errors.Quarantined: (422, "FAILED_PRECONDITION"),
    errors.BadArtifact: (500, "INTERNAL"),
    errors.ConfigurationError: (500, "INTERNAL"),
    SlowRequest: (408, "DEADLINE_EXCEEDED"),
    TargetTooLong: (414, "RESOURCE_EXHAUSTED"),
    HeadersTooLarge: (431, "RESOURCE_EXHAUSTED"),
}

# What is away and has not said for how long: seconds after which it is worth asking again.
_BACK_SOON: Mapping[type[MaasError], float] = {errors.ModelNotReady: 1.0, errors.Draining: 1.0}

OPAQUE = "internal error; the server's log has it under this request's id"


def status_of(error: Exception) -> int:
    """HTTP status of an error of our tree; 500 of any other."""
    return _look_up(error)[0]


def grpc_code_of(error: Exception) -> str:
    """Name of the gRPC status code of an error of our tree; that of a bug is `INTERNAL`."""
    return _look_up(error)[1]


def _look_up(error: Exception) -> tuple[int, str]:
    return next((_STATUS[cls] for cls in type(error).__mro__ if cls in _STATUS), _STATUS[MaasError])


def public(error: Exception) -> MaasError:
    """What may be shown of `error`: itself, or for a bug nothing but that there is one."""
    return error if isinstance(error, MaasError) else MaasError(OPAQUE)


def headers_of(error: Exception) -> list[tuple[bytes, bytes]]:
    """`X-Error-Code`, for dialects whose bodies have no place for it; where waiting helps `Retry-After` in whole seconds,
    rounded up, at least 1, with the milliseconds beside it; and where another coding does, those that are read."""
    code = (b"x-error-code", public(error).code.encode())
    seconds = error.retry_after if isinstance(error, Refused | Unavailable) else None
    if seconds is None and isinstance(error, MaasError):
        seconds = _BACK_SOON.get(type(error))
    if isinstance(error, UnsupportedCoding):
        return [code, (b"accept-encoding", error.readable.encode())]
    if seconds is None:
        return [code]
    return [
        code,
        (b"retry-after", str(max(1, math.ceil(seconds))).encode()),
        (b"retry-after-ms", str(math.ceil(seconds * 1e3)).encode()),
    ]
