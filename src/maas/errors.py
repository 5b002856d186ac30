"""Every error that `maas` raises on purpose, as one tree.

MaasError
├── InvalidRequest          the caller's request is wrong
│   ├── TooLarge            the body is over a limit
│   └── UnsupportedMedia    the body is of a type or encoding that is not read here
├── Forbidden               the caller, or the artifact, may not do this
├── ModelNotFound           no such model or version
├── Refused                 not now, but later: nothing was executed (`retry_after`, seconds)
│   ├── QueueFull
│   └── DeadlineUnreachable the answer would come after the request's deadline
├── Unavailable             not now: the model, its process or the server is not there
│   ├── ModelNotReady
│   ├── Draining
│   ├── WorkerDied
│   │   └── Aborted         the server stopped while it ran the request
│   ├── ServerUnreachable   a client got no connection: nothing was sent
│   └── ConnectionLost      a client lost the connection while it waited for its answer
├── DeadlineExceeded        the request's deadline passed before its answer
├── ComputeTimeout          the model computed longer than it may, and its process was ended
├── ModelFailed             the model raised, crashed, or broke its declared contract
│   ├── OutOfMemory         a single row does not fit
│   └── Quarantined         the same input has ended a model process a moment ago
├── BadArtifact             a version on disk, or about to be, is not what it says it is
└── ConfigurationError      a file, variable or option does not make a configuration

The first question is whose fault it is, the second what the caller can do. `code` is stable and part of the
public interface; a message names the thing, the value and the limit. Statuses of protocols are not known here:
`maas.api.errors` holds that table.
"""

from __future__ import annotations


class MaasError(Exception):
    """Root of the tree. `code` is a stable word for programs, the message a sentence for people.

    `trace` is what led to it, such as a model's traceback: for the log, never for a caller.
    """

    code = "error"
    request_id: str | None = None  # of the call that met the error, set by who knows it

    def __init__(self, message: str, *, code: str | None = None, trace: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.trace = trace
        if code is not None:
            self.code = code


class InvalidRequest(MaasError, ValueError):
    """Also a `ValueError`, so that pydantic says where in a file or body it stands. `param` is the field that is wrong, where
    a request has fields with names."""

    code = "invalid_request"
    param: str | None = None


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


class DeadlineUnreachable(Refused):
    code = "deadline_unreachable"


class Unavailable(MaasError):
    """Something between caller and model is away; `retry_after` in seconds where the server says when to return."""

    code = "unavailable"
    retry_after: float | None = None


class ModelNotReady(Unavailable):
    code = "model_not_ready"


class Draining(Unavailable):
    code = "draining"


class WorkerDied(Unavailable):
    """The model process died while it ran the request; whether the model saw it is not known."""

    code = "worker_died"


class Aborted(WorkerDied):
    """The server's patience with its last requests ended while it ran this one. Callers read `draining`, as of a request that
    was refused then, but no time to return: only what was not executed has one."""

    code = "draining"


class ServerUnreachable(Unavailable):
    """No connection could be established, so the request was not executed."""

    code = "server_unreachable"


class ConnectionLost(Unavailable):
    """The connection broke after the request was sent; whether the model saw it is not known."""

    code = "connection_lost"


class DeadlineExceeded(MaasError):
    code = "deadline_exceeded"


class ComputeTimeout(MaasError):
    code = "compute_timeout"


class ModelFailed(MaasError):
    """The model's own failure. `code` is one of `model_error`, `model_crashed`, `non_finite_output`, or a subclass's."""

    code = "model_error"


class OutOfMemory(ModelFailed):
    code = "out_of_memory"


class Quarantined(ModelFailed):
    code = "quarantined"


class BadArtifact(MaasError):
    """A model version is incomplete, altered, disallowed or disagrees with its own golden samples."""

    code = "bad_artifact"


class ConfigurationError(MaasError):
    """Each of `problems` names the file with its line, or the variable, and the path of the key."""

    code = "configuration"

    def __init__(self, *problems: str, code: str | None = None) -> None:
        super().__init__("; ".join(problems), code=code)
        self.problems = problems
