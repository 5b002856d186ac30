"""Every error that `maas` raises on purpose, as one tree.

MaasError
├── InvalidRequest          the caller's request is wrong
│   ├── TooLarge            the body is over a limit
│   └── UnsupportedMedia    the body is of a type or encoding that is not read here
├── Forbidden               the caller, or the artifact, may not do this
├── ModelNotFound           no such model or version
├── Refused                 not now, but later: nothing was executed (`retry_after`, seconds)
│   └── QueueFull
├── Unavailable             not now: the model, its process or the server is not there
│   ├── ModelNotReady
│   ├── Draining
│   └── WorkerDied
├── DeadlineExceeded        the request's deadline passed before its answer
├── ModelFailed             the model raised, died, or broke its declared contract
└── BadArtifact             a version on disk, or about to be, is not what it says it is

The first question is whose fault it is, the second what the caller can do. `code` is stable and part of the
public interface; a message names the thing, the value and the limit. Statuses of protocols are not known here:
`maas.api.errors` holds that table.
"""

from __future__ import annotations


class MaasError(Exception):
    """Root of the tree. `code` is a stable word for programs, the message a sentence for people."""

    code = "error"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        if code is not None:
            self.code = code


class InvalidRequest(MaasError):
    code = "invalid_request"


class TooLarge(InvalidRequest):
    code = "too_large"


class UnsupportedMedia(InvalidRequest):
    code = "unsupported_media"


class Forbidden(MaasError):
    code = "forbidden"


class ModelNotFound(MaasError):
    code = "model_not_found"


class Refused(MaasError):
    """The request was not executed and may be sent again after `retry_after` seconds."""

    code = "refused"

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class QueueFull(Refused):
    code = "queue_full"


class Unavailable(MaasError):
    code = "unavailable"


class ModelNotReady(Unavailable):
    code = "model_not_ready"


class Draining(Unavailable):
    code = "draining"


class WorkerDied(Unavailable):
    """The model process died while it ran the request; whether the model saw it is not known."""

    code = "worker_died"


class DeadlineExceeded(MaasError):
    code = "deadline_exceeded"


class ModelFailed(MaasError):
    """The model's own failure. `code` is one of `model_error`, `non_finite_output`."""

    code = "model_error"


class BadArtifact(MaasError):
    """A model version is incomplete, altered, disallowed or disagrees with its own golden samples."""

    code = "bad_artifact"
