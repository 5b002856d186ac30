"""Both clients against real sockets, where timeouts, lost connections and keep-alive are what they are."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time as real_time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from maas.client import AsyncClient, Client
from maas.client.transport import past_proxies
from maas.errors import ConnectionLost, DeadlineExceeded, QueueFull, ServerUnreachable

PATIENCE = 5.0  # seconds within which a bounded call must be over, on a busy machine


def answer(handler, status=200, body=None, **headers):
    content = json.dumps({"y": [1.25]} if body is None else body).encode()
    handler.send_response(status)
    for name, value in {"X-Request-Id": handler.headers["X-Request-Id"], **headers}.items():
        handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content)


def echo(handler, stopped):
    answer(handler, body={"y": json.loads(handler.body)["x"]})


def silent(handler, stopped):
    stopped.wait(PATIENCE)
    handler.close_connection = True


def trickle(handler, stopped):
    """Sends a byte of its answer now and then: no single wait is ever long."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    try:
        while not stopped.wait(0.02):
            handler.wfile.write(b" ")
    except OSError:
        pass  # the client has left, as it should
    handler.close_connection = True


def cut(handler, stopped):
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"y": [')
    handler.close_connection = True


def hang_up(handler, stopped):
    handler.close_connection = True


@pytest.fixture
def nobody() -> str:
    """The URL of a port at which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


def test_a_call_comes_back_with_its_id(ask, loopback):
    """The whole way over a socket: values there and back, the id echoed."""
    server = loopback(echo)
    reply = ask("predict", "m", {"x": [[0.5, 1.0]]}, request_id="call-7", options={"url": server.url})
    assert reply.outputs["y"].tolist() == [[0.5, 1.0]]
    assert reply.request_id == "call-7"
    assert server.paths == ["/predict/m"]


def test_nobody_there_is_unreachable(ask, nobody, time):
    """A port at which nothing listens is tried three times, then named."""
    with pytest.raises(ServerUnreachable, match=nobody):
        ask("predict", "m", {"x": [1]}, options={"url": nobody}, time=time)
    assert len(time.pauses) == 2


@pytest.mark.parametrize("script", [silent, trickle])
def test_no_server_outlasts_the_timeout(ask, loopback, script):
    """A server that says nothing, or ever a little more, is left when the timeout is over, and asked once."""
    server = loopback(script)
    began = real_time.monotonic()
    with pytest.raises(DeadlineExceeded, match=r"within 0\.2 s"):
        ask("predict", "m", {"x": [1]}, timeout=0.2, options={"url": server.url})
    assert 0.15 < real_time.monotonic() - began < PATIENCE / 2
    assert server.paths.count("/predict/m") == 1


@pytest.mark.parametrize("script", [cut, hang_up])
def test_a_lost_connection_is_not_tried_again(ask, loopback, script):
    """An answer that breaks off, or never begins, is an error after one request: the model may have run, and nobody says that
    it may run again."""
    server = loopback(script)
    with pytest.raises(ConnectionLost):
        ask("predict", "m", {"x": [1]}, options={"url": server.url})
    assert server.paths.count("/predict/m") == 1


def test_a_refused_call_is_answered_later(ask, loopback):
    """A full queue is returned to after the pause that the server asked for."""
    outcomes = [503, 503, 200]

    def script(handler, stopped):
        status = outcomes.pop(0)
        body = {"error": "the queue is full", "code": "queue_full"} if status == 503 else None
        answer(handler, status, body, **{"retry-after-ms": "1"})

    reply = ask("predict", "m", {"x": [1]}, options={"url": loopback(script).url})
    assert reply.outputs["y"].tolist() == [1.25]
    assert outcomes == []


def test_a_refusal_that_outlasts_the_timeout_is_raised(ask, loopback):
    """The server's pause is not waited for if the caller would be gone by then."""

    def script(handler, stopped):
        answer(handler, 503, {"error": "the queue is full", "code": "queue_full"}, **{"Retry-After": "60"})

    with pytest.raises(QueueFull):
        ask("predict", "m", {"x": [1]}, timeout=1.0, options={"url": loopback(script).url})


def test_threads_share_one_client(loopback):
    """Calls from many threads each get their own answer, over connections that are kept."""
    server = loopback(echo)
    with Client(server.url) as client, ThreadPoolExecutor(8) as threads:
        replies = threads.map(lambda n: client.predict("m", {"x": [n]}).outputs["y"].tolist(), range(100))
        assert list(replies) == [[n] for n in range(100)]
    assert len(server.connections) <= 8


def test_tasks_share_one_client(loopback):
    """Calls of many tasks at once each get their own answer."""
    server = loopback(echo)

    async def main() -> list[list[int]]:
        async with AsyncClient(server.url) as client, asyncio.TaskGroup() as group:
            tasks = [group.create_task(client.predict("m", {"x": [n]})) for n in range(50)]
        return [task.result().outputs["y"].tolist() for task in tasks]

    assert asyncio.run(main()) == [[n] for n in range(50)]


def test_a_cancelled_call_hangs_up(loopback):
    """Cancellation passes through as such, and the server sees the connection close."""
    asked, left = threading.Event(), threading.Event()

    def script(handler, stopped):
        asked.set()
        handler.connection.settimeout(PATIENCE)
        if handler.connection.recv(1) == b"":
            left.set()
        handler.close_connection = True

    server = loopback(script)

    async def main() -> None:
        async with AsyncClient(server.url) as client:
            call = asyncio.ensure_future(client.predict("m", {"x": [1]}))
            await asyncio.to_thread(asked.wait, PATIENCE)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            assert await asyncio.to_thread(left.wait, PATIENCE)

    asyncio.run(main())


def test_clients_say_where_they_point():
    """The representation names the server."""
    with Client("http://127.0.0.1:9") as client:
        assert repr(client) == "<Client http://127.0.0.1:9>"
    assert repr(AsyncClient("http://127.0.0.1:9")) == "<AsyncClient http://127.0.0.1:9>"


def test_a_loopback_server_is_reached_past_any_proxy(ask, loopback, monkeypatch):
    """HTTP_PROXY is for other machines: a proxy has no way to this one's own addresses."""
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")

    def models(handler, stopped):
        body = b'{"models": []}'
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    assert ask("models", options={"url": loopback(models).url}) == []


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://localhost:8000", False),
        ("http://127.0.0.1", False),
        ("http://127.9.9.9", False),
        ("http://[::1]:8000", False),
        ("http://10.0.0.1", True),
        ("https://models.example.org", True),
        ("http://localhost.example.org", True),
    ],
)
def test_only_loopback_addresses_pass_the_proxy_by(url, expected):
    """Every other server is reached as the environment says."""
    assert (past_proxies(httpx.URL(url)) == {}) is expected
