"""A call of the application: a request's body as ASGI messages, and what the application sends as bytes of an answer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING

from starlette.types import ASGIApp, Message, Scope
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from maas.api.endpoint import ASKED, LATE, REPLY, TARGET
from maas.edge.answer import JOINED
from maas.edge.head import split_target

if TYPE_CHECKING:
    from maas.edge.cycle import Cycle

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_BODILESS = (204, 304)


class AsgiCall:
    """Once its cycle is disconnected, what the application still sends goes nowhere."""

    __slots__ = (
        "_cycle",
        "_head",
        "_is_bodiless",
        "_is_chunked",
        "_is_taken",
        "_news",
        "_task",
        "_unsent",
    )

    def __init__(self, cycle: Cycle) -> None:
        self._cycle = cycle
        self._task: asyncio.Task[None] | None = None
        self._news: asyncio.Event | None = None
        self._is_taken = False  # the whole body is
        self._head = b""  # waits for the body, to leave with it
        self._is_bodiless = False
        self._is_chunked = False
        self._unsent: int | None = None  # bytes that the answer's Content-Length still promises

    def start(self, app: ASGIApp, tasks: set[asyncio.Task[None]]) -> None:
        """The task is among `tasks` until it ends, or is cancelled, for then it may never begin."""
        self._task = self._cycle.connection.loop.create_task(self._run(app, tasks))
        tasks.add(self._task)

    def cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()
            self._cycle.connection.tasks.discard(self._task)

    def notify(self) -> None:
        """There is more of the body, or an end of it."""
        if self._news is not None:
            self._news.set()

    async def _run(self, app: ASGIApp, tasks: set[asyncio.Task[None]]) -> None:
        """A cancelled application is no error: its caller has left, or the server stops."""
        cycle = self._cycle
        try:
            await app(self._scope(), self.receive, self.send)
        except Exception as error:
            cycle.connection.logger.error("Exception in ASGI application", exc_info=error)
        finally:
            cycle.call = (
                None  # which knows it: otherwise only the garbage collector would find the two of them
            )
            if self._task is not None:
                tasks.discard(self._task)
        if not cycle.response_complete and not cycle.disconnected:
            cycle.connection.edge.outbox.flush()
            cycle.connection.transport.close()  # an answer that will not be completed must not look like one

    def _scope(self) -> Scope:
        cycle = self._cycle
        head, connection = cycle.head, cycle.connection
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
            "extensions": {REPLY: {}},
            TARGET: head.target,
            ASKED: head.asked,
            LATE: cycle.late,
        }

    async def receive(self) -> Message:
        """The next part of the body; when all of it was taken, the end of the exchange."""
        cycle = self._cycle
        if cycle.waits_for_continue:
            cycle.waits_for_continue = False
            if not cycle.response_started and not cycle.disconnected:
                self._write(_CONTINUE)
        while not (cycle.response_complete or cycle.disconnected):
            if cycle.parts or not (cycle.more_body or self._is_taken):
                return self._take()
            if self._news is None:
                self._news = asyncio.Event()
            self._news.clear()
            await self._news.wait()
        return {"type": "http.disconnect"}

    def _take(self) -> Message:
        cycle = self._cycle
        body = cycle.take()
        self._is_taken = not cycle.more_body
        cycle.connection.resume_reading()
        return {"type": "http.request", "body": body, "more_body": cycle.more_body}

    async def send(self, message: Message) -> None:
        cycle = self._cycle
        flow = cycle.connection.flow
        if flow.write_paused and not cycle.disconnected:
            await flow.drain()
        if cycle.disconnected:
            return
        kind = message["type"]
        if kind == REPLY and not cycle.response_started:
            cycle.reply(message["reply"], message["request_id"])
            self.notify()
        elif kind == "http.response.start" and not cycle.response_started:
            self._start_response(message["status"], message.get("headers", ()))
        elif kind == "http.response.body" and cycle.response_started and not cycle.response_complete:
            self._send_body(message.get("body", b""), more=message.get("more_body", False))
        else:
            raise RuntimeError(f"ASGI message {kind!r} is out of place")

    def _start_response(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        cycle = self._cycle
        cycle.response_started = True
        lines: list[bytes] = []
        length: int | None = None
        for name, value in headers:
            name = name.lower()
            if name == b"content-length":
                length = int(value)
            elif name == b"transfer-encoding":
                continue  # how the answer is framed, and whether the connection lives, is decided here
            elif name == b"connection":
                cycle.keep_alive = cycle.keep_alive and b"close" not in value.lower()
                continue
            lines += (name, b": ", value, b"\r\n")
        block = _join(lines)
        framing = self._frame(status, length)
        cycle.keep_alive = cycle.keep_alive and cycle.connection.may_live_after(cycle)
        end = b"\r\n" if cycle.keep_alive else b"connection: close\r\n\r\n"
        head = b"".join((STATUS_LINE[status], cycle.connection.default_headers(), block, framing, end))
        if length is None:
            self._write(head)  # of a stream, whose first part may take its time
        else:
            self._head = head

    def _frame(self, status: int, length: int | None) -> bytes:
        """By its length, in chunks, which a header must say, or for HTTP/1.0 by the end of the connection."""
        head = self._cycle.head
        self._is_bodiless = head.method == "HEAD" or status in _BODILESS
        self._unsent = length
        self._is_chunked = length is None and not self._is_bodiless and head.version == "1.1"
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
        if head and not more and len(body) <= JOINED:
            connection = self._cycle.connection
            connection.edge.outbox.add(connection.loop, connection.transport, head + body)
        elif len(body) <= JOINED:
            self._write(head + body)
        else:
            self._write(head)
            self._write(body)
        if not more:
            self._cycle.response_complete = True
            self.notify()
            self._cycle.connection.answered(self._cycle)

    def _write(self, data: bytes) -> None:
        connection = self._cycle.connection
        connection.edge.outbox.flush()
        connection.transport.write(data)

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
