"""Section 2 of the list of faults: what is sent over a raw socket, and the one answer that may come."""

from __future__ import annotations

import pytest
from tests.edge.conftest import LIMITS, SHORT
from tests.edge.sockets import BODY, Raw, get, post, request
from tests.test_server import Server

POST = "POST /predict/double HTTP/1.1\nHost: localhost\n"
GUESS = b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"  # what a smuggler hopes is answered

# Everything here is answered once, with 400, and the connection is closed.
MALFORMED = {
    "length and chunks": request(f"{POST}Content-Length: 13\nTransfer-Encoding: chunked", b"0\r\n\r\n"),
    "chunks and length": request(f"{POST}Transfer-Encoding: chunked\nContent-Length: 13", b"0\r\n\r\n"),
    "equal lengths": request(f"{POST}Content-Length: 13\nContent-Length: 13", BODY),
    "length in a list": request(f"{POST}Content-Length: 13, 13", BODY),
    "differing lengths": request(f"{POST}Content-Length: 13\nContent-Length: 3", BODY),
    "signed length": request(f"{POST}Content-Length: +13", BODY),
    "negative length": request(f"{POST}Content-Length: -1", BODY),
    "hexadecimal length": request(f"{POST}Content-Length: 0xd", BODY),
    "underscore in length": request(f"{POST}Content-Length: 1_3", BODY),
    "length with an overflow": request(f"{POST}Content-Length: 18446744073709551629", BODY),
    "unknown coding": request(f"{POST}Transfer-Encoding: xchunked", b"0\r\n\r\n"),
    "chunked not last": request(f"{POST}Transfer-Encoding: chunked, identity", b"0\r\n\r\n"),
    "compressed chunks": request(f"{POST}Transfer-Encoding: gzip, chunked", b"0\r\n\r\n"),
    "two codings": request(f"{POST}Transfer-Encoding: chunked\nTransfer-Encoding: chunked", b"0\r\n\r\n"),
    "chunks in HTTP/1.0": request(
        "POST /predict/double HTTP/1.0\nHost: localhost\nTransfer-Encoding: chunked", b"0\r\n\r\n"
    ),
    "space before colon": request(f"{POST}Content-Length : 13", BODY),
    "vertical tab in coding": request(f"{POST}Transfer-Encoding:\vchunked", b"0\r\n\r\n"),
    "NUL in a value": request(f"{POST}X: a\0b"),
    "NUL in a name": request(f"{POST}X\0: a"),
    "bare CR in a value": request(f"{POST}X: a\rContent-Length: 13"),
    "folded header": request(f"{POST}X: a\n b"),
    "header without colon": request(f"{POST}nonsense"),
    "empty name": request(f"{POST}: a"),
    "bare LF line ends": b"GET / HTTP/1.1\nHost: localhost\n\n",
    "chunk size with 0x": request(f"{POST}Transfer-Encoding: chunked", b"0x5\r\nhello\r\n0\r\n\r\n"),
    "negative chunk size": request(f"{POST}Transfer-Encoding: chunked", b"-5\r\nhello\r\n0\r\n\r\n"),
    "chunk with a bad end": request(f"{POST}Transfer-Encoding: chunked", b"5\r\nhelloXX0\r\n\r\n"),
    "chunk size overflow": request(f"{POST}Transfer-Encoding: chunked", b"fffffffffffffffff\r\nhello"),
    "bare LF after chunk size": request(f"{POST}Transfer-Encoding: chunked", b"5\nhello\r\n0\r\n\r\n"),
    "no Host": request("GET / HTTP/1.1\nX: y"),
    "two Hosts": request("GET / HTTP/1.1\nHost: localhost\nHost: y"),
    "two Hosts in HTTP/1.0": request("GET / HTTP/1.0\nHost: localhost\nHost: y"),
    "garbage": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 hello",
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/2.0": request("GET / HTTP/2.0\nHost: localhost"),
    "HTTP/0.9": b"GET /\r\n\r\n",
    "unknown method": request("BREW / HTTP/1.1\nHost: localhost"),
    "tunnel": request("CONNECT example.org:443 HTTP/1.1\nHost: localhost"),
    "target with a space": request("GET /a b HTTP/1.1\nHost: localhost"),
    "target not escaped": request("GET /\xe4 HTTP/1.1\nHost: localhost"),
    "no target": request("GET  HTTP/1.1\nHost: localhost"),
}


@pytest.mark.parametrize(
    ("path", "keys"),
    [("/predict/double", {"error", "code", "request_id"}), ("/v2/models/double/infer", {"error"})],
)
@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_request_is_refused_once_and_the_connection_closed(
    server: Server, case: str, path: str, keys: set[str]
) -> None:
    """Whatever follows an ambiguous request is nobody's request, in every dialect."""
    data = MALFORMED[case].replace(b"/predict/double", path.encode())
    with Raw(server.port) as client:
        replies = client.send(data + GUESS).read_all()
    assert [reply.status for reply in replies] == [400]
    assert replies[0].is_last
    assert replies[0].headers["content-type"] == "application/json"
    assert keys <= set(replies[0].json)


LARGE = {
    "one header of 1 MB": (get("/")[:-2] + b"X: " + b"a" * (1 << 20), 431),
    "a name without end": (get("/")[:-2] + b"a" * (1 << 20), 431),
    "200,000 headers": (get("/")[:-2] + b"a:\r\n" * 200_000, 431),
    "one header too many": (get("/")[:-2] + b"a:\r\n" * (SHORT["header_count"] + 1), 431),
    "5 MB target": (b"GET /" + b"a" * (5 << 20) + b" HTTP/1.1\r\n", 414),
    "announced body": (request(f"{POST}Content-Length: {LIMITS['body_bytes'] + 1}"), 413),
    "100 GB after a 100": (request(f"{POST}Content-Length: {100 << 30}\nExpect: 100-continue"), 413),
    "body in chunks": (
        request(f"{POST}Transfer-Encoding: chunked") + b"10000\r\n%b\r\n" % bytes(65536) * 20,
        413,
    ),
    "chunk extension of 2 MB": (
        request(f"{POST}Transfer-Encoding: chunked") + b"5;" + b"a" * (2 << 20) + b"\r\nhello\r\n0\r\n\r\n",
        413,
    ),
    "2 MB of trailers": (
        request(f"{POST}Transfer-Encoding: chunked") + b"0\r\n" + b"a: b\r\n" * 400_000 + b"\r\n",
        413,
    ),
}


@pytest.mark.parametrize("case", LARGE)
def test_large_request_is_refused_before_it_is_whole(server: Server, case: str) -> None:
    """Each limit has its status, and the rest of what was sent is not waited for."""
    data, status = LARGE[case]
    with Raw(server.port) as client:
        replies = client.send(data).read_all()
    assert [reply.status for reply in replies] == [status]
    assert replies[0].is_last


HARMLESS = {
    "plain": post("/predict/double"),
    "chunks": request(f"{POST}Transfer-Encoding: chunked", b"d\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "coding in capitals": request(f"{POST}Transfer-Encoding: CHUNKED", b"d\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "extension and trailers": request(
        f"{POST}Transfer-Encoding: chunked", b"d;a=b\r\n" + BODY + b"\r\n0\r\nContent-Type: text/html\r\n\r\n"
    ),
    "absolute target": request(
        "POST http://elsewhere/predict/double HTTP/1.1\nHost: localhost\nContent-Length: 13", BODY
    ),
    "query": post("/predict/double?a=b"),
    "empty lines first": b"\r\n\r\n" + post("/predict/double"),
    "upgrade to HTTP/2": post("/predict/double", BODY, "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c"),
    "upgrade to a WebSocket": post("/predict/double", BODY, "Connection: Upgrade", "Upgrade: websocket"),
    "upgrade with chunks": request(
        f"{POST}Connection: upgrade\nUpgrade: h2c\nTransfer-Encoding: chunked",
        b"d\r\n" + BODY + b"\r\n0\r\n\r\n",
    ),
    "escaped path": post("/predict/%64ouble"),
    "unknown expectation": post("/predict/double", BODY, "Expect: a miracle"),
}


@pytest.mark.parametrize("case", HARMLESS)
def test_unusual_request_is_answered_and_the_connection_lives(server: Server, case: str) -> None:
    """What is odd but clear is taken as it is meant, and the next request is read where it begins."""
    with Raw(server.port) as client:
        for _ in range(2):
            reply = client.send(HARMLESS[case]).read()
            assert reply is not None
            assert (reply.status, reply.json) == (200, {"y": [2.0, 4.0]})
        replies = [client.send(HARMLESS[case] + GUESS).read() for _ in range(1)] + [client.read()]
        assert [reply and reply.status for reply in replies] == [200, 200]


def test_upgrade_without_a_body_is_ignored(server: Server) -> None:
    """A GET that offers another protocol gets its answer in this one, and so does what follows."""
    offer = request("GET /v2/health/live HTTP/1.1\nHost: localhost\nConnection: Upgrade\nUpgrade: h2c")
    with Raw(server.port) as client:
        client.send(offer + offer + get("/v2/health/live"))
        assert [getattr(client.read(), "status", None) for _ in range(3)] == [200] * 3


def test_client_is_told_to_go_on_only_when_its_body_is_wanted(server: Server) -> None:
    """`Expect: 100-continue`: 100 when the body is read; a refusal instead of it, and then the connection ends."""
    with Raw(server.port) as client:
        head = post("/predict/double", BODY, "Expect: 100-continue")[: -len(BODY)]
        reply = client.send(head).read()
        assert reply is not None
        assert reply.status == 100
        reply = client.send(BODY).read()
        assert reply is not None
        assert reply.status == 200
        assert client.is_open()
        missing = post("/predict/nobody", BODY, "Expect: 100-continue")[: -len(BODY)]
        replies = client.send(missing).read_all()
        assert [(reply.status, reply.is_last) for reply in replies] == [(404, True)]


@pytest.mark.parametrize(
    ("path", "keys"), [("/predict/double", {"error", "code", "request_id"}), ("/v2/x", {"error"})]
)
def test_edge_speaks_the_dialect_of_the_path(server: Server, path: str, keys: set[str]) -> None:
    """An error that no endpoint has seen looks as one that it gave, with the caller's request id."""
    data = request(f"POST {path} HTTP/1.1\nHost: localhost\nX-Request-Id: mine-1\nContent-Length: {1 << 40}")
    with Raw(server.port) as client:
        (reply,) = client.send(data).read_all()
    assert reply.status == 413
    assert set(reply.json) == keys
    assert reply.json["error"] == f"the body has {1 << 40} bytes; the limit is {LIMITS['body_bytes']}"
    assert reply.headers["x-request-id"] == "mine-1"


def test_http_1_0_is_answered_and_closed(server: Server) -> None:
    """An old client needs no Host, gets no chunks, and its connection ends with the answer."""
    data = request("POST /predict/double HTTP/1.0\nContent-Length: 13", BODY)
    with Raw(server.port) as client:
        (reply,) = client.send(data + GUESS).read_all()
    assert reply.status == 200
    assert reply.is_last


def test_answers_keep_the_order_of_pipelined_requests(server: Server) -> None:
    """A slow answer, quick ones, a refusal and at last an error of the edge: in the order of what was asked."""
    data = [
        post("/predict/slow", b'{"x": [150, 0]}'),
        post("/predict/double"),
        get("/v2/health/live"),
        post("/predict/nobody"),
        request("GET / HTTP/1.1\nX: no host"),
        GUESS,
    ]
    with Raw(server.port) as client:
        replies = client.send(b"".join(data)).read_all()
    assert [reply.status for reply in replies] == [200, 200, 200, 404, 400]
    assert [reply.is_last for reply in replies] == [False] * 4 + [True]


def test_many_requests_at_once_on_one_connection_are_all_answered(server: Server) -> None:
    """Two hundred pipelined requests, more than are read ahead, come back in order."""
    bodies = [b'{"x": [%d, 0]}' % number for number in range(200)]
    with Raw(server.port) as client:
        client.send(b"".join(post("/predict/double", body) for body in bodies))
        replies = [client.read() for _ in bodies]
        assert [reply.json["y"][0] for reply in replies if reply] == [2.0 * n for n in range(200)]
        assert client.is_open()


def test_thousands_of_requests_on_one_connection_end_it(server: Server) -> None:
    """A flood in one read is not taken in: what is in line is answered, then the connection ends with a 503."""
    with Raw(server.port) as client:
        client.send(post("/predict/slow", b'{"x": [100, 0]}') + get("/v2/health/live") * 3000)
        replies = client.read_all()
    assert replies[-1].status == 503
    assert replies[-1].is_last
    assert {reply.status for reply in replies[:-1]} == {200}
    assert len(replies) <= 260
