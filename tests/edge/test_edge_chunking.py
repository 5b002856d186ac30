"""However bytes are cut on their way, the same answers come: the connection over a fake transport."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.edge.sockets import BODY, get, post, request
from tests.virtual_clock import run_virtual
from uvicorn.config import Config
from uvicorn.server import ServerState

from maas.api.reply import JSON_FIELDS, Reply
from maas.api.routes import Target
from maas.config import ServerOptions
from maas.edge.answer import reply_to
from maas.edge.connection import Connection
from maas.edge.cycle import Cycle
from maas.edge.edge import Edge
from maas.edge.lane import Lane
from maas.edge.turns import READS, Turns
from maas.errors import MaasError, QueueFull


class FakeDoor:
    """Lets nobody in to the model `full`, and remembers who was turned away."""

    def __init__(self) -> None:
        self.away: list[tuple[str, str]] = []

    def closed(self, in_flight: int) -> MaasError | None:
        return None

    def refusal(self, target: Target, asked: object, late: float) -> MaasError | None:
        return QueueFull("full", retry_after=2) if target.model == "full" else None

    def turned_away(self, target: Target | None, outcome: str) -> None:
        self.away.append((target.path if target else "", outcome))


class FakeLane:
    """Answers a pass of the loop later with what `app` would say; for the model `never` it never does. It refuses as the
    door does."""

    takes = Lane.takes

    def __init__(self) -> None:
        self.in_flight = 0

    def enter(self, cycle: Cycle) -> None:
        head, body = cycle.head, cycle.take()
        cycle.passage = FakePassage()  # type: ignore[assignment]
        assert head.target is not None
        said = b"POST %b %b" % (head.url, body)
        if head.target.model == "full":
            refused = QueueFull("full", retry_after=2)
            cycle.reply(*reply_to(refused, head.path, head.headers))
            cycle.connection.edge.door.turned_away(head.target, refused.code)
        elif head.target.model != "never":
            self.in_flight += 1
            cycle.connection.loop.call_soon(self._answer, cycle, said)

    def _answer(self, cycle: Cycle, said: bytes) -> None:
        self.in_flight -= 1
        cycle.reply(Reply(200, JSON_FIELDS, [], said), b"id")


class FakePassage:
    """Nothing is to be done for one whose caller has left."""

    def abandon(self) -> None:
        pass


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
    if scope["path"] == "/predict/never":
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
            ServerOptions(**options),
            self.door,
            FakeLane(),  # type: ignore[arg-type]
            body_bytes=100_000,
            max_connections=10,
            local_only=False,
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
    "refused": get("/predict/full"),
    "refused in chunks": request(
        "POST /predict/full HTTP/1.1\nHost: localhost\nTransfer-Encoding: chunked", b"1\r\nx\r\n0\r\n\r\n"
    ),
    "fast": post("/predict/a", BODY),
    "fast with other terms": post("/predict/a", BODY, "X-Request-Timeout: 5", "X-Request-Id: mine"),
    "fast and empty": post("/predict/a/versions/1", b""),
    "fast and refused": post("/predict/full", BODY),
    "fast and close": post("/predict/b", BODY, "Connection: close"),
    "in chunks where others are fast": request(
        "POST /predict/a HTTP/1.1\nHost: localhost\nTransfer-Encoding: chunked", b"3\r\nabc\r\n0\r\n\r\n"
    ),
    "upgrade": post("/e", BODY, "Connection: upgrade", "Upgrade: h2c"),
    "head": request("HEAD /f HTTP/1.1\nHost: localhost"),
    "close": post("/g", BODY, "Connection: close"),
    "no host": request("GET /h HTTP/1.1\nX: y"),
    "garbage": b"garbage\r\n\r\n",
    "refused and large": post("/predict/full", bytes(90_000)),
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
        assert not wire.edge.lane.in_flight
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
        patch.setattr("maas.api.request_id.new_request_id", lambda: b"id")
        yield


def test_every_byte_alone() -> None:
    """One byte at a time, through all that is answered and lives."""
    lasting = [
        name
        for name in PIECES
        if name not in ("no host", "garbage") and "large" not in name and "close" not in name
    ]
    data = b"".join(PIECES[name] for name in lasting)
    written, has_ended, _ = answers([data[i : i + 1] for i in range(len(data))])
    assert written.count(b"HTTP/1.1 200") == len(lasting) - 3
    assert written.count(b"HTTP/1.1 503") == 3
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


def test_head_that_is_known_is_not_parsed_again() -> None:
    """The same bytes with another body are the same head; with a body that is not whole, or more behind it, they are for the
    parser, and so is everything when the limits have changed."""

    async def run() -> None:
        wire = Wire()
        head, _, body = post("/predict/a", b"12").partition(b"\r\n\r\n")
        head += b"\r\n\r\n"
        assert body == b"12"
        await wire.feed([head + b"12"])
        reader = wire.connection._reader
        parser, reader._parser = reader._parser, None
        await wire.feed([head + b"34", head + b"56"])
        reader._parser = parser
        await wire.feed([head + b"7", b"8", head + b"90" + head + b"ab"])
        said = [f"POST /predict/a {two}".encode() for two in ("12", "34", "56", "78", "90", "ab")]
        assert wire.transport.written.count(b"HTTP/1.1 200") == len(said)
        assert [wire.transport.written.find(each) for each in said] == sorted(
            wire.transport.written.find(each) for each in said
        )
        wire.edge.limit(ServerOptions(), body_bytes=1, max_connections=10)
        await wire.feed([head + b"cd"])
        assert b"HTTP/1.1 413" in wire.transport.written
        wire.lose()

    run_virtual(run())


@pytest.mark.parametrize("ask", [get, post])
def test_loss_cancels_what_runs_and_drops_what_waits(ask: Callable[[str], bytes]) -> None:
    """The application is cancelled, or the lane told; the next never begins; both are counted, and nothing is left."""

    async def run() -> None:
        wire = Wire()
        await wire.feed([ask("/predict/never") + ask("/predict/a")])
        assert len(wire.state.tasks) == (1 if ask is get else 0)
        wire.lose()
        await wire.settle()
        assert wire.door.away == [("/predict/never", "cancelled"), ("/predict/a", "cancelled")]
        assert not wire.state.tasks
        assert wire.transport.written == b""

    run_virtual(run())


def test_answers_of_a_pass_leave_together_and_in_order() -> None:
    """Those of the lane at the end of the pass; what an application says after them comes after them; and a connection that
    is lost meanwhile takes nothing from the others."""

    async def run() -> None:
        wires = [Wire() for _ in range(3)]
        edge = wires[0].edge
        for wire in wires:
            wire.connection.edge = edge
        for wire in wires[:2]:
            wire.connection.data_received(post("/predict/a", BODY) + get("/b"))
        wires[2].connection.data_received(post("/predict/a", BODY))
        await asyncio.sleep(0)
        assert [wire.transport.written for wire in wires] == [b"", b"", b""]
        wires[1].lose()
        wires[1].transport.close()
        await wires[0].settle()
        said = wires[0].transport.written
        assert 0 < said.find(b"POST /predict/a") < said.find(b"GET /b")
        assert wires[1].transport.written == b""
        assert wires[2].transport.written.count(b"HTTP/1.1 200") == 1

    run_virtual(run())
