"""A connection: requests as they are read, and answers that leave in their order.

Rules:

1. Answers leave in order. Whatever the edge itself has to say waits until what came before is answered; after that it
   says nothing more and reads nothing more (`_is_deaf`).
2. A request is asked for at the door when its turn comes: at once, or when those before it on the connection are
   answered. Refused, it costs no task; its body is read and dropped while it is short.
3. A client that leaves takes its requests with it: the running one is cancelled, those behind it never begin.
4. What can grow is bounded: the requests in line, and by the reader what is read of each (`maas.edge.reader`).

Flow control and the contract with the server are uvicorn's.
"""

from __future__ import annotations

import socket
from collections import deque
from typing import Any

from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from maas.api.errors import SlowRequest
from maas.api.reply import Reply
from maas.api.routes import find_target
from maas.edge.answer import JOINED, render_head, reply_to
from maas.edge.cycle import Cycle
from maas.edge.edge import NEVER, Edge
from maas.edge.head import Head, Headers
from maas.edge.reader import BODY, HEAD, IDLE, Reader
from maas.errors import Draining, MaasError, QueueFull
from maas.telemetry.metrics import CANCELLED

_DISCARDED = 64 << 10  # bytes of a body nobody wants that are read so that the connection lives
_READ_AHEAD = 32  # requests in line for which more is read
_MOST_AHEAD = 256  # requests in line; one read can bring thousands
_RETRY_SECONDS = 1.0
_PEER_HAS_LEFT = (7, 8)  # TCP_CLOSE, TCP_CLOSE_WAIT


class Connection(HttpToolsProtocol):
    """`deadline` is when the client has to have done what it is expected to do next; `late` how many seconds the current read
    has waited to be looked at; and once it `is_deaf`, nothing more is asked for on it."""

    def __init__(self, edge: Edge, **uvicorn: Any) -> None:
        super().__init__(**uvicorn)
        self.parser = None  # type: ignore[assignment]  # uvicorn's; the reader has its own
        self.edge = edge
        self.deadline = NEVER
        self.late = 0.0
        self.is_deaf = False
        self._reader = Reader(edge, self)
        self._running: Cycle | None = None  # whose turn it is
        self._line: deque[Cycle] = deque()  # behind it
        self._farewell: tuple[MaasError, str, Headers] | None = None
        self._is_admitted = False
        self._is_beginning = False
        self._is_leaving = False  # the last word is said
        self._is_ending = False  # the server is
        self._postponed: list[bytes] = []  # what came when it was not our turn

    # ── the transport ────────────────────────────────────────────────────────────────────────────────────────

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        edge = self.edge
        edge.add(self)
        self.deadline = edge.now + edge.idle_span
        if edge.admitted >= edge.max_connections:
            many = f"the server has {edge.admitted} connections; it takes {edge.max_connections}"
            self.end(QueueFull(many, retry_after=_RETRY_SECONDS))
        else:
            self._is_admitted = True
            edge.admitted += 1

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - why it was lost does not matter
        self.connections.discard(self)
        self.edge.remove(self)
        if self._is_admitted:
            self.edge.admitted -= 1
        self.deadline = NEVER
        self.is_deaf = True
        self._postponed = []
        self._cancel_all()
        self.flow.resume_writing()
        self._reader.close()

    def data_received(self, data: bytes) -> None:
        if self.is_deaf:
            return
        if self._postponed or not self.edge.turns.take(self.loop):
            self._postpone(data)
        else:
            self._reader.read(data)

    def _postpone(self, data: bytes) -> None:
        self._postponed.append(data)
        self.edge.turns.postpone(self)
        if sum(map(len, self._postponed)) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()

    def receive_postponed(self, late: float) -> None:
        data, self._postponed = b"".join(self._postponed), []
        self.late = late
        if not self.is_deaf:
            self._reader.read(data)
        self.late = 0.0
        self.resume_reading()

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
        elif self._reader.phase != IDLE:
            self.end(Draining("the server is shutting down"))
        elif self._running is None:
            self._close()

    # ── requests in their order ──────────────────────────────────────────────────────────────────────────────

    def accept(self, cycle: Cycle) -> None:
        """Its head is whole. Its turn comes when those before it are answered."""
        if self._running is None:
            self._begin(cycle)
        else:
            self._stand_in_line(cycle)

    def accept_known(self, head: Head, body: bytes) -> None:
        """A whole request, whose head needs no second look."""
        self.deadline = NEVER
        cycle = Cycle(self, head, self.late, True, True, 0, False, [body])
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

    def check_line(self) -> None:
        """Raise `QueueFull` where no more requests may stand in line."""
        if len(self._line) >= _MOST_AHEAD:
            raise QueueFull(f"{len(self._line)} requests wait on this connection", retry_after=_RETRY_SECONDS)

    def body_has_grown(self, cycle: Cycle) -> None:
        if cycle.buffered > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        elif cycle.refusal is not None and not cycle.response_complete and cycle.received > _DISCARDED:
            self._answer_refused(cycle)

    def body_is_whole(self, cycle: Cycle) -> None:
        if not cycle.keep_alive:
            self.is_deaf = True  # nothing after this one is asked for
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
        elif cycle.is_fast and not self.flow.write_paused:
            self.edge.lane.enter(cycle)
        else:  # which stops sending where answers are not read
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
        is_last = not self._line and self._reader.phase == IDLE
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
            elif self._reader.phase == IDLE:
                self.deadline = self.edge.now + self.edge.keep_alive_span
        self.resume_reading()

    def resume_reading(self) -> None:
        """Read on, if it was stopped and there is room again. Time that was not given to a client is not counted."""
        if not self.flow.read_paused:
            return
        incoming = self._reader.incoming
        is_full = incoming is not None and incoming.buffered > HIGH_WATER_LIMIT
        if not is_full and len(self._line) < _READ_AHEAD:
            self.flow.resume_reading()
            if self._reader.phase == HEAD:
                self.deadline = self.edge.now + self.edge.header_span
            elif self._reader.phase == BODY:
                self._reader.await_body()

    def _cancel_all(self) -> None:
        running, self._running = self._running, None
        cancelled = [running] if running is not None and not running.is_over else []
        for cycle in (*cancelled, *self._line):
            cycle.abandon()
            self.edge.door.turned_away(cycle.head.target, CANCELLED)
        self._line.clear()
        self._farewell = None

    # ── limits ───────────────────────────────────────────────────────────────────────────────────────────────

    def check_reading(self, now: float) -> None:
        """Called by the sweep when the deadline is over, or reading has stopped."""
        if self._postponed and not self.flow.read_paused:
            return  # the client has done its part
        if self.flow.read_paused:
            # Nothing is asked of the client; and that it has left is not seen by who does not read.
            if self._peer_has_left():
                self.transport.abort()
        elif self.is_deaf or self._reader.phase == IDLE:
            self._close()
        elif self._reader.phase == HEAD:
            self.end(SlowRequest(f"the headers took over {self.edge.options.header_timeout:g} s"))
        elif now < (due := self._reader.body_due()):
            self.deadline = due
        else:
            rate = self.edge.options.body_min_rate
            self.end(SlowRequest(f"the body came with less than {rate} bytes a second"))

    def _peer_has_left(self) -> bool:
        sock = self.transport.get_extra_info("socket")
        state: int = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
        return state in _PEER_HAS_LEFT

    # ── the end ──────────────────────────────────────────────────────────────────────────────────────────────

    def end(self, error: MaasError) -> None:
        """Read no further, and say `error` when all before it is answered. It is the answer of the request that is being
        read, unless that one has another already."""
        if self.is_deaf:
            return
        self.is_deaf = True
        self.deadline = NEVER
        doomed, self._reader.incoming = self._reader.incoming, None
        if doomed is None:
            self._farewell = (error, *self._reader.head_so_far())
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

    def _say_farewell(self, error: MaasError, path: str, headers: Headers) -> None:
        self._farewell = None
        self.write(*reply_to(error, path, headers), keep_alive=False)
        self.edge.door.turned_away(find_target(path), error.code)
        self._linger()

    def _leave(self) -> None:
        """The last answer is out. A client that is still sending hears it before it is cut off."""
        self.is_deaf = True
        self._line.clear()  # who reads `Connection: close` knows that nothing behind it is answered
        if self._reader.phase == IDLE:
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
