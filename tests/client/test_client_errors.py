"""Every way to fail is one class of the tree, for both clients."""

from __future__ import annotations

import httpx
import pytest

from maas import errors
from maas.errors import (
    Aborted,
    BadArtifact,
    ComputeTimeout,
    ConfigurationError,
    ConnectionLost,
    DeadlineExceeded,
    DeadlineUnreachable,
    Draining,
    Forbidden,
    InvalidRequest,
    MaasError,
    ModelFailed,
    ModelNotFound,
    ModelNotReady,
    OutOfMemory,
    Quarantined,
    QueueFull,
    Refused,
    ServerUnreachable,
    TooLarge,
    Unavailable,
    UnsupportedMedia,
    WorkerDied,
)

FROM_SERVER = [
    (500, "error", MaasError),
    (400, "invalid_request", InvalidRequest),
    (413, "too_large", TooLarge),
    (415, "unsupported_media", UnsupportedMedia),
    (403, "forbidden", Forbidden),
    (404, "model_not_found", ModelNotFound),
    (429, "refused", Refused),
    (503, "queue_full", QueueFull),
    (503, "unavailable", Unavailable),
    (503, "model_not_ready", ModelNotReady),
    (503, "draining", Aborted),
    (503, "worker_died", WorkerDied),
    (503, "deadline_unreachable", DeadlineUnreachable),
    (504, "deadline_exceeded", DeadlineExceeded),
    (504, "compute_timeout", ComputeTimeout),
    (500, "model_error", ModelFailed),
    (500, "model_crashed", ModelFailed),
    (500, "non_finite_output", ModelFailed),
    (500, "out_of_memory", OutOfMemory),
    (422, "quarantined", Quarantined),
    (500, "bad_artifact", BadArtifact),
    (500, "configuration", ConfigurationError),
]

# What was refused says when to return.
FROM_REFUSAL = [(503, "draining", Draining)]

# A code that this client does not know, or none at all: the status is what there is.
BY_STATUS = [
    (301, Unavailable),
    (400, InvalidRequest),
    (401, Forbidden),
    (403, Forbidden),
    (404, ModelNotFound),
    (405, InvalidRequest),
    (408, DeadlineExceeded),
    (413, TooLarge),
    (415, UnsupportedMedia),
    (422, InvalidRequest),
    (429, Refused),
    (500, MaasError),
    (502, Unavailable),
    (503, Unavailable),
    (504, DeadlineExceeded),
    (599, Unavailable),
]

FROM_TRANSPORT = [
    (httpx.ConnectError("refused"), ServerUnreachable),
    (httpx.ConnectTimeout("slow"), ServerUnreachable),
    (httpx.ProxyError("407"), ServerUnreachable),
    (httpx.ReadError("reset"), ConnectionLost),
    (httpx.WriteError("broken pipe"), ConnectionLost),
    (httpx.CloseError("late"), ConnectionLost),
    (httpx.RemoteProtocolError("disconnected"), ConnectionLost),
    (httpx.ReadTimeout("slow"), DeadlineExceeded),
    (httpx.WriteTimeout("slow"), DeadlineExceeded),
    (httpx.PoolTimeout("busy"), DeadlineExceeded),
    (httpx.LocalProtocolError("bad header"), InvalidRequest),
    (httpx.UnsupportedProtocol("gopher"), InvalidRequest),
    (httpx.DecodingError("no gzip"), Unavailable),
    (httpx.TooManyRedirects("round and round"), Unavailable),
]


def test_the_tables_cover_the_whole_tree():
    """Every class of `maas.errors`, and every request error of httpx, has a row."""
    tree = {kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, MaasError)}
    assert tree == {kind for *_, kind in FROM_SERVER + FROM_REFUSAL + FROM_TRANSPORT}
    assert set(_leaves(httpx.RequestError)) == {type(error) for error, _ in FROM_TRANSPORT}


def _leaves(kind: type) -> list[type]:
    below = [leaf for child in kind.__subclasses__() for leaf in _leaves(child)]
    return below or [kind]


def fail(ask, handler, **options) -> MaasError:
    with pytest.raises(MaasError) as caught:
        ask(
            "predict", "m", {"x": [1]}, request_id="call-7", handler=handler, options={"retries": 0} | options
        )
    return caught.value


@pytest.mark.parametrize(
    ("status", "code", "kind"), FROM_SERVER, ids=lambda value: getattr(value, "__name__", None)
)
def test_the_servers_error_is_raised_as_it_was(ask, status, code, kind):
    """Class, code and sentence are the server's; the request id is at hand."""
    body = {"error": "batch has 40 rows; model 'm' accepts 32", "code": code, "request_id": "call-7"}
    error = fail(ask, lambda _: httpx.Response(status, json=body, headers={"X-Request-Id": "call-7"}))
    assert type(error) is kind
    assert (error.code, error.message) == (code, "batch has 40 rows; model 'm' accepts 32")
    assert str(error) == error.message
    assert error.request_id == "call-7"


@pytest.mark.parametrize(("status", "code", "kind"), FROM_REFUSAL)
def test_a_time_to_return_tells_a_refusal(ask, status, code, kind):
    """The same code without `Retry-After` is said of a request that may have been executed."""
    reply = httpx.Response(status, json={"error": "no", "code": code}, headers={"Retry-After": "2"})
    error = fail(ask, lambda _: reply)
    assert (type(error), error.code, error.retry_after) == (kind, code, 2.0)


@pytest.mark.parametrize(("status", "kind"), BY_STATUS)
def test_an_unknown_code_keeps_its_sentence(ask, status, kind):
    """An error of a newer server is raised by its status, with its own code and message."""
    error = fail(ask, lambda _: httpx.Response(status, json={"error": "new trouble", "code": "from_later"}))
    assert (type(error), error.code, error.message) == (kind, "from_later", "new trouble")


@pytest.mark.parametrize(("status", "kind"), BY_STATUS)
def test_a_body_that_is_not_ours_gives_a_readable_error(ask, status, kind):
    """A proxy's page is raised by its status; the message has address, status, type and the page's beginning."""
    page = "<html>\n<head><title>nginx\x1b[31m</title></head>" + 10_000 * "x"
    error = fail(ask, lambda _: httpx.Response(status, html=page))
    assert (type(error), error.code, error.request_id) == (kind, kind.code, "call-7")
    assert f"http://127.0.0.1:8000/predict/m answered {status}" in error.message
    assert "text/html" in error.message
    assert "<html> <head><title>nginx" in error.message
    assert len(error.message) < 400
    assert error.message.isprintable()


@pytest.mark.parametrize(
    "body", [b"[]", b'"word"', b"", b'{"error": {"message": "no"}}', b'{"detail": "no"}', b'{"code": 5}']
)
def test_json_that_is_not_ours_gives_a_readable_error(ask, body):
    """JSON of another shape is not taken for an error of ours."""
    error = fail(
        ask, lambda _: httpx.Response(502, content=body, headers={"Content-Type": "application/json"})
    )
    assert type(error) is Unavailable
    assert "502 Bad Gateway with application/json" in error.message


def test_a_password_in_the_address_is_not_shown(ask):
    """No message repeats the credentials that a URL carries."""

    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    for handler in (lambda _: httpx.Response(502), refuse):
        message = fail(ask, handler, url="http://me:secret@models.example/v").message
        assert "http://models.example/v" in message
        assert "secret" not in message


def test_a_redirect_names_where_it_leads(ask):
    """A redirect is not followed, for a POST would arrive as a GET: the message says where to go."""
    moved = httpx.Response(301, headers={"Location": "https://models.example/predict/m"})
    assert "https://models.example/predict/m" in fail(ask, lambda _: moved).message


@pytest.mark.parametrize(("raised", "kind"), FROM_TRANSPORT, ids=lambda value: type(value).__name__)
def test_no_httpx_error_escapes(ask, raised, kind):
    """Whatever the transport raises is an error of the tree that names the server and keeps its cause."""

    def handler(request: httpx.Request) -> httpx.Response:
        raise raised

    error = fail(ask, handler)
    assert type(error) is kind
    assert "http://127.0.0.1:8000" in error.message
    assert error.request_id == "call-7"
    assert error.__cause__ is raised


def test_a_connection_that_took_the_whole_timeout_is_a_deadline(ask, time):
    """When the caller's time is used up, that is what the error says, even if no connection came about."""

    def handler(request: httpx.Request) -> httpx.Response:
        time.now += 31
        raise httpx.ConnectTimeout("slow", request=request)

    with pytest.raises(DeadlineExceeded, match="within 30 s"):
        ask("predict", "m", {"x": [1]}, handler=handler, time=time)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "2", "retry-after-ms": "1250"}, 1.25),
        ({"Retry-After": "2"}, 2.0),
        ({"Retry-After": "2", "retry-after-ms": "soon"}, 2.0),
        ({"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, 0.0),
        ({"Retry-After": "-1"}, 0.0),
        ({"Retry-After": "nan"}, 0.0),
        ({"Retry-After": "inf"}, 0.0),
        ({}, 0.0),
    ],
)
def test_a_refusal_says_when_to_return(ask, headers, seconds):
    """`retry_after` is in seconds, the finer header first; what is no duration counts as unsaid."""
    body = {"error": "the queue is full", "code": "queue_full"}
    error = fail(ask, lambda _: httpx.Response(503, json=body, headers=headers))
    assert isinstance(error, QueueFull)
    assert error.retry_after == pytest.approx(seconds)
