"""A server without keys on a loopback bind answers programs of its machine and its own pages, not what a browser is led to."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.edge.sockets import Raw, request
from tests.test_server import Server, serving
from tests.versions import store

from maas.edge.local_callers import LocalCallers
from maas.errors import Forbidden

LOCAL = [
    (b"host", b"localhost"),
    (b"host", b"LocalHost:8000"),
    (b"host", b"127.0.0.1:8000"),
    (b"host", b"127.12.0.9"),
    (b"host", b"[::1]"),
    (b"host", b"[::1]:8000"),
    (b"host", b"localhost:"),
    (b"origin", b"http://localhost:3000"),
    (b"origin", b"https://127.0.0.1"),
    (b"origin", b"http://[::1]:8000"),
    (b"content-length", b"13"),
]
STRANGE = [
    (b"host", b""),
    (b"host", b"evil.example"),
    (b"host", b"evil.example:8000"),
    (b"host", b"localhost.evil.example"),
    (b"host", b"evil-localhost"),
    (b"host", b"127.0.0.1.nip.io"),
    (b"host", b"127.1"),
    (b"host", b"0.0.0.0:8000"),
    (b"host", b"user@localhost"),
    (b"host", b"localhost, evil.example"),
    (b"host", b"\xff"),
    (b"origin", b"http://evil.example"),
    (b"origin", b"http://localhost.evil.example"),
    (b"origin", b"http://localhost@evil.example"),
    (b"origin", b"localhost"),
    (b"origin", b"null"),
    (b"origin", b"file://"),
]


@pytest.mark.parametrize("header", LOCAL, ids=repr)
def test_this_machine_is_let_through(header: tuple[bytes, bytes]) -> None:
    """By name or loopback address, with any port, at first sight and again."""
    callers = LocalCallers()
    callers.check([header])
    callers.check([(b"host", b"localhost"), header])


@pytest.mark.parametrize("header", STRANGE, ids=repr)
def test_others_are_refused_however_often_they_ask(header: tuple[bytes, bytes]) -> None:
    """What only looks like this machine is not it; a right `Host` does not help a wrong `Origin`, nor the other way round."""
    callers = LocalCallers()
    callers.check(LOCAL)
    for _ in range(2):
        with pytest.raises(Forbidden, match=r"unless the configuration says `access: open`"):
            callers.check([*LOCAL, header])


def test_what_is_remembered_is_bounded() -> None:
    """A program that tries every port leaves nothing behind that grows."""
    callers = LocalCallers()
    for port in range(10_000):
        callers.check([(b"host", b"localhost:%d" % port)])
    assert len(callers._known) <= 64


ATTACKS = {
    "rebinding": request("GET /models HTTP/1.1\nHost: evil.example:8000"),
    "post from a page": request(
        "POST /admin/refresh HTTP/1.1\nHost: localhost\nOrigin: http://evil.example\nContent-Length: 0"
    ),
    "page that is forwarded": request("GET /metrics HTTP/1.1\nHost: localhost\nOrigin: null"),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_pages_of_others_are_refused(server: Server, attack: str) -> None:
    """403 and a close, whatever the path; a request before it on the connection is answered."""
    with Raw(server.port) as client:
        first = request("GET /v2/health/live HTTP/1.1\nHost: localhost")
        replies = client.send(first + ATTACKS[attack]).read_all()
    assert [(reply.status, reply.is_last) for reply in replies] == [(200, False), (403, True)]
    assert replies[1].json["code"] == "forbidden"


def test_own_page_may_ask(server: Server) -> None:
    """The documentation's page, and a page that is developed on another port."""
    for port in (server.port, 3000):
        head = f"GET /v2/health/live HTTP/1.1\nHost: localhost:{server.port}\nOrigin: http://localhost:{port}"
        with Raw(server.port) as client:
            (reply,) = client.send(request(f"{head}\nConnection: close")).read_all()
        assert reply.status == 200


def test_open_server_asks_nobody_for_a_name_and_lets_nobody_load(tmp_path: Path) -> None:
    """`access: open` on a loopback bind is a server behind a proxy: any name is right, and /admin is for nobody."""
    store(tmp_path / "models", name="double")
    with serving(tmp_path / "models", tmp_path, access="open") as server:
        headers = {"Host": "models.example", "Origin": "https://models.example"}
        assert server.post("/predict/double", {"x": [1, 2]}, headers=headers).json() == {"y": [2.0, 4.0]}
        refused = server.post("/admin/refresh", None, headers=headers)
        assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
