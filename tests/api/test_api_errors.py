"""The table of errors on the wire: complete, looked up along a class's ancestry, rendered by every dialect."""

from __future__ import annotations

import json

import pytest

from maas import errors
from maas.api import errors as wire
from maas.api import native
from maas.api.oip import infer
from maas.errors import MaasError, QueueFull, Unavailable


def tree(root: type[MaasError] = MaasError) -> list[type[MaasError]]:
    ours = [cls for cls in root.__subclasses__() if cls.__module__ == errors.__name__]
    return [root, *(cls for child in ours for cls in tree(child))]


def make(cls: type[MaasError]) -> MaasError:
    return cls("said", retry_after=2.5) if issubclass(cls, errors.Refused) else cls("said")


STATUSES = {
    "MaasError": (500, "INTERNAL"),
    "InvalidRequest": (400, "INVALID_ARGUMENT"),
    "TooLarge": (413, "RESOURCE_EXHAUSTED"),
    "UnsupportedMedia": (415, "INVALID_ARGUMENT"),
    "Forbidden": (403, "PERMISSION_DENIED"),
    "ModelNotFound": (404, "NOT_FOUND"),
    "Refused": (503, "UNAVAILABLE"),
    "QueueFull": (503, "UNAVAILABLE"),
    "DeadlineUnreachable": (503, "UNAVAILABLE"),
    "Unavailable": (503, "UNAVAILABLE"),
    "ModelNotReady": (503, "UNAVAILABLE"),
    "Draining": (503, "UNAVAILABLE"),
    "WorkerDied": (503, "UNAVAILABLE"),
    "Aborted": (503, "UNAVAILABLE"),
    "ServerUnreachable": (503, "UNAVAILABLE"),
    "ConnectionLost": (503, "UNAVAILABLE"),
    "DeadlineExceeded": (504, "DEADLINE_EXCEEDED"),
    "ComputeTimeout": (504, "DEADLINE_EXCEEDED"),
    "ModelFailed": (500, "INTERNAL"),
    "OutOfMemory": (500, "INTERNAL"),
    "Quarantined": (422, "FAILED_PRECONDITION"),
    "BadArtifact": (500, "INTERNAL"),
    "ConfigurationError": (500, "INTERNAL"),
}


def test_every_error_of_the_tree_has_its_status() -> None:
    """The table has a line for each class, and each has the statuses, of HTTP and of gRPC, that were decided for it."""
    assert {cls.__name__: wire._STATUS[cls] for cls in tree()} == STATUSES


def test_codes_are_stable_words_of_their_own() -> None:
    """No two classes share a code, and a code is a plain word; but whom draining meets reads so, refused or cut off."""
    codes = [cls.code for cls in tree() if cls is not errors.Aborted]
    assert errors.Aborted.code == errors.Draining.code
    assert len(set(codes)) == len(codes)
    assert all(code.replace("_", "").isalpha() and code.islower() for code in codes)


def test_status_is_looked_up_along_the_ancestry() -> None:
    """A class that the table does not know has the status of the nearest one above it that it knows."""

    class Special(QueueFull):
        pass

    class Odd(errors.TooLarge, OSError):
        pass

    assert wire.status_of(Special("no", retry_after=1)) == 503
    assert wire.status_of(Odd("no")) == 413


@pytest.mark.parametrize("error", [ValueError("x"), KeyError("x"), ExceptionGroup("x", [OSError()])])
def test_error_outside_the_tree_is_an_opaque_500(error: Exception) -> None:
    """A bug is a 500 whose message says nothing of it."""
    assert wire.status_of(error) == 500
    assert wire.grpc_code_of(error) == "INTERNAL"
    shown = wire.public(error)
    assert (shown.message, shown.code) == (wire.OPAQUE, "error")


@pytest.mark.parametrize("cls", tree(), ids=lambda cls: cls.__name__)
def test_every_dialect_renders_every_error(cls: type[MaasError]) -> None:
    """The native body has error, code and request id; the protocol's has the error alone; neither has the trace."""
    error = make(cls)
    error.trace = "Traceback: secret"
    assert json.loads(native.render_error(error, "r1")) == {
        "error": "said",
        "code": cls.code,
        "request_id": "r1",
    }
    assert json.loads(infer.render_error(error, "r1")) == {"error": "said"}


def test_error_shown_keeps_a_code_of_its_own() -> None:
    """A code given to one error is what callers see."""
    error = errors.ModelFailed("y holds NaN", code="non_finite_output")
    assert json.loads(native.render_error(error, "r"))["code"] == "non_finite_output"


@pytest.mark.parametrize(
    ("seconds", "whole", "milliseconds"),
    [
        (0.0, "1", "0"),
        (0.0001, "1", "1"),
        (0.25, "1", "250"),
        (1.0, "1", "1000"),
        (1.01, "2", "1010"),
        (90, "90", "90000"),
    ],
)
def test_retry_after_is_rounded_up(seconds: float, whole: str, milliseconds: str) -> None:
    """Whole seconds, at least one, and beside them the milliseconds for who can be precise."""
    found = dict(wire.headers_of(QueueFull("full", retry_after=seconds)))
    assert (found[b"retry-after"], found[b"retry-after-ms"]) == (whole.encode(), milliseconds.encode())


def test_every_error_has_its_code_in_a_header() -> None:
    """Whatever the dialect's body has a place for; a bug has no more than `error`."""
    assert all(dict(wire.headers_of(make(cls)))[b"x-error-code"] == make(cls).code.encode() for cls in tree())
    assert dict(wire.headers_of(ValueError("a bug"))) == {b"x-error-code": b"error"}


def test_only_what_was_not_executed_says_when_to_return() -> None:
    """What was refused before it ran has `Retry-After`; what may have run, or never will, has not."""
    telling = {cls.__name__ for cls in tree() if b"retry-after" in dict(wire.headers_of(make(cls)))}
    assert telling == {"Refused", "QueueFull", "DeadlineUnreachable", "ModelNotReady", "Draining"}
    away = Unavailable("away")
    away.retry_after = 3.0
    assert dict(wire.headers_of(away))[b"retry-after"] == b"3"
