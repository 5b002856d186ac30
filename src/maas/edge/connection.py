"""A connection: its bytes become requests within limits, its answers leave in the order of the requests.

Rules:

1. Answers leave in order. Whatever the edge itself has to say waits until what came before is answered; after that it
   says nothing more and reads nothing more (`_is_deaf`).
2. A request is asked for at the door when its turn comes: at once, or when those before it on the connection are
   answered. Refused, it costs no task; its body is read and dropped while it is short.
3. A client that leaves takes its requests with it: the running one is cancelled, those behind it never begin.
4. What can grow is bounded: the head, the body and its framing, the requests in line, the time for each.

The parser is llhttp by way of httptools; flow control and the contract with the server are uvicorn's.
"""

from __future__ import annotations

import socket
from collections import deque
from typing import Any

import httptools
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from maas.api.errors import HeadersTooLarge, SlowRequest, TargetTooLong
from maas.api.exchange import Reply
from maas.api.routes import find_target
from maas.edge.answer import JOINED, render_head, reply_to
from maas.edge.cycle import Cycle
from maas.edge.edge import NEVER, Edge
from maas.edge.head import WATCHED, Head, Headers, asked_of, decode_path, read_framing, size_of, split_target
from maas.errors import Draining, InvalidRequest, MaasError, QueueFull, TooLarge

_DISCARDED = 64 << 10  # bytes of a body nobody wants that are read so that the connection lives
_READ_AHEAD = 32  # requests in line for which more is read
_MOST_AHEAD = 256  # requests in line; one read can bring thousands
_RETRY_SECONDS = 1.0
_CANCELLED = "cancelled"  # as an outcome, beside the codes of errors
_IDLE, _HEAD, _BODY = range(3)  # what of a request is being read
_PEER_HAS_LEFT = (7, 8)  # TCP_CLOSE, TCP_CLOSE_WAIT


class _Deaf(Exception):
    """Ends the parser's work on bytes that nobody will read."""


class Connection(HttpToolsProtocol):
    """`deadline` is when the client has to have done what it is expected to do next."""

    def __init__(self, edge: Edge, **uvicorn: Any) -> None:
        super().__init__(**uvicorn)
        self.edge = edge
        self.deadline = NEVER
        self._running: Cycle | None = None  # whose turn it is
        self._line: deque[Cycle] = deque()  # behind it
        self._incoming: Cycle | None = None  # whose body is being read
        self._single: Cycle | None = None  # with which the current read began
        self._farewell: tuple[MaasError, str, Headers] | None = None
        self._phase = _IDLE
        self._is_admitted = False
        self._is_beginning = False
        self._is_deaf = False
        self._is_leaving = False  # the last word is said
        self._is_ending = False  # the server is
        self._is_fresh = True  # the current read began with a request
        self._read = 0  # bytes of the current read
        self._received = 0  # bytes of the head, then of the body with its framing, in reads that are done
        self._body_since = 0.0
        self._watched: Headers = []
        self._postponed: list[bytes] = []  # what came when it was not our turn
        self._late = 0.0  # seconds that the current read has waited for it

    # ── the transport ────────────────────────────────────────────────────────────────────────────────────────

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        edge = self.edge
        edge.add(self)
        self.deadline = edge.now + edge.idle_span
        if edge.admitted >= edge.max_connections:
            many = f"the server has {edge.admitted} connections; it takes {edge.max_connections}"
            self._end(QueueFull(many, retry_after=_RETRY_SECONDS))
        else:
            self._is_admitted = True
            edge.admitted += 1

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - why it was lost does not matter
        self.connections.discard(self)
        self.edge.remove(self)
        if self._is_admitted:
            self.edge.admitted -= 1
        self.deadline = NEVER
        self._is_deaf = True
        self._postponed = []
        self._cancel_all()
        self.flow.resume_writing()
        self.parser = None  # type: ignore[assignment]  # as uvicorn does: it holds us

    def data_received(self, data: bytes) -> None:
        if self._is_deaf:
            return
        if self._postponed or not self.edge.turns.take(self.loop):
            self._postpone(data)
        else:
            self._receive(data)

    def _postpone(self, data: bytes) -> None:
        self._postponed.append(data)
        self.edge.turns.postpone(self)
        if sum(map(len, self._postponed)) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()

    def receive_postponed(self, late: float) -> None:
        data, self._postponed = b"".join(self._postponed), []
        self._late = late
        if not self._is_deaf:
            self._receive(data)
        self._late = 0.0
        self.resume_reading()

    def _receive(self, data: bytes) -> None:
        if self._phase == _IDLE and (known := self.edge.heads.find(data)) is not None:
            self._accept_known(*known)
            return
        self._single = None
        self._read = len(data)
        self._is_fresh = self._phase == _IDLE
        skipped = self._parse(data)
        if skipped is not None:
            self._decline_upgrade(data[skipped:])
        elif self._phase != _IDLE:
            self._received += self._read
            self._check_size()
        elif self._single is not None and self._single.is_fast and self._single.keep_alive:
            self.edge.heads.remember(self._single.head, data)

    def _parse(self, data: bytes) -> int | None:
        """Where the parser left off because the request asked for an upgrade; None where it did not."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as stop:
            offset: int = stop.args[0]
            return offset
        except httptools.HttpParserError as problem:
            self._stop(problem)
        return None

    def pause_writing(self) -> None:
        super().pause_writing()
        self.edge.unsent.watch(self.transport, self.edge.now)

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self.transport.is_closing():
            self.edge.unsent.forget(self.transport)

    def shutdown(self) -> None:
        """The server ends: who waits for an answer gets it, who is being listened to is told, the others are let go."""
        self._is_ending = True
        if self._postponed:
            self.edge.turns.forget(self)
            self.receive_postponed(0.0)
        if self._is_leaving:
            self._close()
        elif self._phase != _IDLE:
            self._end(Draining("the server is shutting down"))
        elif self._running is None:
            self._close()

    # ── the parser ───────────────────────────────────────────────────────────────────────────────────────────

    def on_message_begin(self) -> None:
        if self._is_deaf:
            raise _Deaf
        if self._phase == _BODY:
            return  # the body of a request whose upgrade was declined goes on
        self._phase = _HEAD
        self.deadline = self.edge.now + self.edge.header_span
        self._received = 0 if self._is_fresh else -self._read
        self.url = b""
        self.headers = []
        self._watched = []

    def on_url(self, url: bytes) -> None:
        self.url += url
        if len(self.url) > self.edge.options.url_bytes:
            raise TargetTooLong(
                f"the target has over {self.edge.options.url_bytes} bytes, which is the limit"
            )

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._phase != _HEAD:
            return  # trailers are read and dropped: nothing may add to the headers once they were judged
        name = name.lower()
        if name in WATCHED:
            self._watched.append((name, value))
        self.headers.append((name, value))
        if len(self.headers) > self.edge.header_count:
            raise HeadersTooLarge(f"the request has over {self.edge.header_count} headers")

    def on_headers_complete(self) -> None:
        if self._phase == _BODY:
            return
        if self._read + max(self._received, 0) > self.edge.options.header_bytes:
            self._check_head(
                size_of(self.url, self.headers)
            )  # what was read so far may be more than the head
        version = self.parser.get_http_version()
        framing = read_framing(version, self._watched)
        target = self.edge.targets.find(self.url)
        path = decode_path(split_target(self.url)[0]) if target is None else target.path
        if self.edge.callers is not None:
            self.edge.callers.check(self._watched)
        if framing.length and framing.length > self.edge.body_bytes:
            raise TooLarge(f"the body has {framing.length} bytes; the limit is {self.edge.body_bytes}")
        if len(self._line) >= _MOST_AHEAD:
            raise QueueFull(f"{len(self._line)} requests wait on this connection", retry_after=_RETRY_SECONDS)
        method = self.parser.get_method().decode("ascii")
        asked = None if target is None else asked_of(self.headers)
        head = Head(method, version, self.url, path, self.headers, framing, target, asked)
        is_fast = self.edge.lane.takes(head)
        keep_alive = version == "1.1" and self.parser.should_keep_alive()
        cycle = Cycle(self, head, self._late, is_fast, keep_alive, framing.length)
        cycle.waits_for_continue = framing.expects_continue
        self._accept(cycle)

    def on_body(self, body: bytes) -> None:
        cycle = self._incoming
        if cycle is None:
            return
        cycle.add(body)
        if cycle.buffered > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        elif cycle.refusal is not None and not cycle.response_complete and cycle.received > _DISCARDED:
            self._answer_refused(cycle)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade() and self._incoming is not None and self._incoming.remaining != 0:
            return  # llhttp skips the body of an upgrade; here it is still to come
        cycle, self._incoming = self._incoming, None
        self._phase = _IDLE
        self._is_fresh = False
        self._received = 0
        self.deadline = NEVER
        if cycle is None:
            return
        cycle.end_body()
        if not cycle.keep_alive:
            self._is_deaf = True  # nothing after this one is asked for
        if cycle is not self._running:
            return
        if cycle.response_complete:
            if cycle.keep_alive:
                self._next()
        elif cycle.refusal is not None:
            self._answer_refused(cycle)
        elif cycle.is_fast:
            self._begin(cycle)
            if self._running is None:
                self._next()

    # ── requests in their order ──────────────────────────────────────────────────────────────────────────────

    def _accept(self, cycle: Cycle) -> None:
        """The head is whole. The request's turn comes when those before it are answered."""
        self._single = cycle if self._is_fresh else None
        self._incoming = cycle
        self._phase = _BODY
        self._await_body()
        if self._running is None:
            self._begin(cycle)
        else:
            self._stand_in_line(cycle)

    def _accept_known(self, head: Head, body: bytes) -> None:
        """A whole request, whose head needs no second look."""
        self.deadline = NEVER
        cycle = Cycle(self, head, self._late, True, True, 0, False, [body])
        if self._running is not None:
            self._stand_in_line(cycle)
            return
        self._begin(cycle)
        if self._running is None:
            self._next()

    def _stand_in_line(self, cycle: Cycle) -> None:
        self._line.append(cycle)
        if len(self._line) >= _READ_AHEAD:
            self.flow.pause_reading()

    def _begin(self, cycle: Cycle) -> None:
        """Its turn has come; for one of the lane it comes when the body is whole. Answered at once, it is not running any
        more, and whoever has begun it goes on with the next."""
        self._running = cycle
        if cycle.is_fast and cycle.more_body:
            return
        self._is_beginning = True
        refusal = self._refusal_of(cycle)
        if refusal is not None:
            self._refuse(cycle, refusal)
        elif (
            cycle.is_fast and not self.flow.write_paused
        ):  # else it is served no further than it reads its answers
            self.edge.lane.enter(cycle)
        else:
            cycle.start(self.app, self.tasks)
        self._is_beginning = False

    def _refuse(self, cycle: Cycle, refusal: MaasError) -> None:
        cycle.refusal = refusal
        cycle.discard()
        # Else when the body is there: chunks show only then how long it is, and who is told to go should have sent it.
        is_due = cycle.remaining is not None and not (self.edge.is_leaving and cycle.more_body)
        if is_due or cycle.waits_for_continue or cycle.received > _DISCARDED:
            self._answer_refused(cycle)

    def _refusal_of(self, cycle: Cycle) -> MaasError | None:
        edge, head = self.edge, cycle.head
        if head.target is None:
            return None
        closed = edge.door.closed(len(self.tasks) + edge.lane.in_flight)
        if closed is not None or cycle.is_fast:  # the lane asks the rest itself
            return closed
        return edge.door.refusal(head.target, head.asked, cycle.late)

    def _answer_refused(self, cycle: Cycle) -> None:
        assert cycle.refusal is not None
        is_short = cycle.received + (cycle.remaining or 0) <= _DISCARDED
        cycle.keep_alive = cycle.keep_alive and is_short
        head = cycle.head
        cycle.reply(*reply_to(cycle.refusal, head.path, head.headers))
        self.edge.door.turned_away(head.target, cycle.refusal.code)

    def may_live_after(self, cycle: Cycle) -> bool:
        """Whether the connection can go on once `cycle` is answered."""
        if cycle.more_body:
            # What is left is read and dropped, if it is short, and if the client has not been left to guess whether to
            # send it at all.
            is_short = cycle.remaining is not None and cycle.remaining <= _DISCARDED
            return is_short and not cycle.waits_for_continue and not self.edge.is_leaving
        is_last = not self._line and self._phase == _IDLE
        return not (self.edge.is_leaving and is_last)  # what was sent behind it is answered first

    def answered(self, cycle: Cycle) -> None:
        """The whole answer is out."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        if not cycle.keep_alive:
            self._leave()
        elif cycle.more_body:
            cycle.discard()
            self.resume_reading()
        else:
            self._running = None
            if not self._is_beginning:
                self._next()

    def _next(self) -> None:
        """The turn is free: for the next in line, for what the edge has to say at the end, or for what comes."""
        self._running = None
        while self._running is None and self._line:
            self._begin(self._line.popleft())
        if self._running is None and not self._is_leaving:
            if self._farewell is not None:
                self._say_farewell(*self._farewell)
            elif self._is_ending:
                self._close()
            elif self._phase == _IDLE:
                self.deadline = self.edge.now + self.edge.keep_alive_span
        self.resume_reading()

    def resume_reading(self) -> None:
        """Read on, if it was stopped and there is room again. Time that was not given to a client is not counted."""
        if not self.flow.read_paused:
            return
        is_full = self._incoming is not None and self._incoming.buffered > HIGH_WATER_LIMIT
        if not is_full and len(self._line) < _READ_AHEAD:
            self.flow.resume_reading()
            if self._phase == _HEAD:
                self.deadline = self.edge.now + self.edge.header_span
            elif self._phase == _BODY:
                self._await_body()

    def _await_body(self) -> None:
        self._received = -self._read
        self._body_since = self.edge.now
        self.deadline = self.edge.now + self.edge.body_span

    def _cancel_all(self) -> None:
        running, self._running = self._running, None
        cancelled = [running] if running is not None and not running.is_over else []
        for cycle in (*cancelled, *self._line):
            cycle.abandon()
            self.edge.door.turned_away(cycle.head.target, _CANCELLED)
        self._line.clear()
        self._incoming = self._farewell = None

    # ── limits ───────────────────────────────────────────────────────────────────────────────────────────────

    def _check_head(self, size: int) -> None:
        if size > self.edge.options.header_bytes:
            raise HeadersTooLarge(
                f"the request's head has {size} bytes; the limit is {self.edge.options.header_bytes}"
            )

    def _check_size(self) -> None:
        """Of what is not whole yet. A body of known length was judged by that; in chunks their framing counts too."""
        try:
            if self._phase == _HEAD:
                self._check_head(self._received)
            elif self._incoming is not None and self._incoming.remaining is None:
                self._check_chunks()
        except MaasError as error:
            self._end(error)

    def _check_chunks(self) -> None:
        if self._received > self.edge.body_bytes:
            raise TooLarge(
                f"the body has over {self.edge.body_bytes} bytes in its chunks, which is the limit"
            )

    def check_reading(self, now: float) -> None:
        """Called by the sweep when the deadline is over, or reading has stopped."""
        if self._postponed and not self.flow.read_paused:
            return  # the client has done its part
        if self.flow.read_paused:
            # Nothing is asked of the client; and that it has left is not seen by who does not read.
            if self._peer_has_left():
                self.transport.abort()
        elif self._is_deaf or self._phase == _IDLE:
            self._close()
        elif self._phase == _HEAD:
            self._end(SlowRequest(f"the headers took over {self.edge.options.header_timeout:g} s"))
        else:
            self._check_pace(now)

    def _check_pace(self, now: float) -> None:
        rate = self.edge.options.body_min_rate
        due = self._body_since + self.edge.body_span + max(self._received, 0) / rate
        if now < due:
            self.deadline = due
        else:
            self._end(SlowRequest(f"the body came with less than {rate} bytes a second"))

    def _peer_has_left(self) -> bool:
        sock = self.transport.get_extra_info("socket")
        state: int = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
        return state in _PEER_HAS_LEFT

    # ── the end ──────────────────────────────────────────────────────────────────────────────────────────────

    def _stop(self, problem: httptools.HttpParserError) -> None:
        """The parser has stopped: by one of our own errors, or because what came is no HTTP."""
        cause = problem.__context__
        if self._is_deaf or isinstance(cause, _Deaf):
            return
        if isinstance(cause, MaasError):
            self._end(cause)
            return
        if cause is not None:
            self.logger.error("the edge met a bug", exc_info=cause)
        self._end(InvalidRequest(f"the request cannot be read: {problem}"))

    def _decline_upgrade(self, rest: bytes) -> None:
        """Upgrades are ignored, as RFC 9110 permits. llhttp has skipped the body of the request, so another parser,
        which is told how that is framed but nothing of an upgrade, goes on where it stopped."""
        cycle = self._incoming
        if cycle is not None:
            framing = b"transfer-encoding: chunked" if cycle.remaining is None else b"content-length: %d"
            framing = framing % cycle.remaining if cycle.remaining is not None else framing
            self.parser = httptools.HttpRequestParser(self)
            self.parser.feed_data(b"POST / HTTP/1.1\r\n%b\r\n\r\n" % framing)
        if rest:
            self._receive(rest)

    def _end(self, error: MaasError) -> None:
        """Read no further, and say `error` when all before it is answered. It is the answer of the request that is being
        read, unless that one has another already."""
        if self._is_deaf:
            return
        self._is_deaf = True
        self.deadline = NEVER
        doomed, self._incoming = self._incoming, None
        if doomed is None:
            self._farewell = (error, *self._head_so_far())
        elif doomed.response_started:
            self._cut_off(doomed)
            return
        else:
            doomed.abandon()
            self._farewell = (error, doomed.head.path, doomed.head.headers)
            if doomed is self._running:
                self._running = None
            else:
                self._line.remove(doomed)
        if self._running is None:
            self._next()

    def _cut_off(self, doomed: Cycle) -> None:
        """Its body fails when its answer is on its way, or out."""
        if doomed.response_complete:
            self._leave()
        else:
            doomed.abandon()
            self._close()

    def _head_so_far(self) -> tuple[str, Headers]:
        if self._phase != _HEAD:
            return "", []
        try:
            return decode_path(split_target(self.url)[0]), self.headers
        except InvalidRequest:
            return "", self.headers

    def _say_farewell(self, error: MaasError, path: str, headers: Headers) -> None:
        self._farewell = None
        self.write(*reply_to(error, path, headers), keep_alive=False)
        self.edge.door.turned_away(find_target(path), error.code)
        self._linger()

    def _leave(self) -> None:
        """The last answer is out. A client that is still sending hears it before it is cut off."""
        self._is_deaf = True
        self._line.clear()  # who reads `Connection: close` knows that nothing behind it is answered
        if self._phase == _IDLE:
            self._close()
        else:
            self._linger()

    def _linger(self) -> None:
        """Half-close, and go on reading for a while: closing at once would reset the connection under the answer."""
        self._is_leaving = True
        may_stay = self._is_admitted or self.edge.has_room_for_strangers()
        if not may_stay or self.transport.is_closing() or not self.transport.can_write_eof():
            self._close()
            return
        self.edge.outbox.flush()
        self.transport.write_eof()
        self.flow.resume_reading()
        self.deadline = self.edge.now + (self.edge.last_span if self._is_ending else self.edge.linger_span)

    def _close(self) -> None:
        self._is_leaving = True
        self.deadline = NEVER
        self.edge.outbox.flush()
        self.transport.close()
        if self.transport.get_write_buffer_size():
            self.edge.unsent.watch(self.transport, self.edge.now)

    def default_headers(self) -> bytes:
        return self.edge.render_default_headers(self.server_state.default_headers)

    def write(self, reply: Reply, request_id: bytes, *, keep_alive: bool, has_body: bool = True) -> None:
        """A whole answer. That to HEAD has no body, but its length."""
        head = render_head(reply, request_id, default_headers=self.default_headers(), keep_alive=keep_alive)
        if has_body and len(reply.content) <= JOINED:
            self.edge.outbox.add(self.loop, self.transport, head + reply.content)
            return
        self.edge.outbox.flush()
        self.transport.write(head)
        if has_body:
            self.transport.write(reply.content)
