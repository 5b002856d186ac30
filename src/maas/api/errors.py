"""Errors on the wire: one table from our tree to HTTP, looked up along a class's ancestry, for every dialect."""

from __future__ import annotations

import math
from collections.abc import Mapping

from maas import errors
from maas.errors import InvalidRequest, MaasError, Refused, TooLarge, Unavailable


class SlowRequest(InvalidRequest):
    """Headers or body came too slowly. This and the two below arise only where bytes become requests."""

    code = "request_timeout"


class TargetTooLong(TooLarge):
    code = "target_too_long"


class HeadersTooLarge(TooLarge):
    code = "headers_too_large"


_STATUS: Mapping[type[MaasError], int] = {
    errors.MaasError: 500,
    errors.InvalidRequest: 400,
    errors.TooLarge: 413,
    errors.UnsupportedMedia: 415,
    errors.Forbidden: 403,
    errors.ModelNotFound: 404,
    errors.Refused: 503,
    errors.QueueFull: 503,
    errors.DeadlineUnreachable: 503,
    errors.Unavailable: 503,
    errors.ModelNotReady: 503,
    errors.Draining: 503,
    errors.WorkerDied: 503,
    errors.Aborted: 503,
    errors.ServerUnreachable: 503,
    errors.ConnectionLost: 503,
    errors.DeadlineExceeded: 504,
    errors.ComputeTimeout: 504,
    errors.ModelFailed: 500,
    errors.OutOfMemory: 500,
    errors.Quarantined: 422,
    errors.BadArtifact: 500,
    errors.ConfigurationError: 500,
    SlowRequest: 408,
    TargetTooLong: 414,
    HeadersTooLarge: 431,
}

# What is away and has not said for how long: seconds after which it is worth asking again.
_BACK_SOON: Mapping[type[MaasError], float] = {errors.ModelNotReady: 1.0, errors.Draining: 1.0}

OPAQUE = "internal error; the server's log has it under this request's id"


def status_of(error: Exception) -> int:
    """HTTP status of an error of our tree; 500 of any other."""
    for cls in type(error).__mro__:
        if cls in _STATUS:
            return _STATUS[cls]
    return 500


def public(error: Exception) -> MaasError:
    """What may be shown of `error`: itself, or for a bug nothing but that there is one."""
    return error if isinstance(error, MaasError) else MaasError(OPAQUE)


def headers_of(error: Exception) -> list[tuple[bytes, bytes]]:
    """`Retry-After` in whole seconds, rounded up, at least 1, and beside it the milliseconds, where waiting helps."""
    seconds = error.retry_after if isinstance(error, Refused | Unavailable) else None
    if seconds is None and isinstance(error, MaasError):
        seconds = _BACK_SOON.get(type(error))
    if seconds is None:
        return []
    return [
        (b"retry-after", str(max(1, math.ceil(seconds))).encode()),
        (b"retry-after-ms", str(math.ceil(seconds * 1e3)).encode()),
    ]
