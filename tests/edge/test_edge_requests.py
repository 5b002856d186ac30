"""What is refused at the door, what happens to requests whose caller leaves, and one connection too many."""

from __future__ import annotations

import contextlib
import http.client
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.edge.conftest import LIMITS, SHORT
from tests.edge.sockets import BODY, Raw, get, post, request
from tests.test_server import Server, _wait_until, serving
from tests.versions import store


def slow(milliseconds: int) -> bytes:
    return post("/predict/slow", b'{"x": [%d, 0]}' % milliseconds)


@contextlib.contextmanager
def full(server: Server) -> Iterator[None]:
    """As many requests in flight as the server takes, until the block ends."""
    clients = [Raw(server.port) for _ in range(LIMITS["requests"])]
    for client in clients:
        client.send(slow(1_500))
    _wait_until(lambda: held(server) == len(clients))
    try:
        yield
    finally:
        for client in clients:
            client.close()
        _wait_until(lambda: held(server) == 0)
        assert server.post("/predict/slow", {"x": [1, 0]}).status_code == 200  # its instance is free again


def held(server: Server) -> float:
    return server.metric("maas_queue_requests", model="slow") + server.metric(
        "maas_running_requests", model="slow"
    )


def test_full_server_refuses_before_it_reads_and_the_connection_lives(server: Server) -> None:
    """503 with Retry-After in the dialect of the path; a short body is read and dropped, a longer one ends the
    connection; health and metrics are still there."""
    refused = server.metric("maas_requests_total", model="double", outcome="queue_full")
    with full(server), Raw(server.port) as client:
        for path in ("/predict/double", "/v2/models/double/infer"):
            reply = client.send(post(path)).read()
            assert reply is not None
            assert (reply.status, reply.is_last) == (503, False)
            assert reply.headers["retry-after"] == "1"
            assert reply.headers["retry-after-ms"] == "1000"
            assert f"the server holds {LIMITS['requests']} requests" in reply.json["error"]
        chunks = b"d\r\n" + BODY + b"\r\n0\r\n\r\n"
        head = "POST /predict/double HTTP/1.1\nHost: localhost\nTransfer-Encoding: chunked"
        reply = client.send(request(head, chunks)).read()
        assert reply is not None
        assert (reply.status, reply.is_last) == (503, False)
        reply = client.send(post("/predict/double", bytes(60_000))).read()
        assert reply is not None
        assert (reply.status, reply.is_last) == (503, False)
        assert client.is_open()
        for data in (post("/predict/double", bytes(70_000)), request(head, b"11170\r\n" + bytes(70_000))):
            with Raw(server.port) as other:
                replies = other.send(data).read_all()
            assert [(reply.status, reply.is_last) for reply in replies] == [(503, True)]
        with Raw(server.port) as other:
            waiting = post("/predict/double", BODY, "Expect: 100-continue")[: -len(BODY)]
            replies = other.send(waiting).read_all()
            assert [(reply.status, reply.is_last) for reply in replies] == [(503, True)]
        assert server.get("/v2/health/ready").status_code == 200
    assert server.metric("maas_requests_total", model="double", outcome="queue_full") == refused + 7
    assert server.post("/predict/double", {"x": [1, 2]}).status_code == 200


def test_refusals_are_answered_in_order(server: Server) -> None:
    """Pipelined behind one that is answered, refusals follow it, all of them."""
    with full(server), Raw(server.port) as client:
        client.send(get("/v2/health/live") + post("/predict/double") * 100 + get("/v2/health/live"))
        replies = [client.read() for _ in range(102)]
        assert [reply.status for reply in replies if reply] == [200, *[503] * 100, 200]


def test_six_queued_five_leave_one_is_run(server: Server) -> None:
    """Who closes takes the request along: it is not run, it is counted, and nothing is logged of it."""
    cancelled = server.metric("maas_requests_total", model="slow", outcome="cancelled")
    runs = server.metric("maas_batch_rows_sum", model="slow")
    events = len(server.events())
    with Raw(server.port) as first:
        first.send(slow(2000))
        _wait_until(lambda: held(server) == 1)
        others = [Raw(server.port).send(slow(1)) for _ in range(6)]
        _wait_until(lambda: held(server) == 7)
        for client in others[:5]:
            client.close()
        _wait_until(lambda: held(server) == 2)
        replies = [first.read(), others[5].read()]
        others[5].close()
    assert [reply and reply.status for reply in replies] == [200, 200]
    assert server.metric("maas_requests_total", model="slow", outcome="cancelled") == cancelled + 5
    assert server.metric("maas_batch_rows_sum", model="slow") == runs + 2
    assert server.events()[events:] == []


def test_pipelined_requests_leave_with_their_connection(server: Server) -> None:
    """The second to fifth on a connection never begin; kept alive from an earlier answer or not."""
    cancelled = server.metric("maas_requests_total", model="slow", outcome="cancelled")
    with Raw(server.port) as client:
        assert client.is_open()
        client.send(slow(1_000) * 5)
        _wait_until(lambda: held(server) == 1)
    _wait_until(
        lambda: server.metric("maas_requests_total", model="slow", outcome="cancelled") == cancelled + 5
    )
    assert held(server) <= 1
    _wait_until(lambda: held(server) == 0)


def test_client_that_left_behind_unread_bytes_is_noticed(server: Server) -> None:
    """Where more was sent than is read ahead, the end of the connection stands behind it unread, and is seen."""
    with Raw(server.port) as client:
        large = post("/predict/slow", b'{"x": [1, 0]}' + b" " * 65_000)
        client.send(slow(2_000) + large * 8)
        _wait_until(lambda: held(server) == 1)
        client.close()
        started = time.monotonic()
        _wait_until(lambda: server.metric("maas_queue_requests", model="slow") == 0)
        with Raw(
            server.port
        ) as other:  # the row that runs is dropped, but its instance is busy until it ends
            reply = other.send(slow(1)).read()
            assert reply is not None
            assert reply.status == 200
        assert time.monotonic() - started < 4
    assert held(server) == 0


@pytest.mark.parametrize(
    "path", ["/v2/health/live", "/v2/models/double", "/metrics", "/openapi.json", "/v1/models"]
)
def test_head_is_answered_as_get_without_the_body(server: Server, path: str) -> None:
    """Monitors probe with it; the connection goes on, so nothing came behind the head."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request("HEAD", path)
    answer = connection.getresponse()
    assert (answer.status, answer.read()) == (200, b"")
    assert int(answer.headers["content-length"]) > 0
    connection.request("GET", path)
    assert connection.getresponse().read()
    connection.request("HEAD", "/predict/double")
    refused = connection.getresponse()
    assert (refused.status, refused.headers["allow"], refused.read()) == (405, "POST", b"")
    connection.close()


def test_one_connection_too_many_is_told(server: Server) -> None:
    """503 with Retry-After and a close; when others have gone there is room again."""
    clients = [Raw(server.port) for _ in range(SHORT["max_connections"])]
    try:
        with Raw(server.port) as client:
            replies = client.send(get("/")).read_all()
        assert [(r.status, r.is_last, r.headers["retry-after"]) for r in replies] == [(503, True, "1")]
        assert clients[-1].is_open()
    finally:
        for client in clients:
            client.close()
    _wait_until(lambda: server.get("/v2/health/live").status_code == 200)


def test_no_descriptors_left(tmp_path: Path) -> None:
    """With 64 descriptors and 200 clients: existing connections work, the process lives, and it recovers."""
    repository = tmp_path / "models"
    store(repository, name="double")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with limited_to(64), serving(repository, tmp_path) as server:
        with Raw(server.port) as existing:
            assert existing.is_open()
            flood = [Raw(server.port) for _ in range(200)]
            for _ in range(3):
                reply = existing.send(post("/predict/double")).read()
                assert reply is not None
                assert reply.status == 200
        for client in flood:
            client.close()
        started = time.monotonic()
        _wait_until(lambda: answers(server.port), 6)
        assert time.monotonic() - started < 6
        assert server.process.poll() is None
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (soft, hard)


def answers(port: int) -> bool:
    with contextlib.suppress(OSError), Raw(port) as client:
        return client.is_open()
    return False


@contextlib.contextmanager
def limited_to(descriptors: int) -> Iterator[None]:
    """Children may have so many: a wrapper takes Python's place for as long."""
    original = subprocess.Popen

    def popen(command: list[str], **options: object) -> subprocess.Popen[bytes]:
        script = f"ulimit -n {descriptors} && exec " + " ".join(command)
        return (
            original(["sh", "-c", script], **options)
            if command[0] == sys.executable
            else original(command, **options)
        )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subprocess, "Popen", popen)
        yield


def test_nothing_is_left_of_a_torrent_of_leavers(server: Server) -> None:
    """Three hundred clients leave at every stage of a request; then nothing waits or runs, and nothing was logged."""
    events = len(server.events())
    whole = slow(20)
    for cut in range(300):
        with Raw(server.port) as client:
            client.send(whole[: cut % (len(whole) + 1)] if cut % 3 else whole * (cut % 4))
    _wait_until(lambda: held(server) == 0)
    assert [e for e in server.events()[events:] if e["event"] != "request_failed"] == []
    assert json.loads(server.get("/v2/health/live").content) == {"live": True}
