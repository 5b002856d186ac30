"""However bytes are cut on their way, the same answers come: the connection over a fake transport."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.edge.sockets import BODY, get, post, request
from tests.virtual_clock import run_virtual
from uvicorn.config import Config
from uvicorn.server import ServerState

from maas.config import ServerOptions
from maas.edge.connection import Connection
from maas.edge.edge import Edge
from maas.edge.turns import READS, Turns
from maas.errors import MaasError, QueueFull


class FakeDoor:
    """Refuses what is under /full, and remembers who was turned away."""

    def __init__(self) -> None:
        self.away: list[tuple[str, str]] = []

    def refusal(self, path: str, in_flight: int, headers: object, late: float) -> MaasError | None:
        return QueueFull("full", retry_after=2) if path.startswith("/full") else None

    def turned_away(self, path: str, outcome: str) -> None:
        self.away.append((path, outcome))


class FakeTransport(asyncio.Transport):
    """Keeps what is written, as a client that takes everything at once; `taken` False leaves it in the buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.unsent = 0
        self.is_reading_paused = False
        self.has_sent_eof = self.is_gone = self.was_aborted = False

    def write(self, data: bytes) -> None:
        assert not self.has_sent_eof
        if not self.is_gone:
            self.written += data

    def write_eof(self) -> None:
        self.has_sent_eof = True

    def can_write_eof(self) -> bool:
        return True

    def close(self) -> None:
        self.is_gone = True

    def abort(self) -> None:
        self.is_gone = self.was_aborted = True

    def is_closing(self) -> bool:
        return self.is_gone

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def pause_reading(self) -> None:
        self.is_reading_paused = True

    def resume_reading(self) -> None:
        self.is_reading_paused = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answers with method, path and body; /never waits, /early answers before it reads, /stream has no length."""
    body = b""
    if scope["path"] == "/never":
        await asyncio.Future()
    if scope["path"] != "/early":
        more = True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
    said = b"%b %b %b" % (scope["method"].encode(), scope["raw_path"], body)
    headers = [] if scope["path"] == "/stream" else [(b"content-length", b"%d" % len(said))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": said})


class Wire:
    """A connection over a fake transport, with a door and a clock of its own."""

    def __init__(self, **options: Any) -> None:
        self.door = FakeDoor()
        self.edge = Edge(
            ServerOptions(**options), self.door, body_bytes=100_000, max_connections=10, local_only=False
        )
        self.state = ServerState()
        self.state.default_headers = []
        self.transport = FakeTransport()
        config = Config(app, http="httptools", ws="none", lifespan="off", log_config=None, access_log=False)
        config.load()
        self.connection = Connection(self.edge, config=config, server_state=self.state, app_state={})
        self.connection.connection_made(self.transport)

    async def feed(self, parts: list[bytes]) -> None:
        """As the loop would: nothing after the end, nothing while reading is paused."""
        for part in parts:
            if self.transport.is_gone:
                break
            assert not self.transport.is_reading_paused
            self.connection.data_received(part)
            for _ in range(1000):
                if not self.transport.is_reading_paused or self.transport.is_gone:
                    break
                await asyncio.sleep(0)
            else:
                raise AssertionError("reading was not resumed")
        await self.settle()

    async def settle(self) -> None:
        for _ in range(50):
            await asyncio.sleep(0)

    def lose(self) -> None:
        self.connection.connection_lost(None)


PIECES = {
    "get": get("/a"),
    "post": post("/b", BODY),
    "large": post("/c", bytes(70_000)),
    "chunks": request(
        "POST /d HTTP/1.1\nHost: localhost\nTransfer-Encoding: chunked",
        b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n",
    ),
    "early": post("/early", b"unread"),
    "stream": get("/stream"),
    "refused": post("/full", BODY),
    "refused in chunks": request(
        "POST /full HTTP/1.1\nHost: localhost\nTransfer-Encoding: chunked", b"1\r\nx\r\n0\r\n\r\n"
    ),
    "upgrade": post("/e", BODY, "Connection: upgrade", "Upgrade: h2c"),
    "head": request("HEAD /f HTTP/1.1\nHost: localhost"),
    "close": post("/g", BODY, "Connection: close"),
    "no host": request("GET /h HTTP/1.1\nX: y"),
    "garbage": b"garbage\r\n\r\n",
    "refused and large": post("/full", bytes(90_000)),
    "too large": post("/i", bytes(100_001))[:200],
}


def answers(parts: list[bytes], reads: int = READS) -> tuple[bytes, bool, list[tuple[str, str]]]:
    """What is written, whether the connection has ended, and who was turned away, with so many reads in a pass."""

    async def run() -> tuple[bytes, bool, list[tuple[str, str]]]:
        wire = Wire()
        wire.edge.turns = Turns(reads)
        await wire.feed(parts)
        has_ended = wire.transport.is_gone or wire.transport.has_sent_eof
        wire.lose()
        await wire.settle()
        assert not wire.state.tasks
        return wire.transport.written, has_ended, wire.door.away

    return run_virtual(run())


@given(
    names=st.lists(st.sampled_from(sorted(PIECES)), min_size=1, max_size=5),
    cuts=st.lists(st.integers(0, 1 << 30), max_size=30),
    reads=st.sampled_from([1, 2, READS]),
)
@settings(max_examples=150, deadline=None)
def test_same_answers_however_the_bytes_are_cut(
    names: list[str], cuts: list[int], reads: int, monkeypatch_module: None
) -> None:
    """Requests of every kind, pipelined, in one piece or in many, at once or when it is their turn."""
    data = b"".join(PIECES[name] for name in names)
    places = sorted({0, len(data), *(cut % len(data) for cut in cuts)})
    parts = [data[start:end] for start, end in pairwise(places)]
    assert answers(parts, reads) == answers([data])


@pytest.fixture(scope="module")
def monkeypatch_module() -> Any:
    """Request ids that are made are all the same here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("maas.api.request_id.secrets.token_hex", lambda _: "id")
        yield


def test_every_byte_alone() -> None:
    """One byte at a time, through all that is answered and lives."""
    lasting = [
        name
        for name in PIECES
        if name not in ("large", "close", "no host", "garbage") and "large" not in name
    ]
    data = b"".join(PIECES[name] for name in lasting)
    written, has_ended, _ = answers([data[i : i + 1] for i in range(len(data))])
    assert written.count(b"HTTP/1.1 200") == len(lasting) - 2
    assert written.count(b"HTTP/1.1 503") == 2
    assert not has_ended


def test_timer_runs_only_while_a_connection_is_open() -> None:
    """No connection, nothing scheduled: an idle server sleeps."""

    async def run() -> None:
        wire = Wire(idle_timeout=2)
        assert wire.edge._timer is not None
        wire.lose()
        await asyncio.sleep(3)
        assert wire.edge._timer is None

    run_virtual(run())


def test_answer_that_nobody_takes_ends_the_connection() -> None:
    """Without progress for `write_timeout`; any progress begins it anew."""

    async def run() -> None:
        wire = Wire(write_timeout=3)
        await wire.feed([get("/a")])
        wire.transport.unsent = 1000
        wire.connection.pause_writing()
        for _ in range(5):
            await asyncio.sleep(2)
            wire.transport.unsent -= 1
            assert not wire.transport.was_aborted
        await asyncio.sleep(5)
        assert wire.transport.was_aborted
        wire.lose()

    run_virtual(run())


def test_loss_cancels_what_runs_and_drops_what_waits() -> None:
    """The application is cancelled, the next never begins; both are counted, and nothing is left."""

    async def run() -> None:
        wire = Wire()
        await wire.feed([get("/never") + get("/a")])
        assert len(wire.state.tasks) == 1
        wire.lose()
        await wire.settle()
        assert wire.door.away == [("/never", "cancelled"), ("/a", "cancelled")]
        assert not wire.state.tasks
        assert wire.transport.written == b""

    run_virtual(run())
