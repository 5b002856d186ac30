"""SIGTERM: who calls is told to go, who was accepted is answered, and nobody is cut off who can still be told."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from pathlib import Path

from tests.assets import worker_models
from tests.edge.sockets import BODY, Raw, get, post
from tests.test_server import Server, _wait_until, serving
from tests.versions import store


def leaving(server: Server) -> None:
    server.process.send_signal(signal.SIGTERM)
    _wait_until(lambda: server.get("/v2/health/ready").status_code == 503)


def test_no_request_of_clients_that_go_when_told_fails(tmp_path: Path) -> None:
    """Under load from kept connections, each client stops at `Connection: close`: every request has been answered."""
    store(tmp_path / "models", name="double")
    with serving(tmp_path / "models", tmp_path, server={"port": 0, "drain_delay": 1.0}) as server:
        outcomes = asyncio.run(_call_until_told(server, clients=32, seconds=1.5))
        stopped = time.monotonic()
        assert server.process.wait(10) == 0
        assert time.monotonic() - stopped < 4
    assert outcomes.pop("told") == 32
    assert outcomes.pop("answered") > 500
    assert not outcomes


async def _call_until_told(server: Server, clients: int, seconds: float) -> Counter[str]:
    outcomes: Counter[str] = Counter()

    async def call() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        while True:
            try:
                writer.write(post("/predict/double"))
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].split()[0])
                await reader.readexactly(length)
            except (OSError, asyncio.IncompleteReadError):
                outcomes["cut off"] += 1
                break
            outcomes["answered" if head[9:12] == b"200" else head[9:12].decode()] += 1
            if b"connection: close" in head.lower():
                outcomes["told"] += 1
                break
        writer.close()

    async with asyncio.TaskGroup() as group, asyncio.timeout(30):
        for _ in range(clients):
            group.create_task(call())
        await asyncio.sleep(seconds)
        server.process.send_signal(signal.SIGTERM)
    return outcomes


def test_server_that_leaves_serves_on_for_the_delay(tmp_path: Path) -> None:
    """Not ready at once, but answering; each answer with a close, the last of a pipeline only; then refusing."""
    store(tmp_path / "models", worker_models.Slow, name="slow")
    with serving(tmp_path / "models", tmp_path, server={"port": 0, "drain_delay": 1.0}) as server:
        early = [Raw(server.port) for _ in range(3)]
        assert all(client.is_open() for client in early)
        running = Raw(server.port).send(post("/predict/slow", b'{"x": [2500, 0]}'))
        _wait_until(lambda: server.metric("maas_running_requests", model="slow") == 1)
        leaving(server)
        assert server.get("/v2/health/ready").json() == {
            "ready": False,
            "error": "the server is shutting down",
        }
        (reply,) = early[0].send(get("/v2/health/live")).read_all()
        assert (reply.status, reply.is_last) == (200, True)
        replies = early[1].send(get("/v2/health/live") * 3).read_all()
        assert [(reply.status, reply.is_last) for reply in replies] == [
            (200, False),
            (200, False),
            (200, True),
        ]
        _wait_until(lambda: server.get("/predict/slow").status_code == 503)  # it was a 405
        replies = early[2].send(post("/predict/slow", BODY)).read_all()
        assert [(r.status, r.json["code"], r.is_last) for r in replies] == [(503, "draining", True)]
        (reply,) = running.read_all()
        assert (reply.status, reply.is_last) == (200, True)
        assert server.process.wait(10) == 0
        for client in (*early, running):
            client.close()


def test_idle_connection_is_closed_when_the_drain_has_ended(tmp_path: Path) -> None:
    """It can still be told as long as something is being answered; one that is sending is told at the very end."""
    store(tmp_path / "models", worker_models.Slow, name="slow")
    with (
        serving(tmp_path / "models", tmp_path) as server,
        Raw(server.port) as idle,
        Raw(server.port) as sending,
    ):
        assert idle.is_open()
        sending.send(post("/predict/slow")[:-5])
        running = Raw(server.port).send(post("/predict/slow", b'{"x": [700, 0]}'))
        _wait_until(lambda: server.metric("maas_running_requests", model="slow") == 1)
        started = time.monotonic()
        leaving(server)
        assert idle.is_closed_within(5)
        assert time.monotonic() - started > 0.5
        replies = running.read_all() + sending.read_all()
        assert [reply.status for reply in replies] == [200, 503]
        assert server.process.wait(10) == 0
        running.close()


def test_request_that_outlasts_the_drain_is_told(tmp_path: Path) -> None:
    """A minute's request: 503 after `drain_timeout`, and the server is gone a second later."""
    store(tmp_path / "models", worker_models.Slow, name="slow")
    with (
        serving(tmp_path / "models", tmp_path, server={"port": 0, "drain_timeout": 0.5}) as server,
        Raw(server.port) as client,
    ):
        client.send(post("/predict/slow", b'{"x": [60000, 0]}'))
        _wait_until(lambda: server.metric("maas_running_requests", model="slow") == 1)
        started = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        (reply,) = client.read_all()
        assert (reply.status, reply.is_last) == (503, True)
        assert server.process.wait(10) == 0
        assert 0.5 <= time.monotonic() - started < 3.5
