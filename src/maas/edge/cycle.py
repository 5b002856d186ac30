"""One request and its answer, in the order of its connection."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec
from starlette.types import ASGIApp

from maas.api.reply import Reply
from maas.edge.asgi_call import AsgiCall
from maas.edge.head import Head
from maas.errors import MaasError

if TYPE_CHECKING:
    from maas.edge.connection import Connection
    from maas.edge.lane import Passage


class Cycle(msgspec.Struct, eq=False):
    """Bytes come in by `add` and `end_body`. The answer leaves whole, by `reply`, or as the application sends it; the connection
    is told when it is complete. Once `disconnected`, what is still said goes nowhere."""

    connection: Connection
    head: Head
    late: float  # seconds that it had waited when it was first looked at
    is_fast: bool  # it is for the lane, when its body is whole
    keep_alive: bool
    remaining: int | None  # bytes of the body that are still to come; None while nobody knows
    more_body: bool = True
    parts: list[bytes] = []  # of the body, that nobody has taken yet
    buffered: int = 0  # bytes in them
    received: int = 0  # bytes of the body
    waits_for_continue: bool = False
    disconnected: bool = False
    response_started: bool = False
    response_complete: bool = False
    refusal: MaasError | None = None
    passage: Passage | None = None  # by which of the two
    call: AsgiCall | None = None  # it is being answered

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
            self.parts.append(body)
            self.buffered += len(body)
            self._notify()

    def end_body(self) -> None:
        self.more_body = False
        self.remaining = 0
        self._notify()

    def start(self, app: ASGIApp, tasks: set[asyncio.Task[None]]) -> None:
        """Be answered by the application."""
        self.call = AsgiCall(self)
        self.call.start(app, tasks)

    def take(self) -> bytes:
        """What of the body is there."""
        parts, self.parts = self.parts, []
        self.buffered = 0
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def discard(self) -> None:
        """Nobody will take the body."""
        self.parts = []
        self.buffered = 0

    def abandon(self) -> None:
        """Nobody waits for the answer: whoever is at it is told."""
        self.disconnected = True
        self.discard()
        call, self.call = self.call, None
        if call is not None:
            call.cancel()
        if self.passage is not None:
            self.passage.abandon()

    def reply(self, reply: Reply, request_id: bytes) -> None:
        """The whole answer, unless one has begun or nobody waits for it."""
        if self.response_started or self.disconnected:
            return
        connection = self.connection
        self.response_started = self.response_complete = True
        self.passage = None  # which knows us: otherwise only the garbage collector would find the two of them
        self.keep_alive = self.keep_alive and connection.may_live_after(self)
        has_body = self.head.method != "HEAD"
        connection.write(reply, request_id, keep_alive=self.keep_alive, has_body=has_body)
        connection.answered(self)

    def _notify(self) -> None:
        if self.call is not None:
            self.call.notify()
