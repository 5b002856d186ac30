"""One request and its answer, as an ASGI application sees them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING

from starlette.types import ASGIApp, Message, Scope
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from maas.api.door import LATE
from maas.api.exchange import Reply
from maas.edge.head import Head, split_target
from maas.errors import MaasError

if TYPE_CHECKING:
    from maas.edge.connection import Connection
    from maas.edge.lane import Lane, Passage

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_BODILESS = (204, 304)
JOINED = 64 << 10  # bytes of a body that is worth copying to leave with its head


class Cycle:
    """Bytes come in by `add` and `end_body`, leave by `send`; the connection is told when the answer is complete.

    Once `disconnected`, what the application still sends goes nowhere.
    """

    __slots__ = (
        "_head",
        "_is_bodiless",
        "_is_chunked",
        "_is_taken",
        "_news",
        "_parts",
        "_passage",
        "_unsent",
        "buffered",
        "connection",
        "disconnected",
        "head",
        "is_fast",
        "keep_alive",
        "late",
        "more_body",
        "received",
        "refusal",
        "remaining",
        "response_complete",
        "response_started",
        "task",
        "waits_for_continue",
    )

    def __init__(
        self, connection: Connection, head: Head, late: float, *, is_fast: bool, keep_alive: bool
    ) -> None:
        self.connection = connection
        self.head = head
        self.late = late  # seconds that it had waited when it was first looked at
        self.is_fast = is_fast  # it is for the lane, when its body is whole
        self.keep_alive = keep_alive
        self.waits_for_continue = head.framing.expects_continue
        self.remaining = (
            head.framing.length
        )  # bytes of the body that are still to come; None while nobody knows
        self.received = 0  # bytes of the body
        self.more_body = True
        self.buffered = 0  # bytes that the application has not taken
        self.disconnected = False
        self.response_started = False
        self.response_complete = False
        self.refusal: MaasError | None = None
        self.task: asyncio.Task[None] | None = None
        self._passage: Passage | None = None
        self._parts: list[bytes] = []
        self._news: asyncio.Event | None = None
        self._is_taken = False
        self._head = b""  # waits for the body, to leave with it
        self._is_bodiless = False
        self._is_chunked = False
        self._unsent: int | None = None  # bytes that the answer's Content-Length still promises

    @property
    def is_over(self) -> bool:
        """Nobody reads the body any more."""
        return self.response_complete or self.disconnected or self.refusal is not None

    # ── from the connection ──────────────────────────────────────────────────────────────────────────────────

    def add(self, body: bytes) -> None:
        self.received += len(body)
        if self.remaining is not None:
            self.remaining -= len(body)
        if not self.is_over:
            self._parts.append(body)
            self.buffered += len(body)
            self._notify()

    def end_body(self) -> None:
        self.more_body = False
        self.remaining = 0
        self._notify()

    def add_whole(self, body: bytes) -> None:
        """All of it at once."""
        self.received = self.buffered = len(body)
        self._parts = [body]
        self.more_body = False
        self.remaining = 0

    def enter(self, lane: Lane) -> None:
        """Be answered in the lane. The body is whole, and too small to have stopped the reading."""
        body = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self.discard()
        passage = lane.enter(self, body)
        if not self.response_complete:
            self._passage = passage

    def start(self, app: ASGIApp, tasks: set[asyncio.Task[None]]) -> None:
        """Be answered by the application. The task is among `tasks` until it ends, or is abandoned, for then it may never
        begin."""
        self.task = self.connection.loop.create_task(self._run(app, tasks))
        tasks.add(self.task)

    def discard(self) -> None:
        """Nobody will take the body."""
        self._parts = []
        self.buffered = 0

    def abandon(self) -> None:
        """Nobody waits for the answer: the application is cancelled."""
        self.disconnected = True
        self.discard()
        if self.task is not None:
            self.task.cancel()
            self.connection.tasks.discard(self.task)
        if self._passage is not None:
            self._passage.abandon()

    def reply(self, reply: Reply, request_id: bytes) -> None:
        """The whole answer, unless one has begun or nobody waits for it."""
        if self.response_started or self.disconnected:
            return
        self.response_started = self.response_complete = True
        self._passage = (
            None  # which knows us: left as it is, only the garbage collector would find the two of them
        )
        self.keep_alive = self.keep_alive and self.connection.may_live_after(self)
        self.connection.write(
            reply, request_id, keep_alive=self.keep_alive, has_body=self.head.method != "HEAD"
        )
        self.connection.answered(self)

    def _notify(self) -> None:
        if self._news is not None:
            self._news.set()

    # ── the application ──────────────────────────────────────────────────────────────────────────────────────

    async def _run(self, app: ASGIApp, tasks: set[asyncio.Task[None]]) -> None:
        """A cancelled application is no error: its caller has left, or the server stops."""
        try:
            await app(self._scope(), self.receive, self.send)
        except Exception as error:
            self.connection.logger.error("Exception in ASGI application", exc_info=error)
        finally:
            if self.task is not None:
                tasks.discard(self.task)
        if not self.response_complete and not self.disconnected:
            self.connection.edge.outbox.flush()
            self.connection.transport.close()  # an answer that will not be completed must not look like one

    def _scope(self) -> Scope:
        head, connection = self.head, self.connection
        raw_path, query = split_target(head.url)
        return {
            "type": "http",
            "asgi": {"version": connection.asgi_version, "spec_version": "2.3"},
            "http_version": head.version,
            "method": head.method,
            "server": connection.server,
            "client": connection.client,
            "scheme": connection.scheme,
            "root_path": connection.root_path,
            "path": connection.root_path + head.path,
            "raw_path": connection.root_path.encode("ascii") + raw_path,
            "query_string": query,
            "headers": list(head.headers),  # the application's own: the head may be another request's too
            "state": connection.app_state.copy(),
            LATE: self.late,
        }

    async def receive(self) -> Message:
        """The next part of the body; when all of it was taken, the end of the exchange."""
        if self.waits_for_continue:
            self.waits_for_continue = False
            if not self.response_started and not self.disconnected:
                self._write(_CONTINUE)
        while not (self.response_complete or self.disconnected):
            if self._parts or not (self.more_body or self._is_taken):
                return self._take()
            if self._news is None:
                self._news = asyncio.Event()
            self._news.clear()
            await self._news.wait()
        return {"type": "http.disconnect"}

    def _take(self) -> Message:
        body = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts = []
        self._is_taken = not self.more_body
        self.buffered = 0
        self.connection.resume_reading()
        return {"type": "http.request", "body": body, "more_body": self.more_body}

    async def send(self, message: Message) -> None:
        flow = self.connection.flow
        if flow.write_paused and not self.disconnected:
            await flow.drain()
        if self.disconnected:
            return
        kind = message["type"]
        if kind == "http.response.start" and not self.response_started:
            self._start_response(message["status"], message.get("headers", ()))
        elif kind == "http.response.body" and self.response_started and not self.response_complete:
            self._send_body(message.get("body", b""), more=message.get("more_body", False))
        else:
            raise RuntimeError(f"ASGI message {kind!r} is out of place")

    def _start_response(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        self.response_started = True
        lines: list[bytes] = []
        length: int | None = None
        for name, value in headers:
            name = name.lower()
            if name == b"content-length":
                length = int(value)
            elif name == b"transfer-encoding":
                continue  # how the answer is framed, and whether the connection lives, is decided here
            elif name == b"connection":
                self.keep_alive = self.keep_alive and b"close" not in value.lower()
                continue
            lines += (name, b": ", value, b"\r\n")
        block = _join(lines)
        framing = self._frame(status, length)
        self.keep_alive = self.keep_alive and self.connection.may_live_after(self)
        end = b"\r\n" if self.keep_alive else b"connection: close\r\n\r\n"
        head = b"".join((STATUS_LINE[status], self.connection.default_headers(), block, framing, end))
        if length is None:
            self._write(head)  # of a stream, whose first part may take its time
        else:
            self._head = head

    def _frame(self, status: int, length: int | None) -> bytes:
        """By its length, in chunks, which a header must say, or for HTTP/1.0 by the end of the connection."""
        self._is_bodiless = self.head.method == "HEAD" or status in _BODILESS
        self._unsent = length
        self._is_chunked = length is None and not self._is_bodiless and self.head.version == "1.1"
        return b"transfer-encoding: chunked\r\n" if self._is_chunked else b""

    def _send_body(self, body: bytes, *, more: bool) -> None:
        if self._is_bodiless:
            body = b""
        elif self._unsent is not None:
            self._unsent -= len(body)
            if self._unsent < 0 or (self._unsent and not more):
                raise RuntimeError("an answer's body is not as long as its Content-Length")
        elif self._is_chunked:
            body = self._chunk(body, more=more)
        head, self._head = self._head, b""
        if len(body) <= JOINED:
            self._write(head + body)
        else:
            self._write(head)
            self._write(body)
        if not more:
            self.response_complete = True
            self._notify()
            self.connection.answered(self)

    def _write(self, data: bytes) -> None:
        self.connection.edge.outbox.flush()
        self.connection.transport.write(data)

    def _chunk(self, body: bytes, *, more: bool) -> bytes:
        chunk = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
        return chunk if more else chunk + b"0\r\n\r\n"


def _join(lines: list[bytes]) -> bytes:
    """The headers as they leave. Nothing in one may end it: one look at all of them together."""
    block = b"".join(lines)
    count = len(lines) // 4
    if block.count(b"\n") != count or block.count(b"\r") != count or b"\0" in block:
        raise RuntimeError("an answer's header holds a line break")
    return block
