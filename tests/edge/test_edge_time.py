"""Slow and idle clients: each is let go at its time, and nobody else notices."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from pathlib import Path

import pytest
from tests.edge.conftest import SHORT
from tests.edge.sockets import BODY, Raw, get, post
from tests.test_server import Server, _wait_until, serving
from tests.versions import store

HEAD = post("/predict/double", BODY)[: -len(BODY)]
SLACK = 0.7  # seconds beyond a limit that a busy machine may need


def own_memory(pid: int) -> int:
    """Kilobytes that are the process's own: not the slabs that it shares with model processes."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("RssAnon")).split()[1])


def test_unused_connection_is_closed_in_silence(server: Server) -> None:
    """Before a first request sooner than between two; empty lines are no request."""
    with Raw(server.port) as client:
        assert SHORT["idle_timeout"] <= client.is_closed_within(5) < SHORT["idle_timeout"] + SLACK
    with Raw(server.port) as client:
        assert client.is_open()
        client.send(b"\r\n")
        assert SHORT["keep_alive_timeout"] <= client.is_closed_within(5) < SHORT["keep_alive_timeout"] + SLACK


@pytest.mark.parametrize(
    ("first", "drop"),
    [(b"POST /predict/double HTTP/1.1\r\n", b"X: y\r\n"), (b"P", b""), (HEAD, b" "), (HEAD, b"")],
    ids=["headers at a line a time", "one byte", "body at a byte a time", "no body"],
)
def test_slow_request_is_answered_with_408_and_closed(server: Server, first: bytes, drop: bytes) -> None:
    """Headers have their time; a body has some, and then a rate."""
    started = time.monotonic()
    with Raw(server.port) as client:
        client.send(first)
        client._socket.settimeout(0.1)
        reply = None
        while reply is None and time.monotonic() < started + 5:
            try:
                reply = client.read()
            except TimeoutError:
                client.send(drop)
        assert reply is not None
        assert (reply.status, reply.json["code"], reply.is_last) == (408, "request_timeout", True)
        assert 0.4 <= time.monotonic() - started < 0.4 + SLACK


def test_body_at_the_least_rate_is_read(server: Server) -> None:
    """A body that takes longer than the grace, but keeps the pace, is answered."""
    body = BODY + b" " * 8192
    with Raw(server.port) as client:
        client.send(post("/predict/double", body)[: -len(body)])
        for start in range(0, len(body), 1000):
            client.send(body[start : start + 1000])
            time.sleep(0.1)
        reply = client.read()
        assert reply is not None
        assert reply.status == 200


def test_slow_clients_leave_the_others_alone(server: Server) -> None:
    """A hundred clients each that are idle, slow in the headers and slow in the body: all gone in time; one who calls
    meanwhile waits for none of them."""
    asyncio.run(_attack(server.port, 33))


@pytest.mark.slow
def test_fifteen_hundred_slow_clients_leave_the_others_alone(tmp_path: Path) -> None:
    """The same with five hundred of each, which is fewer than the server takes by default."""
    store(tmp_path / "models", name="double")
    with serving(tmp_path / "models", tmp_path, server={**SHORT, "max_connections": 2000}) as server:
        asyncio.run(_attack(server.port, 500))


async def _attack(port: int, each: int) -> None:
    async def slow(first: bytes, drop: bytes) -> tuple[bytes, float]:
        started = time.monotonic()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(first)
        answer = asyncio.ensure_future(reader.read())
        while not answer.done():
            await asyncio.wait([answer], timeout=0.1)
            writer.write(drop)
        writer.close()
        return answer.result()[9:12], time.monotonic() - started

    def call() -> float:
        started = time.monotonic()
        with Raw(port) as client:
            reply = client.send(post("/predict/double")).read()
            assert reply is not None
            assert reply.status == 200
        return time.monotonic() - started

    kinds = [
        (b"", b"", b"", 0.8),
        (b"GET / HTTP/1.1\r\n", b"X: y\r\n", b"408", 0.4),
        (HEAD, b" ", b"408", 0.4),
    ]
    async with asyncio.TaskGroup() as group, asyncio.timeout(20):
        tasks = [(group.create_task(slow(*kind[:2])), kind) for kind in kinds for _ in range(each)]
        for _ in range(10):
            assert await asyncio.to_thread(call) < 0.5
    for task, (_, _, status, limit) in tasks:
        assert task.result()[0] == status
        assert limit <= task.result()[1] < limit + 3 * SLACK


def test_client_that_does_not_read_is_cut_off_and_its_memory_returned(server: Server) -> None:
    """An answer of 50 MB to a client that takes nothing: gone after `write_timeout`, and so is what it took."""
    before = own_memory(server.process.pid)
    body = json.dumps({"n": [50 << 20]}).encode()
    with Raw(server.port) as client:
        client._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.send(post("/predict/repeat", body))
        _wait_until(lambda: own_memory(server.process.pid) > before + 40_000)
        started = time.monotonic()
        _wait_until(lambda: own_memory(server.process.pid) < before + 10_000, 10)
        assert time.monotonic() - started < SHORT["write_timeout"] + 3 * SLACK
    with Raw(server.port) as client:
        assert client.is_open()


def test_client_that_reads_slowly_gets_all_of_its_answer(server: Server) -> None:
    """As long as it takes something now and then, it is waited for."""
    body = json.dumps({"n": [20 << 20]}).encode()
    with Raw(server.port) as client:
        client.send(post("/predict/repeat", body))
        for _ in range(6):
            time.sleep(0.4)
            client._buffer += client._socket.recv(1 << 20)
        reply = client.read()
        assert reply is not None
        assert len(reply.json["text"][0]) == 20 << 20


def send_for_ever(client: Raw, data: bytes) -> None:
    while True:
        client._socket.sendall(data)


def test_pipelining_client_that_does_not_read_is_cut_off(server: Server) -> None:
    """Answers that nobody takes stop further ones; then the connection ends."""
    with Raw(server.port) as client:
        client._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client._socket.settimeout(8)
        with pytest.raises(ConnectionError):
            send_for_ever(client, get("/openapi.json") * 100)
