"""What both clients send, and what they make of an answer."""

from __future__ import annotations

import json

import httpx
import numpy as np
import pytest

from maas.errors import InvalidRequest, Unavailable

HEADERS = {
    "X-Model-Version": "digits-cnn/3",
    "X-Model-Digest": "sha256:abc",
    "Server-Timing": "queue;dur=0.012, compute;dur=1.3, total;dur=1.9, cache;desc=hit",
}


class Server:
    """Answers everything with the same body, and remembers what it was asked."""

    def __init__(self, body: object = None, status: int = 200, **headers: str) -> None:
        self.body = {"y": [1.25]} if body is None else body
        self.status = status
        self.headers = headers
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        echo = {"X-Request-Id": request.headers["x-request-id"]}
        content = self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()
        return httpx.Response(self.status, content=content, headers=echo | HEADERS | self.headers)

    @property
    def sent(self) -> object:
        return json.loads(self.requests[-1].content)


def test_a_prediction_carries_outputs_and_facts(ask):
    """Outputs come as arrays, with version, digest, request id and timings in seconds."""
    answer = ask("predict", "digits-cnn", {"x": [0.5]}, request_id="call-7", handler=Server())
    np.testing.assert_array_equal(answer.outputs["y"], [1.25])
    assert (answer.model_version, answer.digest, answer.request_id) == (
        "digits-cnn/3",
        "sha256:abc",
        "call-7",
    )
    assert answer.timings == pytest.approx({"queue": 12e-6, "compute": 1.3e-3, "total": 1.9e-3})


def test_a_request_is_posted_to_the_models_path(ask):
    """The path names the model, the body is JSON, the id is sent along."""
    server = Server()
    ask("predict", "digits-cnn", {"x": [0.5]}, request_id="call-7", handler=server)
    (request,) = server.requests
    assert (request.method, request.url.path) == ("POST", "/predict/digits-cnn")
    assert request.headers["content-type"] == "application/json"
    assert request.headers["x-request-id"] == "call-7"
    assert server.sent == {"x": [0.5]}


def test_a_version_is_part_of_the_path(ask):
    """A named version is asked for by its own path, below whatever path the server's URL has."""
    server = Server()
    options = {"url": "http://gateway.example/models-api/"}
    ask("predict", "digits-cnn", {"x": [0.5]}, version="1.10", handler=server, options=options)
    assert server.requests[0].url.path == "/models-api/predict/digits-cnn/versions/1.10"


def test_every_call_has_a_request_id(ask):
    """Without an id of the caller's one is made, different each time, and the answer has it."""
    server = Server()
    answers = [ask("predict", "m", {"x": [1]}, handler=server) for _ in range(2)]
    ids = [request.headers["x-request-id"] for request in server.requests]
    assert [answer.request_id for answer in answers] == ids
    assert len(set(ids)) == 2


def test_headers_that_a_proxy_dropped_are_none(ask):
    """An answer without our headers is still an answer, and has the id that was sent."""
    answer = ask(
        "predict",
        "m",
        {"x": [1]},
        request_id="call-7",
        handler=lambda _: httpx.Response(200, content=b'{"y": 1}'),
    )
    assert (answer.model_version, answer.digest, answer.request_id) == (None, None, "call-7")
    assert answer.timings == {}


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("../secret", {}),
        ("a/b", {}),
        ("", {}),
        ("m", {"version": "1/2"}),
        ("m", {"request_id": "two\r\nlines"}),
        ("m", {"request_id": ""}),
        ("m", {"request_id": "ключ"}),
        ("m", {"timeout": 0}),
        ("m", {"timeout": float("nan")}),
        ("m", {"timeout": float("inf")}),
    ],
)
def test_what_cannot_be_asked_is_never_sent(ask, name, arguments):
    """Names, ids and timeouts that make no sense are refused before anything is sent."""
    server = Server()
    with pytest.raises(InvalidRequest):
        ask("predict", name, {"x": [1]}, handler=server, **arguments)
    assert server.requests == []


@pytest.mark.parametrize(
    "options",
    [
        {"url": "127.0.0.1:8000"},
        {"url": "ftp://127.0.0.1"},
        {"url": "http://"},
        {"url": "http://127.0.0.1:port"},
        {"retries": -1},
        {"timeout": 0.0},
        {"connect_timeout": -1.0},
    ],
)
def test_a_client_with_senseless_options_is_not_made(ask, options):
    """An address that is no HTTP URL, and a negative count or duration, are refused at construction."""
    with pytest.raises(InvalidRequest):
        ask("is_live", options=options)


@pytest.mark.parametrize(
    ("text", "dtype", "values"),
    [
        ("[1.5, 2]", np.float64, [1.5, 2.0]),
        ("[[1], [-2]]", np.int64, [[1], [-2]]),
        ("[true, false]", np.bool_, [True, False]),
        ('["ab", "c\\u0000"]', np.object_, ["ab", "c\0"]),
        ("0.25", np.float64, 0.25),
        ("[]", np.float64, []),
        ("[1, 18446744073709551615]", np.uint64, [1, 2**64 - 1]),
        ("[1e300, 2.0]", np.float64, [1e300, 2.0]),
        ("[NaN, -Infinity]", np.float64, [np.nan, -np.inf]),
    ],
)
def test_outputs_are_the_arrays_that_json_tells(ask, text, dtype, values):
    """The dtype follows the JSON: floats, exact integers, booleans, text; bare NaN and infinities are read."""
    output = ask("predict", "m", {"x": [1]}, handler=Server(b'{"y": ' + text.encode() + b"}")).outputs["y"]
    assert output.dtype == dtype
    np.testing.assert_array_equal(output, np.array(values, dtype))


def test_a_cast_to_the_declared_dtype_loses_nothing(ask):
    """A float32 that travelled as JSON comes back bit for bit."""
    sent = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    body = b'{"y": [' + ",".join(str(number) for number in sent).encode() + b"]}"
    output = ask("predict", "m", {"x": [1]}, handler=Server(body)).outputs["y"]
    np.testing.assert_array_equal(output.astype(np.float32), sent)


@pytest.mark.parametrize(
    "body", [b'{"y": [[1], [2, 3]]}', b'{"y": [1, null]}', b'{"y": {"z": 1}}', b"[1]", b"<html>", b"", b"\xff", b"[" * 10**5]
)  # fmt: skip
def test_an_answer_of_which_no_sense_can_be_made_is_an_error(ask, body):
    """A success that holds no tensors raises, and names the address and the request."""
    server = Server(body, **{"Content-Type": "text/html"})
    with pytest.raises(
        Unavailable, match=r"127\.0\.0\.1:8000/predict/m answered 200 OK with text/html"
    ) as caught:
        ask("predict", "m", {"x": [1]}, request_id="call-7", handler=server)
    assert caught.value.request_id == "call-7"
    assert len(server.requests) == 1


def test_models_are_listed(ask):
    """`models` returns what the server lists."""
    models = [{"name": "m", "version": "1", "state": "READY", "default": True}]
    server = Server({"models": models})
    assert ask("models", handler=server) == models
    assert (server.requests[0].method, server.requests[0].url.path) == ("GET", "/models")


def test_a_model_is_described(ask):
    """`model` returns the server's object for the default version, or for the one named."""
    card = {"name": "m", "version": "2", "inputs": [{"name": "x", "dtype": "float32", "dims": ["batch", 1]}]}
    server = Server(card)
    assert ask("model", "m", handler=server) == ask("model", "m", "2", handler=server) == card
    assert [request.url.path for request in server.requests] == ["/models/m", "/models/m/versions/2"]


@pytest.mark.parametrize(
    ("verb", "arguments", "path"),
    [
        ("load", ("m",), "/admin/models/m/load"),
        ("load", ("m", "1.2"), "/admin/models/m/versions/1.2/load"),
        ("unload", ("m",), "/admin/models/m/unload"),
        ("unload", ("m", "1.2"), "/admin/models/m/versions/1.2/unload"),
        ("refresh", (), "/admin/refresh"),
    ],
)
def test_versions_come_and_go_by_posts(ask, verb, arguments, path):
    """Each verb has a path, and the answer is what became of the versions."""
    state = {"name": "m", "version": "1.2", "state": "ready", "reason": ""}
    server = Server(state if verb == "load" else {"models": [state]})
    assert ask(verb, *arguments, handler=server) == (state if verb == "load" else [state])
    (request,) = server.requests
    assert (request.method, request.url.path, request.content) == ("POST", path, b"")


def test_a_list_without_models_is_an_error(ask):
    """Somebody else's JSON at `/models` raises."""
    with pytest.raises(Unavailable, match="no list of models"):
        ask("models", handler=Server({"data": []}))


@pytest.mark.parametrize("word", ["live", "ready"])
@pytest.mark.parametrize(
    ("status", "body", "holds"),
    [(200, True, True), (200, False, False), (503, True, False), (200, b"<html>", False), (502, b"", False)],
)
def test_health_is_a_plain_yes_or_no(ask, word, status, body, holds):
    """Only a 200 that says so itself is a yes."""
    server = Server(body if isinstance(body, bytes) else {word: body}, status)
    assert ask(f"is_{word}", handler=server) is holds
    assert [request.url.path for request in server.requests] == [f"/v2/health/{word}"]


def test_a_server_that_cannot_be_reached_is_not_live(ask, time):
    """No connection is a no, found with one attempt."""

    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    assert ask("is_live", handler=refuse, time=time) is False
    assert time.pauses == []
