"""Whoever refuses a request, and however early, speaks the dialect of its path: over a raw socket, on every kind of path."""

from __future__ import annotations

from typing import Any

import pytest
from tests.edge.conftest import SHORT
from tests.edge.sockets import BODY, Raw, Reply, request
from tests.test_server import Server

NATIVE, INFER, V1, OPENAI = "native", "v2", "v1", "openai"

PATHS = {
    "/predict/double": NATIVE,
    "/predict/nobody": NATIVE,
    "/predict/double/versions/9": NATIVE,
    "/models": NATIVE,
    "/models/nobody": NATIVE,
    "/admin/nothing": NATIVE,
    "/v2x/models": NATIVE,
    "/v1x": NATIVE,
    "/nothing": NATIVE,
    "/": NATIVE,
    "/v2": INFER,
    "/v2/": INFER,
    "/v2/health/live": INFER,
    "/v2/models/double": INFER,
    "/v2/models/double/infer": INFER,
    "/v2/models/nobody/infer": INFER,
    "/v2/models/double/versions/9/infer": INFER,
    "/v2/models/nobody:predict": INFER,
    "/v2/repository/index": INFER,
    "/v2/systemsharedmemory/status": INFER,
    "/v2/nothing": INFER,
    "/v1": OPENAI,
    "/v1/models": OPENAI,
    "/v1/models/double": OPENAI,
    "/v1/models/nobody": OPENAI,
    "/v1/nothing": OPENAI,
    "/v1/models/double:predict": V1,
    "/v1/models/double%3Apredict": V1,
    "/v1/models/nobody:predict": V1,
    "/v1/models/double/versions/9:predict": V1,
    "/v1/models/double:explain": V1,
}
INFERENCE = [path for path in PATHS if path.endswith(("/predict/double", "/double/infer", "/double:predict"))]

# What is wrong, and the statuses that may be said of it.
WRONG: dict[str, tuple[int, bytes]] = {
    "method": (405, request("DELETE {path} HTTP/1.1\nHost: localhost")),
    "preflight": (
        405,
        request("OPTIONS {path} HTTP/1.1\nHost: localhost\nAccess-Control-Request-Method: POST"),
    ),
    "two hosts": (400, request("POST {path} HTTP/1.1\nHost: localhost\nHost: x\nContent-Length: 0")),
    "two framings": (
        400,
        request("POST {path} HTTP/1.1\nHost: localhost\nContent-Length: 1\nTransfer-Encoding: chunked"),
    ),
    "no header": (400, request("POST {path} HTTP/1.1\nHost: localhost\nnonsense")),
    "another site": (403, request("POST {path} HTTP/1.1\nHost: evil.example\nContent-Length: 13", BODY)),
    "large body": (413, request(f"POST {{path}} HTTP/1.1\nHost: localhost\nContent-Length: {1 << 40}")),
    "long target": (414, request(f"POST {{path}}?{'a' * SHORT['url_bytes']} HTTP/1.1\nHost: localhost")),
    "many headers": (
        431,
        request("POST {path} HTTP/1.1\nHost: localhost" + "\na: b" * SHORT["header_count"]),
    ),
    "slow headers": (408, b"POST {path} HTTP/1.1\r\nHost: localhost\r\n"),
    "slow body": (
        408,
        request("POST {path} HTTP/1.1\nHost: localhost\nTransfer-Encoding: chunked", b"5\r\nh"),
    ),
}


def ask(server: Server, data: bytes) -> Reply:
    with Raw(server.port) as client:
        reply = client.send(data).read()
    assert reply is not None
    return reply


def check(reply: Reply, dialect: str) -> None:
    """The body of an error is that of the dialect, and nothing else."""
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["x-request-id"]
    found: Any = reply.json
    if dialect == NATIVE:
        assert {name: type(value) for name, value in found.items()} == {
            "error": str,
            "code": str,
            "request_id": str,
        }
    elif dialect == OPENAI:
        assert set(found) == {"error"}
        assert set(found["error"]) == {"message", "type", "param", "code"}
        kind = "server_error" if reply.status >= 500 else "invalid_request_error"
        assert found["error"]["type"] == kind
    else:
        assert set(found) == {"error"}
        assert isinstance(found["error"], str)
        assert found["error"]


@pytest.mark.parametrize("case", WRONG)
def test_refusal_before_a_route_is_in_the_dialect_of_the_path(server: Server, case: str) -> None:
    """Of the head, of the limits, of the time, of the method."""
    status, data = WRONG[case]
    for path, dialect in PATHS.items():
        if status == 408 and path not in INFERENCE:
            continue  # each takes its time
        reply = ask(server, data.replace(b"{path}", path.encode()))
        assert reply.status in (status, *((404,) if status == 405 else ())), (path, reply)
        check(reply, dialect)


def test_unknown_path_or_model_is_answered_in_the_dialect_of_the_path(server: Server) -> None:
    """404 and 405 of GET and POST, where there is no 200."""
    seen = set()
    for path, dialect in PATHS.items():
        for method in ("GET", "POST", "PATCH"):
            head = f"{method} {path} HTTP/1.1\nHost: localhost\nContent-Length: {len(BODY)}"
            reply = ask(server, request(head, BODY))
            seen.add(reply.status)
            if reply.status != 200:
                assert reply.status in (400, 404, 405), (method, path, reply)
                check(reply, dialect)
    assert seen == {200, 400, 404, 405}


@pytest.mark.parametrize(
    ("status", "head", "body"),
    [
        (400, "", b"{"),
        (400, "", b"[]"),
        (400, "X-Request-Timeout: never", BODY),
        (415, "Content-Type: image/png", BODY),
        (415, "Content-Encoding: br", BODY),
        (400, "Content-Encoding: gzip", BODY),
        (413, "", b" " * 100_000),
    ],
)
def test_refused_body_is_answered_in_the_dialect_of_the_path(
    server: Server, status: int, head: str, body: bytes
) -> None:
    """What an endpoint, the lane or the door finds wrong with it."""
    for path in INFERENCE:
        lines = f"POST {path} HTTP/1.1\nHost: localhost\nContent-Length: {len(body)}\n{head}"
        reply = ask(server, request(lines, body))
        assert reply.status == status, (path, reply)
        check(reply, PATHS[path])


def test_refusal_of_head_has_no_body(server: Server) -> None:
    """Where GET is refused HEAD is too, with the length of what GET would say, and the connection goes on."""
    for path in ("/v1/models/nobody", "/v2/nothing", "/predict/double", "/v1/models/double:predict"):
        with Raw(server.port) as client:
            asked = request(f"HEAD {path} HTTP/1.1\nHost: localhost")
            client.send(asked + request("GET /v2/health/live HTTP/1.1\nHost: localhost"))
            head, _, rest = client.read_until(b'{"live":true}').partition(b"\r\n\r\n")
            assert head.split()[1] in (b"404", b"405"), head
            assert b"content-length: " in head
            assert rest.startswith(b"HTTP/1.1 200")
